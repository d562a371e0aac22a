"""The header of one slice: a file of a classic series, or a frame of an enhanced file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.dicom.files import Source
from syndiff.dicom.tags import FUNCTIONAL_GROUPS, READ, Tags, quiet
from syndiff.errors import UserError, VolumeError

MODALITIES = ("MR", "CT")
MOST_FRAMES = 100_000
LARGEST_SIDE = 65_535
FIRST_PIXEL_TAG = 0x7FE00001
PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)  # of float, double and whole numbers
UNIT_LENGTH = 1e-2  # how far the length of a direction may be from 1, and two from right angles


@dataclass(frozen=True)
class Header:
    """What a file says of its series and of all its frames.

    Attributes:
        study_uid, series_uid: the study and the series.
        modality: "MR", "CT" or another word of the standard.
        number: the series' number as the scanner counts; empty if there is none.
        description: the series' description, else the protocol's name.
        image_type: e.g. ("ORIGINAL", "PRIMARY", "M").
        synthetic: whether the file says that its data are synthetic.
        contrast_agent: whether a contrast agent is named.
        repetition_time_ms, inversion_time_ms: as the file says; None where it does not.
        frame_of_reference: the frame of reference; empty if there is none.
    """

    study_uid: str
    series_uid: str
    modality: str
    number: str
    description: str
    image_type: tuple[str, ...]
    synthetic: bool
    contrast_agent: bool
    repetition_time_ms: float | None
    inversion_time_ms: float | None
    frame_of_reference: str


@dataclass(frozen=True)
class Frame:
    """One slice: where it lies, and how its stored values become the image's.

    Attributes:
        source: the file.
        index: the frame's place in the file, from 0.
        frames_in_file: the number of frames of the file.
        class_uid, instance_uid: SOP Class and SOP Instance UID of the file.
        header: what the file says of the series.
        shape: rows and columns.
        spacing_mm: distance of rows, and distance of columns.
        position: (3,) the centre of the first pixel in mm, LPS.
        along_row, along_column: (3,) unit vectors, LPS.
        thickness_mm, between_mm: slice thickness and spacing between slices; None where unsaid.
        slope, intercept: stored value → value.
        tells_apart: values that tell images of one position apart, by keyword.
    """

    source: Source
    index: int
    frames_in_file: int
    class_uid: str
    instance_uid: str
    header: Header
    shape: tuple[int, int]
    spacing_mm: tuple[float, float]
    position: NDArray[np.float64]
    along_row: NDArray[np.float64]
    along_column: NDArray[np.float64]
    thickness_mm: float | None
    between_mm: float | None
    slope: float
    intercept: float
    tells_apart: dict[str, str]

    @property
    def normal(self) -> NDArray[np.float64]:
        """(3,) the direction in which slices are stacked."""
        return np.cross(self.along_row, self.along_column)


# Tags that tell images of one position apart, the most telling first, with their name in words.
TELLING = {
    "EchoTime": "echo time",
    "EchoNumbers": "echo",
    "TemporalPositionIdentifier": "time point",
    "TemporalPositionIndex": "time point",
    "DiffusionBValue": "b-value",
    "InversionTime": "inversion time",
    "FlipAngle": "flip angle",
    "ImageType": "image type",
    "ContrastBolusAgent": "contrast agent",
    "TriggerTime": "trigger time",
    "AcquisitionNumber": "acquisition",
}


@dataclass(frozen=True)
class Unusable:
    """A file, or a series, that is no image that syndiff reads, and why."""

    source: Source
    error: UserError
    header: Header | None = None


def frames_of(source: Source) -> list[Frame] | Unusable:
    """The frames of a DICOM file, or why it has none that can be used."""
    header: Header | None = None
    try:
        data = dataset(source, pixels=False)
        header = _header(Tags([data], source))
        return list(_frames(data, source, header))
    except UserError as error:
        return Unusable(source, error, header)
    except Exception as error:  # a header can be wrong in more ways than pydicom's errors name
        problem = VolumeError(
            f"the header of {source} makes no sense ({type(error).__name__})", "a DICOM file"
        )
        return Unusable(source, problem, header)


def dataset(source: Source, *, pixels: bool, tags: tuple[str, ...] | None = READ) -> Any:
    """A file's data set.

    Args:
        source: the file.
        pixels: read all of the file with its pixels; else only the tags.
        tags: the tags to read, if the pixels are not; None: all of them.

    Raises:
        VolumeError: the file is no DICOM file.
    """
    from pydicom.filereader import read_partial
    from pydicom.tag import Tag

    wanted: list[Any] | None = None if pixels or tags is None else [Tag(tag) for tag in tags]
    try:
        with quiet(), source.open() as file:
            return read_partial(
                file, stop_when=_at_end(pixels=pixels), force=True, specific_tags=wanted
            )
    except UserError:
        raise
    except MemoryError as error:
        raise VolumeError(f"{source} does not fit into memory") from error
    except Exception as error:  # pydicom raises many types; each means "not a DICOM file"
        raise VolumeError(
            f"{source} is not a readable DICOM file ({type(error).__name__})",
            "a whole DICOM file",
            "copy it again",
        ) from error


def _at_end(*, pixels: bool) -> Callable[[int, str | None, int], bool]:
    """Tells the reader to stop before the pixels, or behind them.

    What follows the pixels is never needed, and in real files it is at times megabytes of zeros,
    each of which would be read as a tag.
    """
    passed = False

    def stop(tag: int, vr: str | None, length: int) -> bool:
        nonlocal passed
        if passed or (not pixels and tag >= FIRST_PIXEL_TAG):
            return True
        passed = tag in PIXEL_TAGS
        return False

    return stop


def _header(tags: Tags) -> Header:
    description = tags.loose("SeriesDescription") or tags.loose("ProtocolName")
    kind = tags.text("ImageType") or tags.text("FrameType")
    return Header(
        study_uid=tags.text("StudyInstanceUID"),
        series_uid=tags.uid("SeriesInstanceUID"),
        modality=tags.text("Modality").upper(),
        number=tags.loose("SeriesNumber"),
        description=description,
        image_type=tuple(part.strip().upper() for part in kind.split("\\")) if kind else (),
        synthetic=tags.text("SyntheticData").upper() == "YES",
        contrast_agent=bool(tags.loose("ContrastBolusAgent")),
        repetition_time_ms=_or_none(tags, "RepetitionTime"),
        inversion_time_ms=_or_none(tags, "InversionTime"),
        frame_of_reference=tags.text("FrameOfReferenceUID"),
    )


def _or_none(tags: Tags, keyword: str) -> float | None:
    """A number that is only shown; None if it is missing or wrong."""
    try:
        return tags.number(keyword)
    except VolumeError:
        return None


def _frames(data: Any, source: Source, header: Header) -> Iterator[Frame]:
    own = Tags([data], source)
    if header.modality not in MODALITIES:
        raise VolumeError(
            f"{source} is of modality {header.modality or 'unknown'}", "MR or CT images"
        )
    if own.number("Rows") is None and own.number("Columns") is None:
        raise VolumeError(f"{source} holds no image", "MR or CT images")
    if own.whole("SamplesPerPixel", 1, 4, default=1) != 1 or own.text(
        "PhotometricInterpretation"
    ) not in ("", "MONOCHROME1", "MONOCHROME2"):
        raise VolumeError(f"{source} holds colours", "one grey value per pixel")
    if header.modality == "MR" and own.text("PhotometricInterpretation") == "MONOCHROME1":
        raise VolumeError(f"{source} is stored in negative (MONOCHROME1)", "MONOCHROME2")
    count = own.whole("NumberOfFrames", 1, MOST_FRAMES, default=1)
    shared, per_frame = (_items(data, keyword, source) for keyword in FUNCTIONAL_GROUPS)
    if count > 1 and len(per_frame) != count:
        raise VolumeError(
            f"{source} holds {count} frames and says of {len(per_frame)} where they lie",
            "an enhanced file that says it of each frame",
        )
    for index in range(count):
        levels = [*_leaves(per_frame[index : index + 1]), *_leaves(shared), data]
        yield _frame(Tags(levels, source), source, index, count, header)


def _items(data: Any, keyword: str, source: Source) -> list[Any]:
    with quiet():
        found = data.get(keyword)
    if found is None:
        return []
    if type(found).__name__ != "Sequence":
        raise VolumeError(f"the tag {keyword} of {source} is missing or wrong", "a sequence")
    return list(found)


def _leaves(items: list[Any]) -> list[Any]:
    """The items of the functional groups in an item: each of them holds tags of one matter."""
    found = []
    for item in items:
        for element in item:
            if element.VR == "SQ" and not element.tag.is_private and element.value:
                found.append(element.value[0])
    return found


def _frame(tags: Tags, source: Source, index: int, count: int, header: Header) -> Frame:
    shape = tags.whole("Rows", 1, LARGEST_SIDE), tags.whole("Columns", 1, LARGEST_SIDE)
    along_row, along_column = _directions(tags, source)
    slope = tags.number("RescaleSlope")
    if slope == 0:
        raise VolumeError(f"the Rescale Slope of {source} is 0", "a factor")
    told = {keyword: tags.loose(keyword) for keyword in TELLING}
    told["EchoTime"] = told["EchoTime"] or tags.loose("EffectiveEchoTime")
    told["ImageType"] = tags.loose("FrameType") or told["ImageType"]
    return Frame(
        source=source,
        index=index,
        frames_in_file=count,
        class_uid=tags.uid("SOPClassUID"),
        instance_uid=tags.uid("SOPInstanceUID"),
        header=header,
        shape=shape,
        spacing_mm=_spacing(tags, source),
        position=np.array(_needed(tags, "ImagePositionPatient", 3, source)),
        along_row=along_row,
        along_column=along_column,
        thickness_mm=_or_none(tags, "SliceThickness"),
        between_mm=_or_none(tags, "SpacingBetweenSlices"),
        slope=1.0 if slope is None else slope,
        intercept=tags.number("RescaleIntercept") or 0.0,
        tells_apart=told,
    )


def _needed(tags: Tags, keyword: str, count: int, source: Source) -> tuple[float, ...]:
    found = tags.numbers(keyword, count)
    if found is None:
        raise VolumeError(
            f"{source} does not say where it lies: the tag {keyword} is missing or blank",
            "a file that states its position, orientation and spacing",
        )
    return found


def _spacing(tags: Tags, source: Source) -> tuple[float, float]:
    rows, columns = _needed(tags, "PixelSpacing", 2, source)
    if not (0 < rows < 1e3 and 0 < columns < 1e3):
        raise VolumeError(f"the Pixel Spacing of {source} is {rows:g}, {columns:g}", "mm above 0")
    return rows, columns


def _directions(tags: Tags, source: Source) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    both = np.array(_needed(tags, "ImageOrientationPatient", 6, source)).reshape(2, 3)
    lengths = np.linalg.norm(both, axis=1)
    if np.abs(lengths - 1).max() > UNIT_LENGTH or abs(both[0] @ both[1]) > UNIT_LENGTH:
        raise VolumeError(
            f"the Image Orientation of {source} is no pair of directions at right angles",
            "two unit vectors",
        )
    return both[0] / lengths[0], both[1] / lengths[1]
