"""A scan's fingerprint: a few features that are similar in all scans of one modality.

The features show whether a new scan is like the training scans of a translator. They differ for
another contrast, a CT, a skull-stripped head, a label map or another part of the body. All
features except the counts of raw values are measured on a grid of about 4 mm, which makes them
nearly independent of voxel size and noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

GRID_MM = 4.0
FEWEST_SLICES = 16  # along an axis, for its ends to be cropped
SAMPLES = 1 << 16  # raw values sampled for the counts
RIM_MM, CENTRE_MM = 12.0, 25.0  # depths below the surface: scalp and skull end, centre begins
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Feature:
    """One feature of a fingerprint.

    Attributes:
        name: the feature's name in files.
        spread: the usual standard deviation between scans of one modality, which is assumed for
            small cohorts.
        words: what the feature describes, for messages.
    """

    name: str
    spread: float
    words: str


FEATURES = (
    Feature("q10", 0.15, "its histogram"),  # of dark tissue; it depends on the voxels' size
    *(Feature(f"q{round(100 * q)}", 0.08, "its histogram") for q in QUANTILES[1:]),
    Feature("entropy", 0.15, "its histogram"),
    Feature("scalp", 0.15, "the brightness of its rim"),
    Feature("skull", 0.12, "the darkness of its rim"),
    Feature("outer", 0.08, "the brightness of its outer parts"),
    Feature("centre", 0.08, "the brightness of its centre"),
    Feature("brain_to_scalp", 0.15, "the contrast of centre against rim"),
    Feature("centre_spread", 0.08, "the contrast within its centre"),
    Feature("edges", 0.15, "its edges"),
    Feature("zeros_inside", 0.05, "voxels of exactly 0 inside"),
    Feature("zeros_outside", 0.25, "a background of exactly 0"),
    Feature("negatives", 0.05, "negative values"),
    Feature("distinct", 0.4, "the number of different values"),
    Feature("width", 0.1, "its width"),
    Feature("length", 0.1, "its length"),
    Feature("height", 0.25, "its height"),
    Feature("fill", 0.08, "its shape"),
)
NAMES = tuple(feature.name for feature in FEATURES)


def fingerprint(
    array: NDArray[Any], mask: NDArray[np.bool_], spacing_mm: Sequence[float], unit: str
) -> list[float]:
    """The values of `FEATURES` (features,), in their order; all finite.

    Args:
        array: (x, y, z) acquired values; HU for CT.
        mask: (x, y, z) the tissue; not empty.
        spacing_mm: of the voxels, along x, y and z.
        unit: "HU" or "a.u.".
    """
    values, mask = np.asarray(array, np.float32), _without_rim(mask)
    if unit == "HU":
        values = (np.maximum(values, np.float32(-1024)) + np.float32(1024)) / np.float32(1024)
    else:
        values = values / np.float32(max(float(values[mask].mean()), 1e-12))
    coarse, head, spacing = _coarse(values, mask, spacing_mm)
    found = _tissue(coarse, head) | _shells(coarse, head, spacing)
    found |= _counts(np.asarray(array), mask) | _extent(head, spacing)
    return [round(float(np.nan_to_num(found[name])), 4) for name in NAMES]


def _without_rim(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without its outermost voxels, which are partly air."""
    inner = mask
    for axis, length in enumerate(mask.shape):
        if length >= FEWEST_SLICES:  # else the slices are thick and few, and all of them stay
            line = np.moveaxis(np.ones((3, 1, 1), bool), 0, axis)
            inner = inner & ndimage.binary_erosion(mask, line, border_value=1)
    return inner if inner.any() else mask


def _coarse(
    values: NDArray[np.float32], mask: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[float, ...]]:
    """Values and mask on a grid of blocks of about 4 mm.

    Returns:
        Mean of each block's values inside the mask, 0 without any; the blocks of which more than
        half is inside the mask; the blocks' sides in mm. The axes are those of `values`.
    """
    blocks = [
        min(max(round(GRID_MM / mm), 1), n) for mm, n in zip(spacing_mm, values.shape, strict=True)
    ]
    inside = _block_mean(mask.astype(np.float32), blocks)
    weighted = _block_mean(np.where(mask, values, 0), blocks)
    head = inside > 0.5
    if not head.any():  # a thin mask: every block that it touches
        head = inside > 0
    # The mean is that of the mask alone, so that a block on the rim is as bright as its tissue.
    coarse = np.asarray(weighted / np.where(inside > 0, inside, 1), np.float32)
    return coarse, head, tuple(mm * n for mm, n in zip(spacing_mm, blocks, strict=True))


def _block_mean(values: NDArray[np.float32], blocks: Sequence[int]) -> NDArray[np.float32]:
    """Mean of each block; voxels at the far ends that do not fill a block are left out."""
    for axis, size in enumerate(blocks):
        if size == 1:
            continue
        count = values.shape[axis] // size
        kept = np.take(values, np.arange(count * size), axis=axis)
        shape = (*values.shape[:axis], count, size, *values.shape[axis + 1 :])
        values = kept.reshape(shape).mean(axis=axis + 1)
    return values


def _tissue(coarse: NDArray[np.float32], head: NDArray[np.bool_]) -> dict[str, float]:
    """Quantiles and entropy of the head's brightness."""
    tissue = coarse[head]
    quantiles = np.quantile(tissue, QUANTILES)
    share = np.histogram(np.clip(tissue, 0, 4), bins=40, range=(0, 4))[0] / tissue.size
    entropy = -float((share * np.log(np.where(share > 0, share, 1))).sum())
    names = [name for name in NAMES if name.startswith("q")]
    return dict(zip(names, map(float, quantiles), strict=True)) | {"entropy": entropy}


def _shells(
    coarse: NDArray[np.float32], head: NDArray[np.bool_], spacing: Sequence[float]
) -> dict[str, float]:
    """Brightness at several depths below the surface, contrast of the centre, and edges."""
    # Where the field of view cuts the body, as at the neck, the cut is no surface: the padding
    # continues the body there.
    depth = ndimage.distance_transform_edt(np.pad(head, 2, mode="edge"), sampling=spacing)[
        2:-2, 2:-2, 2:-2
    ]
    deepest = float(depth.max())
    limit, inner = min(RIM_MM, 0.4 * deepest), min(CENTRE_MM, 0.7 * deepest)
    rim, centre = coarse[head & (depth <= limit)], coarse[head & (depth > inner)]
    outer = coarse[head & (depth > limit) & (depth <= inner)]
    rim, centre = (part if part.size else coarse[head] for part in (rim, centre))
    scalp, skull = (float(np.quantile(rim, q)) for q in (0.9, 0.3))
    mean = max(float(centre.mean()), 1e-3)
    steps = [np.abs(np.diff(coarse, axis=axis)) for axis in range(3)]
    both = [
        np.logical_and(*(np.take(head, range(i, n - 1 + i), axis=axis) for i in (0, 1)))
        for axis, n in enumerate(head.shape)
    ]
    moved = np.concatenate([step[where] for step, where in zip(steps, both, strict=True)])
    return {
        "scalp": scalp,
        "skull": skull,
        "outer": float(outer.mean()) if outer.size else mean,
        "centre": mean,
        "brain_to_scalp": float(np.log(mean / max(scalp, 1e-3))),
        "centre_spread": float(centre.std()) / mean,
        "edges": float(moved.mean()) if moved.size else 0.0,
    }


def _counts(array: NDArray[Any], mask: NDArray[np.bool_]) -> dict[str, float]:
    """Shares of zeros and negative values, and log10 of the number of different values.

    All are counted in the acquired values, because scaling and averaging remove them.
    """
    inside, outside = (_some(array[where]) for where in (mask, ~mask))
    return {
        "zeros_inside": float((inside == 0).mean()),
        "zeros_outside": float((outside == 0).mean()) if outside.size else 0.0,
        "negatives": float((_some(array.ravel()) < 0).mean()),
        "distinct": float(np.log10(min(len(np.unique(inside)), 1000))),
    }


def _some(values: NDArray[Any]) -> NDArray[Any]:
    """Fewer than 2·SAMPLES of the values, at equal steps."""
    return values[:: max(len(values) // SAMPLES, 1)]


def _extent(head: NDArray[np.bool_], spacing: Sequence[float]) -> dict[str, float]:
    """Logarithms of the head's sides in mm, and the share of its bounding box that it fills."""
    sides = [
        int(np.ptp(np.flatnonzero(head.any(axis=others)))) + 1
        for others in ((1, 2), (0, 2), (0, 1))
    ]
    mm = [np.log(n * s) for n, s in zip(sides, spacing, strict=True)]
    found = dict(zip(("width", "length", "height"), mm, strict=True))
    return found | {"fill": float(head.sum()) / float(np.prod(sides))}
