"""The contrast of a head scan, T1w, T2w or FLAIR, read from the brightness of fluid and cortex.

Fluid is bright in T2w and dark in T1w and FLAIR. The cortex, which lies next to fluid, is darker
than white matter in T1w and brighter in FLAIR. Both hold for whole and for skull-stripped heads of
any scanner, where a histogram differs more between scanners than between contrasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

GRID_MM = 1.8
RIM_MM = 15.0  # depth below the surface at which scalp and skull have ended
UPPER_MM = 75.0  # height of the part below the top that is looked at: no orbits, no skull base
DARK, BRIGHT = 0.65, 1.45  # fluid is darker or brighter than so many times the median
NEXT_MM, FAR_MM = (2.2, 5.0), 9.0  # distances from fluid of cortex and of white matter
SURE_SKEW, SURE_RATIO = 0.08, 0.02  # smaller differences tell nothing
LEAST_FLUID = 0.005  # share of the volume looked at


def head_contrast(
    array: NDArray[Any], mask: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> str:
    """The contrast that a scan of a head seems to have.

    Args:
        array: (x, y, z) acquired values, z ascending to superior.
        mask: (x, y, z) the head.
        spacing_mm: of the voxels, along x, y and z.

    Returns:
        "T1", "T2" or "FLAIR"; "none" where there is neither dark nor bright fluid, as in CT; ""
        where it cannot be told.
    """
    values, head, spacing = _coarse(np.asarray(array, np.float32), mask, spacing_mm)
    inner = _upper_inner(head, spacing)
    if np.count_nonzero(inner) < 200:
        return ""
    low, median, high = np.quantile(values[inner], (0.02, 0.5, 0.98))
    dark, bright = inner & (values < DARK * median), inner & (values > BRIGHT * median)
    if np.count_nonzero(dark | bright) < LEAST_FLUID * np.count_nonzero(inner):
        return "none"
    skew = (high + low - 2 * median) / max(high - low, 1e-6)
    if abs(skew) < SURE_SKEW:
        return ""
    if skew > 0:  # a thick bright scalp, too, may reach into the volume looked at
        return "T2" if np.count_nonzero(bright) > np.count_nonzero(dark) else ""
    away = ndimage.distance_transform_edt(~dark, sampling=spacing)
    tissue = inner & ~dark & ~bright
    cortex = values[tissue & (away > NEXT_MM[0]) & (away < NEXT_MM[1])]
    white = values[tissue & (away > FAR_MM)]
    if not (len(cortex) and len(white)):
        return ""
    ratio = float(np.median(cortex) / np.median(white))
    if abs(ratio - 1) < SURE_RATIO:
        return ""
    return "T1" if ratio < 1 else "FLAIR"


def _coarse(
    values: NDArray[np.float32], mask: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[float, ...]]:
    """Values and mask as means of blocks of about 1.8 mm, with the blocks' size in mm."""
    blocks = [
        min(max(1, round(GRID_MM / mm)), n) for mm, n in zip(spacing_mm, values.shape, strict=True)
    ]
    kept = tuple(slice(n // b * b) for n, b in zip(values.shape, blocks, strict=True))
    shape = [part for n, b in zip(values.shape, blocks, strict=True) for part in (n // b, b)]
    coarse, inside = (
        image[kept].reshape(shape).mean((1, 3, 5), dtype=np.float32)
        for image in (values, mask.astype(np.float32))
    )
    spacing = tuple(mm * b for mm, b in zip(spacing_mm, blocks, strict=True))
    return coarse, inside > 0.9, spacing


def _upper_inner(head: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.bool_]:
    """The upper part of a head without scalp and skull (or without the rim of a brain)."""
    reached = np.flatnonzero(head.any((0, 1)))
    if not len(reached):
        return np.zeros_like(head)
    filled = np.stack([ndimage.binary_fill_holes(z) for z in np.moveaxis(head, 2, 0)], axis=2)
    wide = np.pad(np.pad(filled, ((1, 1), (1, 1), (0, 0))), ((0, 0), (0, 0), (1, 1)), mode="edge")
    depth = ndimage.distance_transform_edt(wide, sampling=spacing)[1:-1, 1:-1, 1:-1]
    depth[:, :, : max(0, int(reached[-1] - UPPER_MM / spacing[2]))] = 0
    return np.asarray(depth > RIM_MM)
