"""What is shown of a subject: which slices, planes across them, and how far slices jump."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

AXES = {"coronal": 1, "sagittal": 2}  # the axis of (n, h, w) that a plane stands on
JUMPS = "slice_jumps"


@dataclass(frozen=True)
class Plane:
    """One plane of a subject, (n, w) or (n, h): superior is the last row.

    Attributes:
        name: a key of `AXES`.
        synthetic: by model name.
    """

    subject: str
    name: str
    source: NDArray[Any]
    reference: NDArray[Any]
    synthetic: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def planes_of(
    subject: str,
    source: NDArray[Any],
    made: Mapping[str, NDArray[Any]],
    reference: NDArray[Any],
    head: NDArray[np.bool_],
) -> list[Plane]:
    """The coronal and the sagittal plane through the middle of the head; images (n, h, w)."""
    if not head.any():
        return []
    first = source if source.ndim == 3 else source[:, 0]

    def plane(name: str, axis: int) -> Plane:
        others = tuple(a for a in range(3) if a != axis)
        place = int(np.median(np.flatnonzero(head.any(axis=others))))
        cut = [np.array(np.take(image, place, axis)) for image in (first, reference)]
        images = {n: np.array(np.take(image, place, axis)) for n, image in made.items()}
        return Plane(subject, name, cut[0], cut[1], images)

    return [plane(name, axis) for name, axis in AXES.items()]


def slice_jumps(
    synthetic: NDArray[Any], reference: NDArray[Any], head: NDArray[np.bool_]
) -> float | None:
    """Mean |difference| of neighbouring slices inside the head, over the acquired image's own.

    1 is what the anatomy itself changes; more means that slices do not fit each other.

    Returns:
        None where there is one slice, or the acquired ones do not change.
    """
    both = head[1:] & head[:-1]
    if not both.any():
        return None
    own, made = (float(np.abs(np.diff(x, axis=0))[both].mean()) for x in (reference, synthetic))
    return made / own if own > 0 else None


def choose_pictures(slice_counts: Sequence[int], pictures: int) -> list[list[int]]:
    """For each subject the positions of the slices to show: spread over subjects and the head.

    Args:
        slice_counts: slices of each subject.
        pictures: how many in all; fewer come where slices are few.
    """
    filled = [i for i, count in enumerate(slice_counts) if count]
    turns = [filled[k * len(filled) // pictures] for k in range(pictures)] if filled else []
    chosen: list[list[int]] = [[] for _ in slice_counts]
    for rank, subject in enumerate(dict.fromkeys(turns)):
        share, last = turns.count(subject), slice_counts[subject] - 1
        # Avoid neck and crown. Subjects with one picture show slices at different heights.
        heights = np.linspace(0.35, 0.72, share) if share > 1 else [0.4 + 0.1 * (rank % 4)]
        chosen[subject] = sorted({round(height * last) for height in heights})
    return chosen
