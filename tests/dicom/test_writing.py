"""A derived series: what it says, where it lies, what it leaves out, read by other programs."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest

from syndiff.dicom.datasets import Derivation
from syndiff.dicom.options import DicomOptions
from syndiff.dicom.reading import read
from syndiff.dicom.writing import write_series
from syndiff.errors import OptionError, UserError
from syndiff.io import formats
from syndiff.io.volume import Volume, same_grid
from tests.helpers.dicom import CT, MR, VirtualSeries, enhanced, errors_of, pattern, save

OBLIQUE = tuple(np.ravel([[0.8, 0.6, 0.0], [-0.48, 0.64, 0.6]]))
DIGEST = "ab" * 32
T2 = Derivation("T1", "T2", "a.u.", "T1_to_T2 (syndiff)", DIGEST, "0.1.0")
TO_CT = replace(T2, target="CT", unit="HU")


def made_of(source: Volume, unit: str = "a.u.") -> Volume:
    """A synthetic volume on the grid of a source, with values that no whole number holds."""
    values = source.array / np.float32(7.3) if unit != "HU" else source.array - np.float32(1024.4)
    return replace(source.like(values), synthetic="SYNTHETIC image (syndiff)")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An oblique MR series."""
    series = VirtualSeries(pattern(), orientation=OBLIQUE)
    return series.write(tmp_path_factory.mktemp("source") / "mr")


@pytest.fixture(scope="module")
def derived(source: Path) -> Path:
    """The derived series of it."""
    folder = source.parent / "T2"
    write_series(made_of(read(source)), folder, T2, now=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    return folder


def heads(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]


def test_what_each_image_says(source: Path, derived: Path) -> None:
    before, after = heads(source), heads(derived)
    assert len(after) == len(before)
    assert len({d.SOPInstanceUID for d in after}) == len(after)
    assert len({d.SeriesInstanceUID for d in after}) == 1
    places = {tuple(d.ImagePositionPatient): d for d in before}
    for data in after:
        twin = places[tuple(data.ImagePositionPatient)]
        for kept in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate",
                     "StudyInstanceUID", "FrameOfReferenceUID", "ImageOrientationPatient",
                     "PixelSpacing", "PatientPosition", "AccessionNumber"):  # fmt: skip
            assert data[kept].value == twin[kept].value, kept
        assert data.SeriesInstanceUID != twin.SeriesInstanceUID
        assert (
            data.SOPInstanceUID
            != twin.SOPInstanceUID
            == data.SourceImageSequence[0].ReferencedSOPInstanceUID
        )
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
    first = after[0]
    assert first.SOPClassUID == MR
    assert first.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert (first.SyntheticData, first.ContentQualification) == ("YES", "RESEARCH")
    assert (first.BurnedInAnnotation, first.LossyImageCompression) == ("NO", "00")
    assert "SYNTHETIC T2" in first.SeriesDescription
    assert "Not for diagnosis" in first.DerivationDescription
    purpose = first.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0]
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("121322", "DCM")
    (equipment,) = first.ContributingEquipmentSequence
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert (equipment.Manufacturer, equipment.SoftwareVersions) == ("syndiff", "0.1.0")
    assert DIGEST in equipment.ContributionDescription
    assert (first.BitsAllocated, first.BitsStored) == (16, 16)


def test_nothing_of_the_acquisition_is_left(derived: Path) -> None:
    for data in heads(derived):
        for keyword in ("SequenceName", "AcquisitionNumber", "ProtocolName", "FlipAngle"):
            assert keyword not in data
        assert not [data.get(k) for k in ("EchoTime", "RepetitionTime") if data.get(k)]
        assert data.Manufacturer == "syndiff"
        assert not [e for e in data if e.tag.is_private]


def test_it_reads_back_on_the_grid_of_its_source(source: Path, derived: Path) -> None:
    before, after = read(source), read(derived)
    assert same_grid(before, after, tolerance_mm=1e-6)
    wanted = made_of(before).array
    step = wanted.max() / 32767
    # Half a step by rounding, and float32 on either side.
    assert np.abs(after.array - wanted).max() <= 0.5 * step + 4e-7 * wanted.max()
    assert after.synthetic


def test_ct_is_in_hu(source: Path, tmp_path: Path) -> None:
    made = made_of(read(source), "HU")
    write_series(made, tmp_path / "ct", TO_CT)
    first = heads(tmp_path / "ct")[0]
    assert (first.SOPClassUID, first.Modality) == (CT, "CT")
    assert (first.RescaleSlope, first.RescaleIntercept, first.RescaleType) == (1, -1024, "HU")
    assert "EchoTime" not in first
    assert "KVP" in first
    found = read(tmp_path / "ct")
    np.testing.assert_array_equal(found.array, np.maximum(np.rint(made.array), -1024))


def test_simpleitk_sees_the_same_grid_and_values(source: Path, derived: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    images = []
    for folder in (source, derived):
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
        images.append(sitk.ReadImage(names))
    before, after = images
    assert before.GetSize() == after.GetSize()
    for what in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(after, what)(), getattr(before, what)(), atol=1e-6)
    wanted = sitk.GetArrayFromImage(before) / 7.3
    np.testing.assert_allclose(sitk.GetArrayFromImage(after), wanted, atol=wanted.max() / 60000)


def test_dcm2niix_sees_the_same_grid_and_values(
    source: Path, derived: Path, tmp_path: Path
) -> None:
    if shutil.which("dcm2niix") is None:
        pytest.skip("needs dcm2niix (apt install dcm2niix)")
    volumes = []
    for name, folder in (("before", source), ("after", derived)):
        command = ["dcm2niix", "-z", "n", "-b", "n", "-f", name, "-o", str(tmp_path), str(folder)]
        subprocess.run(command, check=True, capture_output=True)
        volumes.append(formats.read(tmp_path / f"{name}.nii"))
    before, after = volumes
    assert same_grid(before, after, tolerance_mm=1e-3)
    assert same_grid(before, read(source), tolerance_mm=1e-3)
    wanted = before.array / 7.3
    np.testing.assert_allclose(after.array, wanted, atol=wanted.max() / 60000)


def test_dciodvfy_finds_no_new_error(source: Path, derived: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("needs dciodvfy (apt install dicom3tools)")
    new = errors_of(next(iter(sorted(derived.iterdir())))) - errors_of(source / "000.dcm")
    # Synthetic Data is younger (2023) than the tables of many a dciodvfy.
    assert not {line for line in new if "0x0008,0x001c" not in line}


def test_an_enhanced_source_is_referenced_by_frame(tmp_path: Path) -> None:
    save(enhanced(VirtualSeries(pattern((8, 10, 3))), (2, 0, 1)), tmp_path / "one.dcm")
    write_series(made_of(read(tmp_path / "one.dcm")), tmp_path / "out", T2)
    frames = [d.SourceImageSequence[0].ReferencedFrameNumber for d in heads(tmp_path / "out")]
    assert frames == [2, 3, 1]
    assert same_grid(read(tmp_path / "out"), read(tmp_path / "one.dcm"), 1e-6)


def test_a_resampled_source_gives_a_regular_series(tmp_path: Path) -> None:
    series = VirtualSeries(pattern())
    del series.slices[2]
    source = read(series.write(tmp_path / "gap"), DicomOptions(regular_grid=True))
    write_series(made_of(source), tmp_path / "out", T2)
    assert same_grid(read(tmp_path / "out"), source, 1e-6)
    counts = [len(d.SourceImageSequence) for d in heads(tmp_path / "out")]
    assert counts == [1, 1, 2, 1, 1, 1]  # the missing slice was made of its neighbours


def test_further_sources_are_referenced(source: Path, tmp_path: Path) -> None:
    second = VirtualSeries(pattern(), orientation=OBLIQUE, uid="1.2.3.4.8").write(tmp_path / "b")
    write_series(made_of(read(source)), tmp_path / "out", T2, [read(second)])
    found = {d.SourceImageSequence[1].ReferencedSOPInstanceUID for d in heads(tmp_path / "out")}
    assert found == {f"1.2.3.4.8.{k + 1}" for k in range(6)}


def test_lossy_sources_stay_lossy(tmp_path: Path) -> None:
    tags = {"LossyImageCompression": "01", "LossyImageCompressionRatio": 8}
    folder = VirtualSeries(pattern(), tags=tags).write(tmp_path / "a")
    write_series(made_of(read(folder)), tmp_path / "out", T2)
    assert {d.LossyImageCompression for d in heads(tmp_path / "out")} == {"01"}


def test_only_our_own_series_is_replaced(source: Path, tmp_path: Path) -> None:
    made, folder = made_of(read(source)), tmp_path / "out"
    (tmp_path / "out").mkdir()  # an empty folder is nobody's
    write_series(made, folder, T2)
    once = {d.SeriesInstanceUID for d in heads(folder)}
    write_series(made, folder, T2)
    assert once.isdisjoint({d.SeriesInstanceUID for d in heads(folder)})
    shutil.copy(source / "000.dcm", folder / "acquired.dcm")
    held = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(OptionError, match=r"acquired\.dcm"):
        write_series(made, folder, T2)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == held
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_nothing(source: Path, tmp_path: Path, monkeypatch) -> None:
    def full(self: pydicom.Dataset, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pydicom.Dataset, "save_as", full)
    with pytest.raises(UserError, match="No space left"):
        write_series(made_of(read(source)), tmp_path / "out", T2)
    assert not list(tmp_path.iterdir())


def test_a_volume_of_another_format_has_no_series(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no DICOM"):
        write_series(Volume(pattern(), np.eye(4)), tmp_path / "out", T2)
