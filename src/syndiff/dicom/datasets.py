"""The data sets of a derived series: what is kept of the source, and what is said of the image.

What is kept is listed here; every other tag of the source is dropped. Sources: DICOM PS3.3, MR
Image (C.8.3) and CT Image (C.8.2), SOP Common (C.12.1: Synthetic Data, Content Qualification,
Contributing Equipment), General Image and General Reference (C.7.6.1, C.12.4: source images);
PS3.16 for the codes 121322 and 109102.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.dicom.frames import Frame
from syndiff.dicom.series import Series
from syndiff.io.marks import SYNTHETIC_MARK

MR_IMAGE, CT_IMAGE = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2"
MAKER = "syndiff"
SOURCE_IMAGE = ("121322", "DCM", "Source Image for Image Processing Operation")
PROCESSING_EQUIPMENT = ("109102", "DCM", "Processing Equipment")

# Copied as they are. Type 2 tags that the source lacks are written empty.
PATIENT = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
)  # fmt: skip
STUDY = ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID")
IF_THERE = (
    "SpecificCharacterSet", "TimezoneOffsetFromUTC", "IssuerOfPatientID", "PatientBirthTime",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified", "StudyDescription", "PatientAge", "PatientSize",
    "PatientWeight", "ClinicalTrialSponsorName", "ClinicalTrialProtocolID",
    "ClinicalTrialSubjectID", "BodyPartExamined", "Laterality", "PatientPosition",
)  # fmt: skip
LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


@dataclass(frozen=True)
class Derivation:
    """How a volume was made.

    Attributes:
        source, target: the modalities, e.g. "T1" and "T2".
        unit: "HU" for CT, else "a.u.".
        model: the translator's name.
        digest: SHA-256 of its weights.
        version: of syndiff.
    """

    source: str
    target: str
    unit: str
    model: str
    digest: str
    version: str


@dataclass(frozen=True)
class Plane:
    """Where a slice lies, in mm, LPS; see `frames.Frame`."""

    position: NDArray[np.float64]
    along_row: NDArray[np.float64]
    along_column: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    thickness_mm: float
    between_mm: float


@dataclass(frozen=True)
class SeriesTags:
    """The tags that all images of a derived series share.

    Attributes:
        data: the data set, without what differs from slice to slice.
        ct: whether the images are CT images.
    """

    data: Any
    ct: bool


def series_tags(
    template: Any,
    series: Series,
    made: Derivation,
    uid: Callable[[], str],
    now: datetime,
) -> SeriesTags:
    """What all images of a derived series share.

    Args:
        template: the header of one file of the source series.
        series: the source series.
        made: how the volume was made.
        uid: makes UIDs.
        now: the time that the images carry.
    """
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

    data, ct = Dataset(), made.unit == "HU"
    for keyword in (*PATIENT, *STUDY, *IF_THERE):
        _copy(template, data, keyword, or_empty=keyword not in IF_THERE)
    data.SOPClassUID = UID(CT_IMAGE if ct else MR_IMAGE)
    data.StudyInstanceUID = UID(series.header.study_uid or uid())
    data.SeriesInstanceUID = UID(uid())
    data.FrameOfReferenceUID = UID(series.header.frame_of_reference or uid())
    _copy(template, data, "PositionReferenceIndicator", or_empty=True)
    data.Modality = "CT" if ct else "MR"
    data.SeriesNumber = _series_number(series.header.number)
    data.SeriesDescription = _ascii(
        f"SYNTHETIC {made.target} from {made.source}, not for diagnosis", 64
    )
    _dated(data, now)
    _said(data, made, now)
    data.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if ct else "OTHER"]
    data.BurnedInAnnotation = "NO"
    if template.get("LossyImageCompression") == "01":  # once lossy, always lossy
        for keyword in LOSSY:
            _copy(template, data, keyword)
    else:
        data.LossyImageCompression = "00"
    _acquisition(data, ct=ct)
    return SeriesTags(data, ct)


def image(
    tags: SeriesTags,
    instance_uid: str,
    number: int,
    plane: Plane,
    sources: Sequence[Frame],
    stored: NDArray[np.uint16],
    rescale: tuple[float, float],
    window: tuple[float, float],
) -> Any:
    """One image of a derived series, ready to be saved.

    Args:
        tags: what it shares with the others.
        instance_uid: its SOP Instance UID.
        number: its place in the stack, from 1.
        plane: where it lies.
        sources: the images that it was made from.
        stored: (rows, columns) the pixels.
        rescale: slope and intercept.
        window: centre and width for display.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    data = Dataset()
    data.update(tags.data)
    data.SOPInstanceUID = UID(instance_uid)
    data.InstanceNumber = number
    _place(data, plane)
    data.SourceImageSequence = [_reference(frame) for frame in sources]
    _pixels(data, stored, rescale, window, ct=tags.ct)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = data.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationVersionName = MAKER.upper()
    data.file_meta = meta
    return data


def _copy(template: Any, data: Any, keyword: str, or_empty: bool = False) -> None:
    from pydicom.tag import Tag

    tag = Tag(keyword)
    try:
        if tag in template:
            data[tag] = template[tag]
            return
    except Exception:  # the source holds a value that fits no type: as good as missing
        pass
    if or_empty:
        setattr(data, keyword, "")


def _series_number(number: str) -> int:
    """The source's number followed by 01."""
    made = int(number) * 100 + 1 if number.isdigit() else 9901
    return made if made < 2**31 else 9901


def _dated(data: Any, now: datetime) -> None:
    day, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    data.InstanceCreationDate = data.SeriesDate = data.ContentDate = day
    data.InstanceCreationTime = data.SeriesTime = data.ContentTime = time


def _said(data: Any, made: Derivation, now: datetime) -> None:
    """That the image is synthetic, and by what it was made."""
    how = f"{made.model}, weights SHA-256 {made.digest}"
    data.SyntheticData = "YES"
    data.ContentQualification = "RESEARCH"
    data.ImageComments = SYNTHETIC_MARK
    data.DerivationDescription = _ascii(
        f"Synthetic {made.target} image made from {made.source} by syndiff {made.version} "
        f"({how}). Not acquired by a scanner. Not for diagnosis.", 1024
    )  # fmt: skip
    data.Manufacturer = data.ManufacturerModelName = MAKER
    data.SoftwareVersions = _ascii(made.version, 64)
    data.ContributingEquipmentSequence = [_equipment(made, how, now)]


def _equipment(made: Derivation, how: str, now: datetime) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [_code(PROCESSING_EQUIPMENT)]
    item.Manufacturer = item.ManufacturerModelName = MAKER
    item.SoftwareVersions = _ascii(made.version, 64)
    item.ContributionDateTime = now.strftime("%Y%m%d%H%M%S%z")
    item.ContributionDescription = _ascii(f"Image translation by {how}", 1024)
    return item


def _acquisition(data: Any, *, ct: bool) -> None:
    """The tags of an acquisition that the standard demands: empty, or "research mode"."""
    if ct:
        data.KVP = None
        data.AcquisitionNumber = None
        return
    data.ScanningSequence = "RM"
    data.SequenceVariant = "NONE"
    data.ScanOptions = data.MRAcquisitionType = ""
    data.EchoTime = data.RepetitionTime = data.EchoTrainLength = None


def _place(data: Any, plane: Plane) -> None:
    row_mm, column_mm = plane.spacing_mm
    data.ImagePositionPatient = [_ds(v) for v in plane.position]
    data.ImageOrientationPatient = [_ds(v) for v in (*plane.along_row, *plane.along_column)]
    data.PixelSpacing = [_ds(row_mm), _ds(column_mm)]
    data.SliceThickness = _ds(plane.thickness_mm)
    normal = np.cross(plane.along_row, plane.along_column)
    data.SliceLocation = _ds(float(plane.position @ normal))
    if data.Modality == "MR":
        data.SpacingBetweenSlices = _ds(plane.between_mm)


def _reference(frame: Frame) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = frame.class_uid
    item.ReferencedSOPInstanceUID = frame.instance_uid
    if frame.frames_in_file > 1:
        item.ReferencedFrameNumber = frame.index + 1
    item.PurposeOfReferenceCodeSequence = [_code(SOURCE_IMAGE)]
    item.SpatialLocationsPreserved = "YES"
    return item


def _pixels(
    data: Any,
    stored: NDArray[np.uint16],
    rescale: tuple[float, float],
    window: tuple[float, float],
    *,
    ct: bool,
) -> None:
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = stored.shape
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.RescaleSlope, data.RescaleIntercept = map(_ds, rescale)
    data.RescaleType = "HU" if ct else "US"
    data.WindowCenter, data.WindowWidth = map(_ds, window)
    data.PixelData = np.ascontiguousarray(stored, dtype="<u2").tobytes()
    data["PixelData"].VR = "OW"


def _code(code: tuple[str, str, str]) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return item


def _ds(value: float) -> Any:
    from pydicom.valuerep import DS

    return DS(float(value) + 0.0, auto_format=True)  # -0 becomes 0


def _ascii(text: str, longest: int) -> str:
    """A text in the characters that every character set of DICOM has."""
    return text.encode("ascii", "replace").decode().replace("\\", "/")[:longest]
