"""The options of reading DICOM."""

from __future__ import annotations

import math
from dataclasses import dataclass

from syndiff.errors import OptionError


@dataclass(frozen=True)
class DicomOptions:
    """How a series is chosen and read.

    Attributes:
        series: the number in the list of series, the Series Instance UID, or the description (or a
            part of it) of the series to read; empty: the only usable one. It also takes series
            that are never taken unasked: derived ones and localisers.
        regular_grid: resample slices with gaps, uneven spacing or gantry tilt to a regular grid.
        hu_offset: a number that is added to the values of a CT; -1024 for files that store
            HU + 1024 with a Rescale Intercept of 0.

    Raises:
        OptionError: `hu_offset` is not finite.
    """

    series: str = ""
    regular_grid: bool = False
    hu_offset: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.hu_offset):
            raise OptionError(f"`hu_offset` {self.hu_offset}", "a finite number")


AS_STORED = DicomOptions()
