"""Choose the axial slices of a scan, and measure their tissue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from syndiff.io.volume import Volume

AREA_SHARE = 0.1  # least foreground of a slice, as a fraction of the largest slice's foreground
COVERED_SHARE = 0.95  # fraction of a slice's foreground in the field of view of every scan
TRAINING_COVERED_SHARE = 0.6  # the same in training, where a cropped border does no harm
PROFILE_MM = 10.0  # distance between the values of a profile


def choose_slices(
    mask: NDArray[np.bool_],
    seen: Sequence[NDArray[np.bool_]],
    max_slices: int | None,
    evaluated: bool = True,
) -> NDArray[np.int64]:
    """The z of the axial slices that hold tissue.

    Args:
        mask: (x, y, z) the reference's head.
        seen: (x, y, z) each, where a scan of the group has values.
        max_slices: keep the uppermost ones if there are more: the top of a head is in view whether
            or not a neck is.
        evaluated: whether images are scored there; a training slice may miss a cut border.

    Returns:
        (n,) ascending.
    """
    area = mask.sum(axis=(0, 1))
    good = area >= max(AREA_SHARE * int(area.max()), 1)
    share = COVERED_SHARE if evaluated else TRAINING_COVERED_SHARE
    for covered in seen:
        good &= (mask & covered).sum(axis=(0, 1)) >= share * area
    chosen = np.flatnonzero(good)
    return chosen[-max_slices:] if max_slices is not None else chosen


def area_profile(
    mask: NDArray[np.bool_], volume: Volume, chosen: NDArray[np.int64]
) -> list[float]:
    """Tissue in mm² at every `PROFILE_MM` below the uppermost chosen slice."""
    if not len(chosen):
        return []
    sx, sy, sz = volume.spacing_mm
    area = mask[:, :, chosen].sum(axis=(0, 1))[::-1] * sx * sy  # from the top down
    depth = (chosen[-1] - chosen[::-1]) * sz
    steps = np.arange(0.0, depth[-1] + sz / 2, PROFILE_MM)
    return [round(float(a), 1) for a in np.interp(steps, depth, area)]


def head_box(mask: NDArray[np.bool_]) -> list[list[int]]:
    """[[first y, last y], [first x, last x]] of the foreground in any slice of (x, y, n)."""
    plane = np.asarray(mask.any(axis=2))  # x y
    if not plane.any():
        return [[0, plane.shape[1] - 1], [0, plane.shape[0] - 1]]
    xs, ys = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    return [[int(ys[0]), int(ys[-1])], [int(xs[0]), int(xs[-1])]]
