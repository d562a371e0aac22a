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


def choose_spacing(records: Records, size: int, report: Reporter = SILENT) -> float:
    """The finest pixel size at which every head fits into `size` pixels, in mm.

    If all scans have the same isotropic pixel size and fit, this size is chosen, and nothing is
    interpolated. The result is never finer than the finest scan.

    Args:
        records: the records of the first pass.
        size: side of the training slices in pixels.
        report: receives a warning if a single scan determines the pixel size.

    Raises:
        OptionError: `size` is too small.
    """
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
    size: int,
    spacing_mm: float,
    name: str,
) -> SliceGrid:
    """The grid of a scan: centred, moved by whole pixels only where the head would be cut.

    Args:
        record: of the first pass.
        box_yx: [[first y, last y], [first x, last x]] of the head in native pixels.
        size: pixels of the training grid.
        spacing_mm: their size.
        name: of the scan, for the message.

    Raises:
        OptionError: the head is larger than the grid.
    """
    x, y, _ = record["native_shape"]
    sy, sx = record["spacing_yx_mm"]
    grid = SliceGrid((int(y), int(x)), (sy, sx), (size, size), spacing_mm)
    shift = []
    for axis, (first, last) in enumerate(box_yx):
        low = grid.training_index(axis, first - 0.5) + 0.5
        high = grid.training_index(axis, last + 0.5) - 0.5
        if high - low > size - 1 + 0.02:
            raise OptionError(
                f"the head of {name} measures {extent_mm(box_yx, (sy, sx)):.0f} mm, more than the "
                f"{size * spacing_mm:.0f} mm of {size} pixels of {spacing_mm:g} mm",
                "a grid that holds it",
                "use a `spacing_mm` of auto, or a larger `size` or `spacing_mm`",
            )
        # A positive shift moves the content to higher indices (see SliceGrid).
        up, down = math.ceil(-low - 1e-6), math.ceil(high - (size - 1) - 1e-6)
        shift.append(max(up, 0) or -max(down, 0))
    return replace(grid, shift=(shift[0], shift[1]))


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
