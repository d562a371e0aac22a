"""Small virtual DICOM series, written with pydicom alone: our own writer is not trusted."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from syndiff.io.volume import Volume, to_slices
from tests.helpers.volumes import head

MR, CT, ENHANCED_MR = (
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.4.1",
)
PATIENT = "Virtual^Person"
PATIENT_ID = "PID-31415"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass
class VirtualSeries:
    """A series in memory; its files are the data sets in `slices`.

    Attributes:
        values: (columns, rows, slices) whole numbers as they are stored.
        orientation: Image Orientation (Patient).
        spacing: distance of rows, of columns and of slices in mm.
        tags: further tags of every slice.
    """

    values: NDArray[np.int16]
    modality: str = "MR"
    orientation: Sequence[float] = AXIAL
    spacing: tuple[float, float, float] = (2.0, 3.0, 4.0)
    origin: Sequence[float] = (-20.0, -30.0, 40.0)
    uid: str = "1.2.3.4.5"
    tags: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        normal = np.cross(self.orientation[:3], self.orientation[3:])
        self.slices = [
            self._slice(k, np.add(self.origin, normal * self.spacing[2] * k))
            for k in range(self.values.shape[2])
        ]

    def _slice(self, k: int, position: NDArray[np.float64]) -> Dataset:
        data = Dataset()
        data.SOPClassUID = CT if self.modality == "CT" else MR
        data.SOPInstanceUID = f"{self.uid}.{k + 1}"
        data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3", self.uid
        data.FrameOfReferenceUID = "1.2.3.9"
        data.PatientName, data.PatientID = PATIENT, PATIENT_ID
        data.PatientBirthDate, data.PatientSex = "19700101", "O"
        data.StudyDate, data.StudyTime, data.StudyID = "20200102", "030405", "1"
        data.AccessionNumber, data.ReferringPhysicianName = "A1", "Doctor^Virtual"
        data.Manufacturer, data.BodyPartExamined, data.PatientPosition = "Maker", "HEAD", "HFS"
        data.PositionReferenceIndicator = ""
        data.Modality, data.SeriesNumber, data.SeriesDescription = self.modality, 7, "T1 axial"
        data.InstanceNumber, data.AcquisitionNumber = k + 1, 1
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if self.modality == "CT" else "M"]
        if self.modality == "CT":
            data.KVP, data.RescaleIntercept, data.RescaleSlope = 120, -1024, 1
        else:
            data.ScanningSequence, data.SequenceVariant, data.ScanOptions = "SE", "NONE", ""
            data.MRAcquisitionType, data.EchoTrainLength = "2D", 1
            data.EchoTime, data.RepetitionTime, data.SequenceName = 12, 500, "se"
        data.ImagePositionPatient = [float(f"{v:.6f}") for v in position]
        data.ImageOrientationPatient = [float(f"{v:.9f}") for v in self.orientation]
        data.PixelSpacing, data.SliceThickness = list(self.spacing[:2]), self.spacing[2]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        set_pixels(data, self.values[:, :, k])
        for keyword, value in self.tags.items():
            setattr(data, keyword, value)
        return data

    def write(self, folder: Path, names: Callable[[int], str] = "{:03d}.dcm".format) -> Path:
        """Write the files; `names` gives the name of the file at a place."""
        folder.mkdir(parents=True, exist_ok=True)
        for k, data in enumerate(self.slices):
            save(data, folder / names(k))
        return folder


def head_series(volume: Volume | None = None, **how: object) -> VirtualSeries:
    """A head as an axial series: columns to the left, rows to the back, slices upwards."""
    volume = volume or head()
    noise = np.random.default_rng(volume.array.shape[2]).normal(20, 5, volume.array.shape)
    noisy = to_slices(volume.like(np.abs(volume.array + noise)))
    values = np.rint(noisy[:, ::-1, ::-1]).astype(np.int16).transpose(2, 1, 0)
    x, y, z = volume.spacing_mm
    return VirtualSeries(values, spacing=(y, x, z), **how)  # type: ignore[arg-type]


def set_pixels(data: Dataset, values: NDArray[np.integer]) -> None:
    """Put (columns, rows) values into a data set, as 16 bits with sign."""
    data.Columns, data.Rows = values.shape
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1
    data.PixelData = np.ascontiguousarray(values.T, dtype="<i2").tobytes()
    data["PixelData"].VR = "OW"


def save(data: Dataset, path: Path) -> None:
    """Save a data set with a file header, whatever its tags hold."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = data.get("SOPClassUID") or MR
    meta.MediaStorageSOPInstanceUID = data.get("SOPInstanceUID") or "1.2"
    data.file_meta = meta
    with pydicom.config.disable_value_validation():
        pydicom.dcmwrite(path, data, enforce_file_format=True)


def pattern(shape: tuple[int, int, int] = (8, 10, 6), least: int = 0) -> NDArray[np.int16]:
    """Values that differ from voxel to voxel and from axis to axis."""
    x, y, z = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    return (least + 1 + x + 20 * y + 300 * z).astype(np.int16)


def enhanced(series: VirtualSeries, order: Sequence[int]) -> Dataset:
    """One multi-frame file of the slices of a series, in this order."""
    first = series.slices[0]
    data = deepcopy(first)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
                    "SliceThickness", "EchoTime"):  # fmt: skip
        delattr(data, keyword)
    data.SOPClassUID, data.NumberOfFrames = ENHANCED_MR, len(order)
    measures, plane = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, first.SliceThickness
    plane.ImageOrientationPatient = first.ImageOrientationPatient
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    data.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for k in order:
        position, frame, rescale = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = series.slices[k].ImagePositionPatient
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 2, k, "US"
        frame.PlanePositionSequence = [position]
        frame.PixelValueTransformationSequence = [rescale]
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = frames
    data.PixelData = b"".join(series.slices[k].PixelData for k in order)
    return data


def errors_of(path: Path) -> set[str]:
    """The errors that dciodvfy reports of a file, without the UIDs in them."""
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
    lines = (done.stdout + done.stderr).splitlines()
    return {re.sub(r'"[\d.]+"', "UID", line) for line in lines if line.startswith("Error")}
