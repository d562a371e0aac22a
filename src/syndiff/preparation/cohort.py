"""What is decided once for all scans: pixel size, place on the grid, intensity scales."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from syndiff.errors import OptionError
from syndiff.preparation.geometry import SliceGrid
from syndiff.preparation.intensity import IntensityScale, fit_scale, is_ct, window_scale

SAME_SPACING = 1e-3  # relative difference of pixel sizes that count as equal
Records = Mapping[str, Mapping[str, Mapping[str, Any]]]  # subject → modality → record


def margin_px(size: int) -> int:
    """Training pixels kept free on each side of the largest head."""
    return max(1, size // 64)


def head_extent_mm(record: Mapping[str, Any]) -> float:
    """The longer in-plane side of a scan's foreground box."""
    pairs = zip(record["box_yx"], record["spacing_yx_mm"], strict=True)
    return max((last - first + 1) * spacing for (first, last), spacing in pairs)


def choose_spacing(records: Records, size: int, warn: Callable[[str], None]) -> float:
    """The finest pixel size at which every head fits into `size` pixels, in mm.

    Where all scans share one isotropic pixel size and fit, it is that very size, so that nothing
    is interpolated; it is never finer than the finest scan.
    """
    scans = [(s, m, r) for s, of in records.items() for m, r in of.items()]
    extents = [head_extent_mm(r) for _, _, r in scans]
    room = size - 2 * margin_px(size)
    if room < 1:
        raise OptionError(f"a size of {size} pixels", "16 or more")
    needed = max(extents) / room
    largest = int(np.argmax(extents))
    if max(extents) > 1.4 * float(np.median(extents)):
        warn(
            f"the pixel size is set by {scans[largest][0]}, whose {scans[largest][1]} shows "
            f"{max(extents):.0f} mm of tissue where others show {np.median(extents):.0f} mm"
        )
    native = [s for _, _, r in scans for s in r["spacing_yx_mm"]]
    finest = min(native)
    if needed <= finest:
        return float(finest)
    if max(native) <= finest * (1 + SAME_SPACING) and _fits(extents, finest, size):
        return float(finest)  # the margin alone is no reason to interpolate
    return math.ceil(needed * 100 - 1e-6) / 100


def _fits(extents: Sequence[float], spacing_mm: float, size: int) -> bool:
    return max(extents) <= size * spacing_mm * (1 + 1e-6)


def place(record: Mapping[str, Any], size: int, spacing_mm: float, name: str) -> SliceGrid:
    """The grid of a scan: centred, moved by whole pixels only where the head would be cut.

    Raises:
        OptionError: the head is larger than the grid.
    """
    x, y, _ = record["native_shape"]
    sy, sx = record["spacing_yx_mm"]
    grid = SliceGrid((int(y), int(x)), (sy, sx), (size, size), spacing_mm)
    shift = []
    for axis, (first, last) in enumerate(record["box_yx"]):
        low = grid.training_index(axis, first - 0.5) + 0.5
        high = grid.training_index(axis, last + 0.5) - 0.5
        if high - low > size - 1 + 0.02:
            raise OptionError(
                f"the head of {name} measures {head_extent_mm(record):.0f} mm, more than the "
                f"{size * spacing_mm:.0f} mm of {size} pixels of {spacing_mm:g} mm",
                "a grid that holds it",
                "use --spacing-mm auto, or a larger --size or --spacing-mm",
            )
        # shift moves the window over the content: training index = native position - shift
        move = min(math.floor(low + 1e-6), 0) or max(math.ceil(high - 1e-6) - (size - 1), 0)
        shift.append(int(move))
    return replace(grid, shift=(shift[0], shift[1]))


def choose_scales(
    records: Records, splits: Mapping[str, str], modalities: Sequence[str], rule: str
) -> dict[str, IntensityScale]:
    """Each modality's intensity rule, from the training subjects alone."""
    scales = {}
    for modality in modalities:
        if is_ct(modality):
            scales[modality] = window_scale()
            continue
        training = [
            of[modality]
            for subject, of in records.items()
            if splits[subject] == "train" and modality in of
        ]
        means = [r["reference_mean"] for r in training]
        scales[modality] = fit_scale(rule, means, [r["peak"] for r in training])
    return scales
