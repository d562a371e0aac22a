"""The head's part of a volume: without the neck, and whatever air lies around it.

Intensities of MRI are divided by the mean over the head. `prepare` and `translate` must take that
mean over the same tissue, otherwise a translator meets other values than in its training. Both
take the tissue down to `HEAD_MM` below the top, segmented close to the head, because the threshold
between air and tissue depends on the share of air in the volume.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.io.volume import Volume
from syndiff.preparation.intensity import IntensityScale, Unit, foreground_mask

HEAD_MM = 180.0  # from the crown to the jaw of an adult; a neck lies below
MARGIN_MM = 10.0
Mask = NDArray[np.bool_]


def upper_part(
    mask: Mask, spacing_mm: tuple[float, float, float], height_mm: float
) -> tuple[slice, slice, slice]:
    """The bounding box of the tissue down to a depth below its top, with a margin.

    Args:
        mask: (x, y, z) the tissue, RAS+; not empty.
        spacing_mm: voxel size along x, y, z in mm.
        height_mm: the depth in mm.

    Returns:
        One slice per axis of `mask`.
    """
    top = int(np.flatnonzero(mask.any(axis=(0, 1)))[-1])
    low = max(0, top + 1 - max(1, round(height_mm / spacing_mm[2])))
    part = []
    for axis in (0, 1):
        there = np.flatnonzero(mask[:, :, low : top + 1].any(axis=(1 - axis, 2)))
        margin = math.ceil(MARGIN_MM / spacing_mm[axis])
        last = min(mask.shape[axis], int(there[-1]) + 1 + margin)
        part.append(slice(max(0, int(there[0]) - margin), last))
    last = min(mask.shape[2], top + 1 + math.ceil(MARGIN_MM / spacing_mm[2]))
    return part[0], part[1], slice(low, last)


def upper_tissue(
    array: NDArray[Any],
    mask: Mask,
    spacing_mm: tuple[float, float, float],
    unit: Unit,
    height_mm: float = HEAD_MM,
) -> Mask:
    """The tissue down to a depth below its top.

    Args:
        array: (x, y, z) acquired values, RAS+.
        mask: (x, y, z) the tissue of the whole volume; not empty.
        spacing_mm: voxel size along x, y, z in mm.
        unit: "HU" or "a.u.".
        height_mm: the depth in mm.

    Returns:
        bool, the shape of `array`.
    """
    part = upper_part(mask, spacing_mm, height_mm)
    found = foreground_mask(array[part], unit)
    head = np.zeros_like(mask)
    head[part] = found if found.any() else mask[part]
    return head


def head_mean(volume: Volume, scale: IntensityScale) -> float:
    """What `prepare` would divide a volume's values by.

    Args:
        volume: values as they were acquired, or as other software made them.
        scale: the modality's rule.

    Raises:
        VolumeError: the volume holds no tissue, or its mean is not positive.
    """
    mask = foreground_mask(volume.array, scale.unit)
    if mask.any():
        mask = upper_tissue(volume.array, mask, volume.spacing_mm, scale.unit)
    return scale.reference_mean(volume.array, mask)
