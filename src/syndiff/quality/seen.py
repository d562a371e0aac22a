"""What is looked at in one scan: summaries so small that any cohort fits into memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.io.volume import from_slices
from syndiff.preparation.contrast import head_contrast
from syndiff.preparation.intensity import foreground_mask

BINS = 64  # of a histogram over [0, 1]
SIDE = 20  # of the coarse image of a head
UPPER_MM = 120.0  # the part below the top of the head that is in every field of view
PICTURE_HEIGHT = 0.6  # of the slices, from below: the level of the ventricles in a head
OUTERMOST = 0.01  # share of the tissue beyond either end of a box
Slices = NDArray[np.float32]
Ends = tuple[float, float]


@dataclass(frozen=True)
class Geometry:
    """The grid of a scan's file.

    Attributes:
        shape: voxels along x, y, z.
        spacing_mm: their size.
        axes: the directions of the file's axes, e.g. "LAS".
        oblique_deg: the largest angle between an axis and the nearest one of the body.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    axes: str
    oblique_deg: float

    @classmethod
    def of(cls, shape: Sequence[int], affine: Any) -> Geometry:
        """From the shape (3,) and the affine (4, 4) of a file."""
        from nibabel.orientations import aff2axcodes

        directions = np.asarray(affine, np.float64)[:3, :3]
        lengths = np.linalg.norm(directions, axis=0)
        straight = np.abs(directions / lengths).max(axis=0).clip(0, 1)
        return cls(
            shape=tuple(int(n) for n in shape[:3]),  # type: ignore[arg-type]
            spacing_mm=tuple(float(mm) for mm in lengths),  # type: ignore[arg-type]
            axes="".join(aff2axcodes(affine)),
            oblique_deg=float(np.degrees(np.arccos(straight)).max()),
        )

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """The field of view along x, y, z."""
        x, y, z = (n * mm for n, mm in zip(self.shape, self.spacing_mm, strict=True))
        return x, y, z


@dataclass(frozen=True)
class Seen:
    """The summary of one scan.

    Attributes:
        subject, person, modality: as in a manifest.
        split: "train", "val" or "test"; empty for raw scans.
        file: the scan's file as the user knows it.
        geometry: of that file; None if it is not known.
        count: slices.
        bad: values that are not finite.
        blank: positions of the slices without content, among those that should have some.
        clipped: share of the tissue that has the largest value that there is.
        histogram: (BINS,) shares of the tissue's values in [0, 1].
        head_mm: the tissue's width, length and height; zeros if there is none.
        coarse: (SIDE, SIDE, SIDE) the upper part of the head within its box, standardised.
        contrast: "T1", "T2" or "FLAIR" if the scan clearly looks like it; else "" or "none".
        picture: (h, w) one slice in [0, 1].
    """

    subject: str
    person: str
    modality: str
    split: str
    file: str
    geometry: Geometry | None
    count: int
    bad: int
    blank: tuple[int, ...]
    clipped: float
    histogram: NDArray[np.float64]
    head_mm: tuple[float, float, float]
    coarse: NDArray[np.float32]
    contrast: str
    picture: Slices

    @property
    def name(self) -> str:
        """How the scan is named in a finding."""
        return f"{self.subject} {self.modality}"

    @property
    def empty(self) -> bool:
        """Whether nothing in it looks like tissue."""
        return not any(self.head_mm)


@dataclass(frozen=True)
class Labels:
    """The names of a scan; see `Seen`."""

    subject: str
    person: str
    modality: str
    split: str
    file: str
    geometry: Geometry | None


def seen(
    labels: Labels, slices: Slices, spacing_mm: Sequence[float], *, ct: bool, whole: bool
) -> Seen:
    """Summarise a scan.

    Args:
        labels: its names.
        slices: (n, h, w) in [0, 1], z ascending to superior; NaN is allowed and counted.
        spacing_mm: of the slices along z, y and x.
        ct: CT shows no contrast of MR, and may be clipped by its window.
        whole: the slices are a whole scan, whose ends may be air; else each holds tissue.
    """
    good = np.isfinite(slices)
    bad = int(slices.size - np.count_nonzero(good))
    values = np.where(good, slices, 0).astype(np.float32) if bad else np.asarray(slices)
    sz, sy, sx = spacing_mm
    mask = foreground_mask(values, "a.u.") if values.max() > values.min() else good & False
    tissue = values[mask]
    counts = np.histogram(tissue, bins=BINS, range=(0, 1))[0]
    array, head = from_slices(values), from_slices(mask)
    box = _box(head, sz)
    return Seen(
        **vars(labels),
        count=len(values),
        bad=bad,
        blank=_blank(values, mask, whole),
        clipped=0.0 if ct or not tissue.size else float((tissue >= tissue.max()).mean()),
        histogram=counts / max(tissue.size, 1),
        head_mm=_extent(head, (sx, sy, sz)),
        coarse=_coarse(array, box),
        contrast="" if ct or box is None else head_contrast(array, head, (sx, sy, sz)),
        picture=np.array(values[int(PICTURE_HEIGHT * (len(values) - 1))]),
    )


def _blank(values: Slices, mask: NDArray[np.bool_], whole: bool) -> tuple[int, ...]:
    """Positions of slices that hold one value only; of a whole scan between its ends of tissue."""
    flat = [k for k, image in enumerate(values) if float(np.ptp(image)) < 1e-6]
    held = np.flatnonzero(mask.any(axis=(1, 2)))
    if whole and len(held):
        flat = [k for k in flat if held[0] < k < held[-1]]
    return tuple(flat)


def _extent(head: NDArray[np.bool_], spacing_mm: Sequence[float]) -> tuple[float, float, float]:
    """Width, length and height in mm of a mask (x, y, z)."""
    if not head.any():
        return 0.0, 0.0, 0.0
    reached = [np.flatnonzero(head.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    x, y, z = ((r[-1] - r[0] + 1) * mm for r, mm in zip(reached, spacing_mm, strict=True))
    return float(x), float(y), float(z)


def _box(head: NDArray[np.bool_], slice_mm: float) -> tuple[Ends, ...] | None:
    """Where the upper part of a head (x, y, z) begins and ends, in voxels; None without one.

    The ends are quantiles of the tissue: a voxel more or less, by noise, hardly moves them.
    """
    reached = np.flatnonzero(head.any(axis=(0, 1)))
    if not len(reached):
        return None
    top = int(reached[-1]) + 1
    bottom = max(int(reached[0]), top - max(1, round(UPPER_MM / slice_mm)))
    upper = head[:, :, bottom:top]
    x, y, z = (_ends(upper.sum(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
    return x, y, (z[0] + bottom, z[1] + bottom)


def _ends(counts: NDArray[Any]) -> Ends:
    """Between which positions nearly all of the tissue lies."""
    share = np.concatenate([[0], np.cumsum(counts) / counts.sum()])
    first, last = np.interp((OUTERMOST, 1 - OUTERMOST), share, np.arange(len(share)))
    return float(first), float(last)


def _coarse(array: Slices, box: tuple[Ends, ...] | None) -> NDArray[np.float32]:
    """The box of an array (x, y, z) on a small grid, with mean 0 and deviation 1."""
    if box is None:
        return np.zeros((SIDE, SIDE, SIDE), np.float32)
    steps = [(last - first) / SIDE for first, last in box]
    smooth = ndimage.gaussian_filter(np.asarray(array, np.float32), [step / 2 for step in steps])
    axes = [
        first + (np.arange(SIDE) + 0.5) * step - 0.5
        for (first, _), step in zip(box, steps, strict=True)
    ]
    grid = np.meshgrid(*axes, indexing="ij")
    small = ndimage.map_coordinates(smooth, grid, order=1, mode="nearest")
    small = small - small.mean()
    return np.asarray(small / max(float(small.std()), 1e-6), np.float32)


def likeness(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """The correlation of two coarse images."""
    return float(np.mean(a * b))
