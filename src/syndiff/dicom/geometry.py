"""Where the slices of a stack lie: sorted along their normal, and whether they make a grid.

Neither file names nor instance numbers say anything of the order. A stack is a regular grid if
neighbours are equally far from each other, within a twentieth of the spacing, and lie straight
above each other, within one degree. The grid's affine follows the true step from slice to slice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syndiff.dicom.frames import Frame

SAME_PLACE_MM = 1e-2
SAME_DIRECTION = 1e-3  # of unit vectors: 0.06 degrees
UNEVEN = 0.05  # of the spacing
MOST_TILT_DEGREES = 1.0
OBLIQUE_DEGREES = 10.0
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Stack:
    """Slices in order, with what keeps them from being a regular grid.

    Attributes:
        frames: sorted along the normal, which points as rows and columns say.
        along: (n,) positions along the normal in mm, increasing.
        fault: what is irregular, in words; empty for a regular grid.
        step_mm: the distance of neighbours; of an irregular stack the median.
    """

    frames: tuple[Frame, ...]
    along: NDArray[np.float64]
    fault: str
    step_mm: float

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4): column, row and slice → mm, RAS+; of a regular stack."""
        first = self.frames[0]
        n = len(self.frames)
        if n > 1:
            step = (self.frames[-1].position - first.position) / (n - 1)
        else:
            step = first.normal * self.step_mm
        return affine_of(first, step)


def affine_of(first: Frame, step: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4): column, row and slice → mm, RAS+, from the first slice and the step to the next."""
    rows_mm, columns_mm = first.spacing_mm
    lps = np.eye(4)
    lps[:3, 0] = first.along_row * columns_mm
    lps[:3, 1] = first.along_column * rows_mm
    lps[:3, 2] = step
    lps[:3, 3] = first.position
    return TO_RAS @ lps


def same_plane(a: Frame, b: Frame) -> bool:
    """Whether two slices have one orientation, pixel size and matrix."""
    return (
        a.shape == b.shape
        and np.abs(np.subtract(a.spacing_mm, b.spacing_mm)).max() <= 1e-4 * max(a.spacing_mm)
        and np.abs(a.along_row - b.along_row).max() <= SAME_DIRECTION
        and np.abs(a.along_column - b.along_column).max() <= SAME_DIRECTION
    )


def places(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """(n,) positions of slices of one orientation along their common normal, in mm."""
    normal = frames[0].normal
    return np.array([frame.position @ normal for frame in frames])


def collisions(frames: Sequence[Frame]) -> list[list[Frame]]:
    """The slices of each position, in the order of positions."""
    along = places(frames)
    found: list[list[Frame]] = []
    last = -math.inf
    for i in np.argsort(along, kind="stable"):
        if along[i] - last > SAME_PLACE_MM:
            found.append([])
            last = along[i]
        found[-1].append(frames[i])
    return found


def stacked(frames: Sequence[Frame]) -> Stack:
    """Sort slices of one orientation, each at a place of its own, and check their distances."""
    along = places(frames)
    order = np.argsort(along, kind="stable")
    ordered, along = tuple(frames[i] for i in order), along[order]
    if len(ordered) == 1:
        single = ordered[0].between_mm or ordered[0].thickness_mm or 0.0
        missing = "" if single > 0 else "a single slice without a thickness"
        return Stack(ordered, along, missing, single)
    gaps = np.diff(along)
    step = float(np.median(gaps))
    return Stack(ordered, along, _uneven(gaps, step) or _tilted(ordered), step)


def _uneven(gaps: NDArray[np.float64], step: float) -> str:
    """What is wrong with the distances of neighbours, in words; empty if nothing is."""
    if np.abs(gaps - step).max() <= UNEVEN * step:
        return ""
    times = gaps / step
    whole = np.rint(times)
    if np.abs(times - whole).max() <= UNEVEN and whole.min() >= 1:
        lacking = int((whole - 1).sum())
        return f"{lacking} of {lacking + len(gaps) + 1} slices are missing"
    return f"slices {gaps.min():.4g} to {gaps.max():.4g} mm apart"


def _tilted(ordered: Sequence[Frame]) -> str:
    """How far neighbours are from lying straight above each other; empty if they do."""
    first, normal = ordered[0], ordered[0].normal
    off = np.array([frame.position - first.position for frame in ordered[1:]])
    along = off @ normal
    sideways = np.linalg.norm(off - along[:, None] * normal, axis=1)
    degrees = math.degrees(math.atan2(float(sideways[-1]), float(along[-1])))
    if degrees > MOST_TILT_DEGREES:
        return f"slices tilted by {degrees:.1f} degrees (gantry tilt)"
    bent = sideways - along / along[-1] * sideways[-1]  # a stack that is straight has none
    if np.abs(bent).max() > max(first.spacing_mm):
        return "slices that do not lie straight above each other"
    return ""


def plane_of(frame: Frame) -> str:
    """ "axial", "coronal" or "sagittal", the nearest; "oblique" is added above 10 degrees."""
    normal = np.abs(frame.normal)
    name = ("sagittal", "coronal", "axial")[int(normal.argmax())]
    oblique = float(normal.max()) < math.cos(math.radians(OBLIQUE_DEGREES))
    return f"{name}, oblique" if oblique else name
