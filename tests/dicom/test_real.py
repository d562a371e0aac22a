"""Real series: in by us and by other programs, out as derived series on the same grid."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from syndiff.dicom.datasets import Derivation
from syndiff.dicom.options import DicomOptions
from syndiff.dicom.reading import read
from syndiff.dicom.series import series_of
from syndiff.dicom.writing import write_series
from syndiff.errors import VolumeError
from syndiff.io.volume import same_grid
from syndiff.preparation.values import understood

pytestmark = pytest.mark.real_data
MADE = Derivation("PD", "T2", "a.u.", "PD_to_T2 (syndiff)", "ab" * 32, "0.1.0")


@pytest.mark.parametrize("name", ["dicom_mr_pd", "dicom_ct_head"])
def test_values_and_grid_are_those_of_simpleitk(name: str, test_data: Path, tmp_path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    for path in (test_data / name).iterdir():
        if path.stat().st_size < 1e6:  # SimpleITK takes a minute for one with zeros at its end
            shutil.copy(path, tmp_path)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path)))
    volume = read(tmp_path)
    stored = volume.stored
    back = np.flip(volume.array, tuple(i for i in range(3) if stored.orientation[i, 1] < 0))
    np.testing.assert_array_equal(back, sitk.GetArrayFromImage(image).transpose(2, 1, 0))
    origin = np.diag([-1, -1, 1]) @ stored.affine[:3, 3]
    np.testing.assert_allclose(origin, image.GetOrigin(), atol=1e-4)


def test_the_order_of_a_ct_is_not_that_of_its_names(test_data: Path, tmp_path: Path) -> None:
    folder = test_data / "dicom_ct_head"
    for number, path in enumerate(sorted(folder.iterdir(), key=lambda p: p.name[::-1])):
        shutil.copyfile(path, tmp_path / f"IM{number}")
    again, first = read(tmp_path), read(folder)
    np.testing.assert_array_equal(again.array, first.array)
    heights = [frame.position[2] for frame in series_of(folder)[0].stack.frames]  # type: ignore[union-attr]
    assert heights == sorted(heights)


def test_hu_stored_with_an_offset_is_never_guessed(test_data: Path) -> None:
    folder = test_data / "dicom_ct_head"
    with pytest.raises(VolumeError, match="HU \\+ 1024"):
        understood(read(folder).array, "HU")
    understood(read(folder, DicomOptions(hu_offset=-1024)).array, "HU")


@pytest.mark.parametrize("name", ["dicom_mr_pd", "dicom_ct_head"])
def test_there_and_back(name: str, test_data: Path, tmp_path: Path) -> None:
    source = read(test_data / name)
    made = replace(source.like(source.array / np.float32(3.7)), synthetic="SYNTHETIC")
    files = write_series(made, tmp_path / "out", MADE)
    found = read(tmp_path / "out")
    assert same_grid(found, source, tolerance_mm=1e-4)
    step = made.array.max() / 32767
    assert np.abs(found.array - made.array).max() <= 0.5 * step + 4e-7 * made.array.max()
    first = pydicom.dcmread(next((test_data / name).iterdir()))
    for path in files:
        data = pydicom.dcmread(path)
        assert data.StudyInstanceUID == first.StudyInstanceUID
        assert data.PatientID == first.PatientID
