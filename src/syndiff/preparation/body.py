"""The body in a CT, without the couch, the head rest or the sheet that it lies on.

A couch is thin (a shell of some mm, filled with foam that looks like air) and the body is thick.
What is thinner than `THIN_MM` is cut away, thick pieces that remain are the body and its limbs,
and these get back what the cut took from them. A flat couch on which the skin lies is found by the
rows of voxels that it fills, and ends the body there. The search works on a coarse copy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.preparation.intensity import BODY_HU, HU_WINDOW, without_holes

AIR_HU = HU_WINDOW[0]
COARSE_MM = 3.0
THIN_MM = 8.0  # couches, sheets and head rests are thinner
LIMB_MM = 15.0  # a piece is the body's if it is twice as thick as this somewhere
FLAT_SHARE = 0.25  # of the body's width a couch's row must fill outside the body
FOAM_HU = -850.0  # foam, cloth and thin shells lie above, air below
LEAST_ML = 5.0  # smaller things outside the body are noise
Mask = NDArray[np.bool_]
Array = NDArray[np.float32]


def body_mask(hu: Array, spacing_mm: tuple[float, float, float]) -> Mask:
    """The body with everything inside it.

    Args:
        hu: (x, y, z) a CT in HU, RAS+.
        spacing_mm: voxel size along x, y, z in mm.

    Returns:
        bool, the shape of `hu`; all False where nothing is as thick as a limb.
    """
    step = [max(1, int(COARSE_MM / mm)) for mm in spacing_mm]
    coarse = hu[:: step[0], :: step[1], :: step[2]]
    coarse_mm = tuple(s * mm for s, mm in zip(step, spacing_mm, strict=True))
    sigma = [0.5 if n >= 16 else 0.0 for n in coarse.shape]
    tissue = ndimage.gaussian_filter(coarse, sigma) > BODY_HU
    tissue[:] = without_holes(tissue) if tissue.any() else tissue
    thick = _thick_pieces(tissue, coarse_mm)
    if not thick.any():
        return np.zeros(hu.shape, bool)
    ends = np.flatnonzero(thick.any(axis=(1, 2)))
    thick &= _above_couch(tissue & ~thick, thick, int(ends[-1] - ends[0]) + 1)
    near = _upsampled(ndimage.binary_dilation(thick), step, hu.shape)
    fine = (hu > BODY_HU) & near
    fine &= _above_couch((hu > BODY_HU) & ~near, fine, int(ends[-1] - ends[0]) * step[0] + 1)
    return without_holes(fine | _upsampled(ndimage.binary_erosion(thick), step, hu.shape))


def _thick_pieces(tissue: Mask, spacing_mm: tuple[float, ...]) -> Mask:
    """What remains of tissue without its thin parts: the body, and limbs beside it."""
    padded = np.pad(tissue, 1, mode="edge")  # the body goes on beyond the volume
    depth = ndimage.distance_transform_edt(padded, spacing_mm)[1:-1, 1:-1, 1:-1]
    core = depth > THIN_MM / 2
    pieces, count = ndimage.label(core)
    if count == 0:
        return np.zeros(tissue.shape, bool)
    deepest = ndimage.maximum(depth, pieces, np.arange(1, count + 1))
    needed = min(LIMB_MM, float(np.max(deepest)))
    kept = np.isin(pieces, 1 + np.flatnonzero(np.asarray(deepest) >= needed))
    reach = ndimage.distance_transform_edt(~kept, spacing_mm) <= THIN_MM / 2 + max(spacing_mm[:2])
    return np.asarray(reach & tissue)


def _above_couch(others: Mask, body: Mask, width: int) -> Mask:
    """(1, ny, 1): the rows above a flat couch; all of them where there is none.

    Args:
        others: (x, y, z) what is as dense as tissue and not the body.
        body: (x, y, z) the body so far.
        width: the body's width in voxels.
    """
    rows = np.flatnonzero(others.sum(axis=(0, 2)) > FLAT_SHARE * width * others.shape[2])
    height = body.sum(axis=(0, 2))
    middle = int(np.average(np.arange(len(height)), weights=np.maximum(height, 1e-9)))
    under = rows[rows < middle]
    above = np.ones((1, body.shape[1], 1), bool)
    if len(under):
        above[:, : int(under[-1]) + 1] = False
    return above


def _upsampled(mask: Mask, step: list[int], shape: tuple[int, ...]) -> Mask:
    """A coarse mask on the fine grid; sample i stands for the voxels around i · step."""
    index = [
        np.minimum((np.arange(n) + s // 2) // s, m - 1)
        for n, s, m in zip(shape, step, mask.shape, strict=True)
    ]
    return np.asarray(mask[np.ix_(*index)])


def without_couch(hu: Array, spacing_mm: tuple[float, float, float]) -> tuple[Array, str]:
    """A CT in which everything outside the body is air, and a sentence on what was removed.

    Args:
        hu: (x, y, z) a CT in HU, RAS+.
        spacing_mm: voxel size along x, y, z in mm.

    Returns:
        `hu` with -1024 outside the body, and the sentence. `hu` itself and an empty sentence where
        nothing but air lies outside the body, and where there is nothing like a body.
    """
    body = body_mask(hu, spacing_mm)
    if not body.any():
        return hu, ""
    sigma = [0.7 if n >= 16 else 0.0 for n in hu.shape]
    apart = ~ndimage.binary_dilation(body, iterations=2)  # skin shares its voxels with air
    seen = (ndimage.gaussian_filter(hu, sigma, truncate=3.0) > FOAM_HU) & apart
    outside = int(np.count_nonzero(seen)) * float(np.prod(spacing_mm)) / 1000
    if outside < LEAST_ML:
        return hu, ""
    words = (
        f"{outside:.0f} ml outside the body (couch, head rest) and all air were set to -1024 HU"
    )
    return np.where(body, hu, np.float32(AIR_HU)), words


def stored_hu(hu: Array, source_body: Mask, spacing_mm: tuple[float, float, float]) -> Array:
    """A synthetic CT as a planning system takes it: whole HU, and -1024 outside the body.

    The body is what is one in the source or in the result: neither an outline that the source
    shows too small nor one that the translator drew too large is cut, only what is air in both.

    Args:
        hu: (x, y, z) the translation in HU.
        source_body: (x, y, z) the body in the source.
        spacing_mm: voxel size along x, y, z in mm.
    """
    body = source_body | body_mask(hu, spacing_mm)
    whole = np.maximum(np.rint(hu), np.float32(AIR_HU))
    return np.where(body, whole, np.float32(AIR_HU)).astype(np.float32)
