"""Resample a stack with gaps, uneven spacing or gantry tilt to a regular grid at right angles."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.dicom.geometry import Stack, affine_of


def regular(
    stack: Stack, values: NDArray[np.float32], fill: float
) -> tuple[NDArray[np.float32], NDArray[np.float64], str]:
    """Interpolate linearly between slices, and within them where slices are shifted sideways.

    The new slices lie straight above the first one, one median distance from each other, and hold
    every position of the old ones: where slices are shifted, columns and rows are added.

    Args:
        stack: the slices.
        values: (columns, rows, slices) of `stack`.
        fill: the value outside of what was acquired.

    Returns:
        Values (columns, rows, slices), the affine (4, 4) to mm in RAS+, and a sentence on it.
    """
    first = stack.frames[0]
    row_mm, column_mm = first.spacing_mm
    off = np.array([frame.position - first.position for frame in stack.frames])
    shift = np.stack([off @ first.along_row / column_mm, off @ first.along_column / row_mm])  # 2 n
    low = np.floor(shift.min(axis=1) + 1e-6).astype(int)
    high = np.ceil(shift.max(axis=1) - 1e-6).astype(int)
    size = np.array(values.shape[:2]) + high - low
    straight = np.empty((*size, len(stack.frames)), dtype=np.float32)
    for k in range(len(stack.frames)):
        straight[:, :, k] = _shifted(values[:, :, k], shift[:, k] - low, tuple(size), fill)
    along = stack.along - stack.along[0]
    n = math.floor(along[-1] / stack.step_mm + 1e-3) + 1
    made = _between(straight, along, np.minimum(np.arange(n) * stack.step_mm, along[-1]))
    corner = first.position + first.along_row * column_mm * low[0]
    corner = corner + first.along_column * row_mm * low[1]
    affine = affine_of(first, first.normal * stack.step_mm)
    affine[:3, 3] = corner * np.array([-1.0, -1.0, 1.0])
    note = f"{stack.fault}: resampled linearly to slices {stack.step_mm:.4g} mm apart"
    return made, affine, note


def _shifted(
    image: NDArray[np.float32], by: NDArray[np.float64], size: tuple[int, ...], fill: float
) -> NDArray[np.float32]:
    """An image in a larger one, moved by a fraction of pixels."""
    whole = np.rint(by)
    if np.abs(by - whole).max() < 1e-3:
        made = np.full(size, fill, dtype=np.float32)
        x, y = whole.astype(int)
        made[x : x + image.shape[0], y : y + image.shape[1]] = image
        return made
    return np.asarray(
        ndimage.affine_transform(
            image, np.ones(2), offset=-by, output_shape=size, order=1, cval=fill
        ),
        dtype=np.float32,
    )


def _between(
    values: NDArray[np.float32], along: NDArray[np.float64], wanted: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Slices at the positions `wanted`, linearly between those at `along`."""
    right = np.clip(np.searchsorted(along, wanted, side="left"), 1, len(along) - 1)
    left = right - 1
    share = ((wanted - along[left]) / (along[right] - along[left])).astype(np.float32)
    return values[:, :, left] * (1 - share) + values[:, :, right] * share
