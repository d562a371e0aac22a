"""Decisions for the whole cohort: pixel size, position on the grid, intensity scales."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from syndiff.errors import OptionError
from syndiff.preparation.geometry import SliceGrid
from syndiff.preparation.intensity import (
    PAPER,
    IntensityScale,
    ct_window,
    fit_scale,
    is_ct,
    window_scale,
)
from syndiff.reporting import SILENT, Reporter

SAME_SPACING = 1e-3  # relative difference of pixel sizes that count as equal
Records = Mapping[str, Mapping[str, Mapping[str, Any]]]  # subject → modality → record


def margin_px(size: int) -> int:
    """Training pixels kept free on each side of the largest head."""
    return max(1, size // 64)


def shared_boxes(records: Mapping[str, Mapping[str, Any]]) -> dict[str, list[list[int]]]:
    """Modality → box that holds the heads of all of a subject's scans on the same grid."""
    boxes = {}
    for modality, record in records.items():
        group = [r["box_yx"] for r in records.values() if r["reference"] == record["reference"]]
        boxes[modality] = [
            [min(box[axis][0] for box in group), max(box[axis][1] for box in group)]
            for axis in (0, 1)
        ]
    return boxes


def extent_mm(box_yx: Sequence[Sequence[int]], spacing_yx_mm: Sequence[float]) -> float:
    """The longer side of a foreground box."""
    pairs = zip(box_yx, spacing_yx_mm, strict=True)
    return max((last - first + 1) * spacing for (first, last), spacing in pairs)


def choose_spacing(records: Records, shape: tuple[int, int], report: Reporter = SILENT) -> float:
    """The finest pixel size at which every head fits into the shorter side, in mm.

    If all scans have the same isotropic pixel size and fit, this size is chosen, and nothing is
    interpolated. The result is never finer than the finest scan.

    Args:
        records: the records of the first pass.
        shape: (height, width) of the training slices in pixels.
        report: receives a warning if a single scan determines the pixel size.

    Raises:
        OptionError: `size` is too small.
    """
    size = min(shape)
    names, extents, native = [], [], []
    for subject, of in records.items():
        for modality, box in shared_boxes(of).items():
            names.append(f"{subject}, whose {modality}")
            extents.append(extent_mm(box, of[modality]["spacing_yx_mm"]))
            native += of[modality]["spacing_yx_mm"]
    room = size - 2 * margin_px(size)
    if room < 1:
        raise OptionError(f"a size of {size} pixels", "16 or more")
    needed = max(extents) / room
    if max(extents) > 1.4 * float(np.median(extents)):
        report.warn(
            f"the pixel size is set by {names[int(np.argmax(extents))]} shows "
            f"{max(extents):.0f} mm of tissue where others show {np.median(extents):.0f} mm"
        )
    finest = min(native)
    if needed <= finest:
        return float(finest)
    if max(native) <= finest * (1 + SAME_SPACING) and _fits(extents, finest, size):
        return float(finest)  # a missing margin does not justify interpolation
    return math.ceil(needed * 100 - 1e-6) / 100


def _fits(extents: Sequence[float], spacing_mm: float, size: int) -> bool:
    return max(extents) <= size * spacing_mm * (1 + 1e-6)


def place(
    record: Mapping[str, Any],
    box_yx: Sequence[Sequence[int]],
    shape: tuple[int, int],
    spacing_mm: float,
    name: str,
) -> SliceGrid:
    """The grid of a scan: centred, moved by whole pixels only where the head would be cut.

    Args:
        record: of the first pass.
        box_yx: [[first y, last y], [first x, last x]] of the head in native pixels.
        shape: (height, width) of the training grid in pixels.
        spacing_mm: their size.
        name: of the scan, for the message.

    Raises:
        OptionError: the head is larger than the grid.
    """
    grid = _grid(record, shape, spacing_mm)
    shift = []
    for axis, (low, high) in enumerate(_box_on(grid, box_yx)):
        size = shape[axis]
        if high - low > size - 1 + 0.02:
            raise OptionError(
                f"the head of {name} measures "
                f"{extent_mm(box_yx, grid.native_spacing_mm):.0f} mm, more than the "
                f"{size * spacing_mm:.0f} mm of {size} pixels of {spacing_mm:g} mm",
                "a grid that holds it",
                "use a `spacing_mm` of auto, or a larger `size` or `spacing_mm`",
            )
        # A positive shift moves the content to higher indices (see SliceGrid).
        up, down = math.ceil(-low - 1e-6), math.ceil(high - (size - 1) - 1e-6)
        shift.append(max(up, 0) or -max(down, 0))
    return replace(grid, shift=(shift[0], shift[1]))


def place_centre(
    record: Mapping[str, Any],
    box_yx: Sequence[Sequence[int]],
    shape: tuple[int, int],
    spacing_mm: float,
) -> tuple[SliceGrid, str]:
    """As `place`, but where a head is larger than the grid, its middle is kept.

    Returns:
        The grid, and in words what is cut; empty if nothing is.
    """
    grid = _grid(record, shape, spacing_mm)
    shift, lost = [], []
    for axis, (low, high) in enumerate(_box_on(grid, box_yx)):
        size, along = shape[axis], ("front to back", "left to right")[axis]
        over = high - low - (size - 1)
        if over > 0.02:
            shift.append(round((size - 1) / 2 - (low + high) / 2))
            lost.append(
                f"{over * spacing_mm:.0f} of {(high - low + 1) * spacing_mm:.0f} mm {along}"
            )
            continue
        up, down = math.ceil(-low - 1e-6), math.ceil(high - (size - 1) - 1e-6)
        shift.append(max(up, 0) or -max(down, 0))
    return replace(grid, shift=(shift[0], shift[1])), " and ".join(lost)


def _grid(record: Mapping[str, Any], shape: tuple[int, int], spacing_mm: float) -> SliceGrid:
    """The centred grid of a scan."""
    x, y, _ = record["native_shape"]
    sy, sx = record["spacing_yx_mm"]
    return SliceGrid((int(y), int(x)), (sy, sx), shape, spacing_mm)


def _box_on(grid: SliceGrid, box_yx: Sequence[Sequence[int]]) -> list[tuple[float, float]]:
    """The outermost training pixels, y and x, of a box in native pixels."""
    return [
        (grid.training_index(axis, a - 0.5) + 0.5, grid.training_index(axis, b + 0.5) - 0.5)
        for axis, (a, b) in enumerate(box_yx)
    ]


def choose_scales(
    records: Records,
    splits: Mapping[str, str],
    modalities: Sequence[str],
    rule: str,
    window: str = "full",
) -> dict[str, IntensityScale]:
    """Each modality's intensity rule, from the training subjects alone.

    Args:
        records: of the first pass.
        splits: subject → split.
        modalities: to be scaled.
        rule: of MR, "robust" or "paper".
        window: of CT, see `intensity.ct_window`; "paper" for the rule of the paper's Sec. IV-A.
    """
    scales = {}
    for modality in modalities:
        if is_ct(modality) and window != PAPER:
            scales[modality] = window_scale(ct_window(window))
            continue
        training = [
            of[modality]
            for subject, of in records.items()
            if splits[subject] == "train" and modality in of
        ]
        means = [r["reference_mean"] for r in training]
        peaks = [r["peak"] for r in training]
        ct = is_ct(modality)
        scales[modality] = fit_scale(PAPER if ct else rule, means, peaks, "HU" if ct else "a.u.")
    return scales
