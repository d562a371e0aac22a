"""Recognise masks and label maps with names like scans, by their values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import VolumeError

EQUAL_SHARE = 0.7  # of neighbours; maps of a hundred brain regions have 0.8, scans of 8 bit 0.2
SAMPLED = 2_000_000  # neighbours that are enough to tell


PUT_AWAY = "move it out of the folder of scans, or leave it out of the table"


def refuse_labels(array: NDArray[Any], name: str, remedy: str = PUT_AWAY) -> None:
    """Refuse masks and label maps.

    Args:
        array: (x, y, z) in acquired units.
        name: of the scan, for the message.
        remedy: what to do about it.

    Raises:
        VolumeError: the values are those of a mask, or most neighbouring voxels are equal.
    """
    what = what_labels(array)
    if what:
        raise VolumeError(
            f"{name} holds {what}",
            "an MR image",
            remedy,
        )


def what_labels(array: NDArray[Any]) -> str:
    """ "a mask: …" or "a label map: …", empty for an image."""
    values = np.unique(array[:: max(1, array.shape[0] // 64)])
    if len(values) <= 2 and len(np.unique(array)) == 2:
        return f"a mask: only the values {values[0]:g} and {values[-1]:g}"
    share = equal_neighbours(array)
    if share > EQUAL_SHARE:
        return f"a label map: {100 * share:.0f} % of neighbours inside are equal"
    return ""


def equal_neighbours(array: NDArray[Any]) -> float:
    """The share of neighbours along x and y that are equal, the most frequent value left out.

    The most frequent value is the air's, which is constant in many scans.
    """
    step = max(1, array.size // SAMPLED)
    some = array[:, :, :: min(step, max(1, array.shape[2] // 8))]
    found, counts = np.unique(some, return_counts=True)
    inside = some != found[int(np.argmax(counts))]
    equal = total = 0
    for axis in (0, 1):
        first = [slice(None)] * 3
        second = [slice(None)] * 3
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        a, b = tuple(first), tuple(second)
        both = inside[a] & inside[b]
        equal += int((both & (some[a] == some[b])).sum())
        total += int(both.sum())
    return equal / total if total else 0.0
