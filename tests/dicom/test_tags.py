"""Single tags removed, blanked or of a wrong type, and headers at random: a volume or one line."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from syndiff.dicom.reading import read
from syndiff.dicom.series import series_of
from syndiff.dicom.tags import READ
from syndiff.errors import UserError
from syndiff.io.volume import Volume
from tests.helpers.dicom import PATIENT, VirtualSeries, enhanced, pattern, save

# Without these no geometry or no pixels are left; the other tags may be missing.
NEEDED = {
    "BitsAllocated", "BitsStored", "Columns", "ImageOrientationPatient", "ImagePositionPatient",
    "Modality", "PhotometricInterpretation", "PixelRepresentation", "PixelSpacing", "Rows",
    "SOPClassUID", "SOPInstanceUID", "SamplesPerPixel", "SeriesInstanceUID",
}  # fmt: skip
NAME = f"{PATIENT}="


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small slices."""
    return VirtualSeries(pattern((4, 5, 3))).write(tmp_path_factory.mktemp("tags"))


def outcome(folder: Path) -> Volume | str:
    """A sound volume, or the one line that refuses it."""
    try:
        series_of(folder)
        volume = read(folder)
    except UserError as error:
        line = str(error)
        assert line
        assert "\n" not in line
        assert len(line) < 900
        assert PATIENT not in line
        return line
    assert np.isfinite(volume.array).all()
    assert np.isfinite(volume.affine).all()
    return volume


def blanked(data: Dataset, keyword: str) -> None:
    data.add_new(keyword, dictionary_VR(keyword), None)


def removed(data: Dataset, keyword: str) -> None:
    if keyword in data:
        delattr(data, keyword)


def a_name(data: Dataset, keyword: str) -> None:
    removed(data, keyword)
    data.add_new(keyword, "LO", NAME)


def numbers(data: Dataset, keyword: str) -> None:
    removed(data, keyword)
    data.add_new(keyword, "DS", ["-1", "0", "1e30", "7"])


def a_sequence(data: Dataset, keyword: str) -> None:
    removed(data, keyword)
    data.add_new(keyword, "SQ", [Dataset()])


@pytest.mark.parametrize("change", [removed, blanked, a_name, numbers, a_sequence])
@pytest.mark.parametrize("keyword", READ)
def test_one_tag_of_one_file(keyword: str, change, folder: Path) -> None:
    path = folder / "001.dcm"
    whole = path.read_bytes()
    try:
        data = pydicom.dcmread(path)
        change(data, keyword)
        try:
            save(data, path)
        except Exception:  # pydicom cannot write a value of this kind, so no file holds it
            pytest.skip("no file can hold this value")
        found = outcome(folder)
    finally:
        path.write_bytes(whole)
    if change in (removed, blanked) and keyword not in NEEDED:
        assert isinstance(found, Volume), found
    elif change is removed:
        assert isinstance(found, str)


def test_position_and_orientation_swapped(folder: Path) -> None:
    path = folder / "001.dcm"
    whole = path.read_bytes()
    try:
        data = pydicom.dcmread(path)
        there, how = data.ImagePositionPatient, data.ImageOrientationPatient
        data.ImagePositionPatient, data.ImageOrientationPatient = how, there
        save(data, path)
        assert "Image" in str(outcome(folder))
    finally:
        path.write_bytes(whole)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    where=st.lists(st.integers(132, 1400), min_size=1, max_size=6),
    what=st.integers(0, 255),
    cut=st.integers(0, 3000),
)
def test_bytes_at_random(where: list[int], what: int, cut: int, folder: Path) -> None:
    path = folder / "001.dcm"
    whole = path.read_bytes()
    damaged = bytearray(whole)
    for at in where:
        if at < len(damaged):
            damaged[at] = what
    try:
        path.write_bytes(damaged[:cut] if 0 < cut < len(damaged) else damaged)
        outcome(folder)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("keyword", ["PixelMeasuresSequence", "PlaneOrientationSequence"])
def test_a_functional_group_is_missing(keyword: str, tmp_path: Path) -> None:
    data = enhanced(VirtualSeries(pattern((4, 5, 3))), (0, 1, 2))
    delattr(data.SharedFunctionalGroupsSequence[0], keyword)
    save(data, tmp_path / "one.dcm")
    assert "does not say where it lies" in str(outcome(tmp_path))


def test_frames_without_a_group_of_their_own(tmp_path: Path) -> None:
    data = enhanced(VirtualSeries(pattern((4, 5, 3))), (0, 1, 2))
    del data.PerFrameFunctionalGroupsSequence[1]
    save(data, tmp_path / "one.dcm")
    assert "3 frames and says of 2" in str(outcome(tmp_path))


ANYTHING = st.one_of(
    st.text(max_size=20),
    st.integers(-(2**40), 2**40),
    st.floats(),
    st.lists(st.floats(-1e6, 1e6), max_size=7),
    st.binary(max_size=12),
)


@pytest.mark.slow
@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(
    changes=st.dictionaries(st.sampled_from(sorted(READ)), ANYTHING, min_size=1, max_size=4),
    files=st.sets(st.integers(0, 2), min_size=1),
)
def test_values_at_random(changes: dict[str, object], files: set[int], folder: Path) -> None:
    """Any value in any tag that is read, in one file or in all of them."""
    before = {k: (folder / f"{k:03d}.dcm").read_bytes() for k in range(3)}
    try:
        for k in files:
            data = pydicom.dcmread(folder / f"{k:03d}.dcm")
            for keyword, value in changes.items():
                with contextlib.suppress(Exception):  # what pydicom itself cannot write
                    data.add_new(keyword, dictionary_VR(keyword), value)
            with contextlib.suppress(Exception):
                save(data, folder / f"{k:03d}.dcm")
        outcome(folder)
    finally:
        for k, content in before.items():
            (folder / f"{k:03d}.dcm").write_bytes(content)


@pytest.mark.slow
def test_a_file_cut_at_every_length(tmp_path: Path) -> None:
    """Nowhere a traceback; a cut file never passes for a whole one, nor its series without it."""
    folder = VirtualSeries(pattern((4, 5, 5))).write(tmp_path / "in")
    path = folder / "001.dcm"
    whole = path.read_bytes()
    complete = read(folder).array
    try:
        for length in range(0, len(whole), 7):
            path.write_bytes(whole[:length])
            found = outcome(folder)
            assert isinstance(found, str) or np.array_equal(found.array, complete)
    finally:
        path.write_bytes(whole)
