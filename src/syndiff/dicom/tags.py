"""Single tags of a DICOM header, with their type checked.

Messages name a tag, never its value: a damaged header may hold a patient's name anywhere.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from syndiff.dicom.files import Source
from syndiff.errors import VolumeError

# Every tag that reading a series depends on; no other tag of a file is looked at.
FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
READ = (
    "AcquisitionNumber",
    "BitsAllocated",
    "BitsStored",
    "Columns",
    "ContrastBolusAgent",
    "DiffusionBValue",
    "EchoNumbers",
    "EchoTime",
    "EffectiveEchoTime",
    "FlipAngle",
    "FrameOfReferenceUID",
    "FrameType",
    "HighBit",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ImageType",
    "InstanceNumber",
    "InversionTime",
    "LossyImageCompression",
    "Modality",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "PixelRepresentation",
    "PixelSpacing",
    "ProtocolName",
    "RepetitionTime",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
    "SOPClassUID",
    "SOPInstanceUID",
    "SamplesPerPixel",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SliceThickness",
    "SpacingBetweenSlices",
    "StudyInstanceUID",
    "SyntheticData",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "TriggerTime",
    *FUNCTIONAL_GROUPS,
)
LONGEST = 200  # characters of a description that is shown


class Tags:
    """Reads tags of one image: the first of several data sets that has a tag counts.

    Args:
        levels: data sets, the most specific first: those of a frame, those that all frames
            share, the file's own.
        source: the file, for messages.
    """

    def __init__(self, levels: Sequence[Any], source: Source) -> None:
        self._levels, self._source = levels, source

    def text(self, keyword: str) -> str:
        """A text; empty if the tag is missing, blank or no text."""
        value = self._value(keyword)
        if isinstance(value, list | tuple) or type(value).__name__ == "MultiValue":
            return "\\".join(str(v) for v in value)[:LONGEST]
        return "" if value is None else " ".join(str(value).split())[:LONGEST]

    def uid(self, keyword: str) -> str:
        """A UID that must be there.

        Raises:
            VolumeError: the tag is missing, blank or no UID.
        """
        text = self.text(keyword)
        if not text or len(text) > 64 or not set(text) <= set("0123456789."):
            raise self._wrong(keyword, "a UID")
        return text

    def whole(self, keyword: str, least: int, most: int, default: int | None = None) -> int:
        """A whole number from `least` to `most`; `default` if the tag is missing or blank.

        Raises:
            VolumeError: the tag holds something else, or is missing without a default.
        """
        found = self.number(keyword)
        if found is None and default is not None:
            return default
        if found is None or found != int(found) or not least <= found <= most:
            raise self._wrong(keyword, f"a whole number from {least} to {most}")
        return int(found)

    def number(self, keyword: str) -> float | None:
        """A finite number; None if the tag is missing or blank.

        Raises:
            VolumeError: the tag holds something else.
        """
        numbers = self.numbers(keyword, 1)
        return None if numbers is None else numbers[0]

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """`count` finite numbers; None if the tag is missing or blank.

        Raises:
            VolumeError: the tag holds something else.
        """
        value = self._value(keyword)
        if value is None or (isinstance(value, str | bytes) and not value.strip()):
            return None
        many = isinstance(value, list | tuple) or type(value).__name__ == "MultiValue"
        values = list(value) if many else [value]
        if many and not values:
            return None
        try:
            found = tuple(float(v) for v in values)
        except (TypeError, ValueError, OverflowError):
            raise self._wrong(keyword, _counted(count)) from None
        if len(found) != count or not all(map(math.isfinite, found)):
            raise self._wrong(keyword, _counted(count))
        return found

    def loose(self, keyword: str) -> str:
        """A value that is only shown or compared, as text; empty if it cannot be read."""
        try:
            text = self.text(keyword)
        except VolumeError:
            return ""
        try:
            return f"{float(text):g}" if "." in text else text  # 20.0 and 20 are one echo time
        except ValueError:
            return text

    def _value(self, keyword: str) -> Any:
        for level in self._levels:
            try:
                with quiet():
                    value = level.get(keyword)
            except Exception:  # pydicom raises many types for values that fit no type
                raise self._wrong(keyword, "a value of the tag's type") from None
            if value is None or (isinstance(value, str) and not value.strip()):
                continue
            return value
        return None

    def _wrong(self, keyword: str, expected: str) -> VolumeError:
        return VolumeError(f"the tag {keyword} of {self._source} is missing or wrong", expected)


def _counted(count: int) -> str:
    return "a number" if count == 1 else f"{count} numbers"


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings and no log of pydicom: they quote values, which may name a patient."""
    log = logging.getLogger("pydicom")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before
