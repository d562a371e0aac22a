"""A series becomes a volume: order, geometry, values; and every reason to refuse one."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from syndiff.dicom.options import DicomOptions
from syndiff.dicom.reading import is_one_study, mark_of, read
from syndiff.dicom.series import series_of
from syndiff.errors import OptionError, UserError, VolumeError
from syndiff.io import formats
from syndiff.io.marks import refuse_synthetic
from syndiff.io.volume import Volume, same_grid
from tests.helpers.dicom import (
    PATIENT,
    PATIENT_ID,
    VirtualSeries,
    enhanced,
    pattern,
    save,
    set_pixels,
)

OBLIQUE = tuple(np.ravel([[0.8, 0.6, 0.0], [-0.48, 0.64, 0.6]]))
REGULAR = DicomOptions(regular_grid=True)


def in_world(volume: Volume, column: int, row: int, k: int, series: VirtualSeries) -> float:
    """The value at the place in space of a pixel, by the standard's own formula (C.7.6.2.1)."""
    rows_mm, columns_mm, _ = series.spacing
    data = series.slices[k]
    along = np.array(series.orientation).reshape(2, 3)
    lps = np.array(data.ImagePositionPatient, float)
    lps = lps + along[0] * columns_mm * column + along[1] * rows_mm * row
    ras = np.append(lps * (-1, -1, 1), 1)
    voxel = np.linalg.solve(volume.affine, ras)[:3]
    np.testing.assert_allclose(voxel, np.rint(voxel), atol=1e-4)
    return float(volume.array[tuple(np.rint(voxel).astype(int))])


@pytest.mark.parametrize(
    "orientation",
    [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), (-1, 0, 0, 0, -1, 0), OBLIQUE],
)
def test_every_pixel_lies_where_the_standard_says(orientation, tmp_path: Path) -> None:
    series = VirtualSeries(pattern(), orientation=orientation)
    volume = read(series.write(tmp_path))
    for column, row, k in ((0, 0, 0), (7, 9, 5), (3, 2, 4), (7, 0, 1)):
        assert in_world(volume, column, row, k, series) == series.values[column, row, k]


def test_order_of_files_and_numbers_does_not_matter(tmp_path: Path) -> None:
    series = VirtualSeries(pattern(), orientation=OBLIQUE)
    expected = read(series.write(tmp_path / "a"))
    order = random.Random(1).sample(range(6), 6)
    for k, data in enumerate(series.slices):
        data.InstanceNumber = order[k]
    found = read(series.write(tmp_path / "b", names=lambda k: f"{order[-k - 1]}/IM{k}"[2:]))
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_array_equal(found.affine, expected.affine)


def test_zip_equals_folder_and_unpacks_nothing(tmp_path: Path) -> None:
    folder = VirtualSeries(pattern()).write(tmp_path / "scan")
    archive = tmp_path / "scan.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in folder.iterdir():
            file.write(path, f"../../{path.name}")  # a name that leads out is harmless
        file.writestr("readme.txt", "words")
    before = sorted(tmp_path.parent.rglob("*"))
    found = formats.read(archive)
    assert sorted(tmp_path.parent.rglob("*")) == before
    np.testing.assert_array_equal(found.array, formats.read(folder).array)


def test_zips_that_cannot_be_read(tmp_path: Path) -> None:
    bomb, broken, none = (tmp_path / f"{name}.zip" for name in ("bomb", "broken", "none"))
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_BZIP2) as file:  # packs zeros far beyond deflate
        file.writestr("a.dcm", bytes(20_000_000))
    broken.write_bytes(b"PK\3\4 and nothing more")
    with zipfile.ZipFile(none, "w") as file:
        file.writestr("a.txt", "words")
    for path, word in ((bomb, "packed"), (broken, "not a readable .zip"), (none, "no DICOM")):
        with pytest.raises(VolumeError, match=word):
            formats.read(path)


def test_enhanced_multi_frame_equals_the_classic_series(tmp_path: Path) -> None:
    series = VirtualSeries(pattern(), orientation=OBLIQUE)
    save(enhanced(series, (4, 1, 0, 5, 3, 2)), tmp_path / "enhanced")
    found, plain = read(tmp_path / "enhanced"), read(series.write(tmp_path / "classic"))
    assert same_grid(found, plain)
    classic = np.stack([series.values[:, :, k] * 2.0 + k for k in range(6)], axis=2)
    assert np.sort(found.array.ravel()).tolist() == np.sort(classic.ravel()).tolist()
    for column, row, k in ((0, 0, 0), (7, 9, 5), (3, 2, 4)):
        assert in_world(found, column, row, k, series) == classic[column, row, k]


def test_values_are_rescaled_and_padding_replaced_by_stated_rules(tmp_path: Path) -> None:
    stored = pattern(least=100)
    stored[0, 0], stored[1, 0] = -2000, -32768
    tags = {"PixelPaddingValue": -32768}
    ct = read(VirtualSeries(stored, "CT", tags=tags).write(tmp_path / "ct"))
    assert ct.array.min() == -1024
    assert (ct.array == -1024).sum() == 2 * 6  # below -1024, and the padding
    assert ct.array.max() == stored.max() - 1024
    assert any("-1024" in note for note in ct.stored.notes)
    mr = read(VirtualSeries(stored, tags={"PixelPaddingValue": -2000}).write(tmp_path / "mr"))
    assert mr.array.min() == -32768
    assert (mr.array == -32768).sum() == 12
    assert any("padding" in note for note in mr.stored.notes)


def test_unsigned_padding_of_signed_pixels(tmp_path: Path) -> None:
    stored = pattern(least=100)
    stored[0, 0] = -2000
    series = VirtualSeries(stored)
    for data in series.slices:
        data.add_new("PixelPaddingValue", "US", 63536)  # -2000 as an unsigned number
    assert read(series.write(tmp_path)).array.min() == 0


@pytest.mark.parametrize("signed", [0, 1])
def test_bits_above_bits_stored_are_no_values(signed: int, tmp_path: Path) -> None:
    values = pattern((8, 10, 3)) - (500 * signed)
    series = VirtualSeries(values)
    for k, data in enumerate(series.slices):
        overlay = np.int16(1 << 12) * (np.arange(80).reshape(8, 10) % 2).astype(np.int16)
        set_pixels(data, (values[:, :, k] & 0x0FFF) | overlay)
        data.BitsStored, data.HighBit, data.PixelRepresentation = 12, 11, signed
    found = read(series.write(tmp_path)).array
    assert (found.min(), found.max()) == (values.min(), values.max())


def test_hu_offset_is_added_to_ct_only(tmp_path: Path) -> None:
    folder = VirtualSeries(pattern(), "CT", tags={"RescaleIntercept": 0}).write(tmp_path / "ct")
    options = DicomOptions(hu_offset=-1024)
    assert read(folder, options).array.max() == read(folder).array.max() - 1024
    with pytest.raises(OptionError, match="hu_offset"):
        DicomOptions(hu_offset=float("nan"))


def moved(series: VirtualSeries, k: int, by: tuple[float, float, float]) -> None:
    """Move one slice in space."""
    there = np.add(list(map(float, series.slices[k].ImagePositionPatient)), by)
    series.slices[k].ImagePositionPatient = [float(v) for v in there]


def without_a_slice(series: VirtualSeries) -> None:
    del series.slices[2]


def uneven(series: VirtualSeries) -> None:
    moved(series, 5, (0, 0, 1.5))


def tilted(series: VirtualSeries) -> None:
    for k in range(6):
        moved(series, k, (0, k * 2.0, 0))


def turned(series: VirtualSeries) -> None:
    series.slices[0].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def other_size(series: VirtualSeries) -> None:
    set_pixels(series.slices[0], pattern((6, 6, 1))[:, :, 0])


def localiser(series: VirtualSeries) -> None:
    for data in series.slices:
        data.SeriesDescription = "3-plane LOC localizer"


def derived(series: VirtualSeries) -> None:
    for data in series.slices:
        data.ImageType = ["DERIVED", "SECONDARY", "MPR"]


def colours(series: VirtualSeries) -> None:
    for data in series.slices:
        data.SamplesPerPixel, data.PhotometricInterpretation = 3, "RGB"


def negative(series: VirtualSeries) -> None:
    for data in series.slices:
        data.PhotometricInterpretation = "MONOCHROME1"


def another_kind(series: VirtualSeries) -> None:
    for data in series.slices:
        data.Modality = "US"


def plan(series: VirtualSeries) -> None:
    for data in series.slices:
        del data.Rows, data.Columns, data.PixelData


def cut_short(series: VirtualSeries) -> None:
    series.slices[3].PixelData = series.slices[3].PixelData[:50]


def blank(series: VirtualSeries) -> None:
    for data in series.slices:
        data.PixelData = bytes(len(data.PixelData))


def twice_at_a_place(series: VirtualSeries) -> None:
    series.slices[1].ImagePositionPatient = series.slices[0].ImagePositionPatient


REFUSED = {
    without_a_slice: "1 of 6 slices are missing",
    uneven: "mm apart",
    tilted: "26.6 degrees",
    turned: "several orientations",
    other_size: "several sizes",
    localiser: "a localiser",
    derived: "a derived series",
    colours: "colours",
    negative: "MONOCHROME1",
    another_kind: "modality US",
    plan: "holds no image",
    cut_short: "damaged or cut short",
    blank: "blank",
    twice_at_a_place: "several images at 1 positions",
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
def test_what_is_refused_in_one_line(change, tmp_path: Path) -> None:
    series = VirtualSeries(pattern())
    change(series)
    with pytest.raises(UserError, match=REFUSED[change]) as refused:
        read(series.write(tmp_path))
    line = str(refused.value)
    assert "\n" not in line
    assert PATIENT not in line
    assert PATIENT_ID not in line


@pytest.mark.parametrize("change", [localiser, derived])
def test_a_series_that_is_named_is_taken(change, tmp_path: Path) -> None:
    series = VirtualSeries(pattern())
    change(series)
    folder = series.write(tmp_path)
    assert read(folder, DicomOptions(series="1")).array.max() == series.values.max()
    with pytest.raises(VolumeError, match="`series`"):
        read(folder)


def linear(shape: tuple[int, int, int] = (8, 10, 6)) -> np.ndarray:
    """Values that grow evenly in space, which linear interpolation reproduces."""
    x, y, z = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    return (100 + 30 * x + 20 * y + 40 * z).astype(np.int16)


def test_a_missing_slice_is_interpolated_when_asked(tmp_path: Path) -> None:
    series = VirtualSeries(linear())
    whole = read(series.write(tmp_path / "whole"))
    del series.slices[2]
    found = read(series.write(tmp_path / "gap"), REGULAR)
    assert same_grid(found, whole)
    np.testing.assert_allclose(found.array, whole.array, atol=1e-3)
    assert "missing" in found.stored.notes[-1]


def test_a_tilted_stack_is_straightened_when_asked(tmp_path: Path) -> None:
    """Values that are linear in space stay where they are; the field of view grows."""
    series = VirtualSeries(linear())
    for k, data in enumerate(series.slices):  # 3 mm sideways are 1.5 rows of 2 mm, 30 in value
        moved(series, k, (0, k * 3.0, 0))
        set_pixels(data, series.values[:, :, k] + np.int16(30 * k))
    found = read(series.write(tmp_path), REGULAR)
    columns, rows, n = found.array.shape
    assert (columns, rows, n) == (8, 10 + 8, 6)  # 5 slices · 1.5 rows, rounded up
    steps = found.affine[:3, :3].T @ found.affine[:3, :3]
    np.testing.assert_allclose(steps, np.diag(np.diag(steps)), atol=1e-9)  # right angles
    # RAS+ turns rows around: at the first slice the old rows are the last of the new ones.
    np.testing.assert_allclose(found.array[::-1, ::-1, 0][:, :10], series.values[:, :, 0])
    inside = found.array[::-1, ::-1, 2][:, 4:12]  # shifted by 3 rows: rows 3 to 12
    expected = series.values[:, 1:9, 2] + 60.0
    np.testing.assert_allclose(inside, expected, atol=1e-3)


def test_copies_of_a_file_count_once(tmp_path: Path) -> None:
    series = VirtualSeries(pattern())
    expected = read(series.write(tmp_path / "a"))
    series.write(tmp_path / "b" / "one")
    found = read(series.write(tmp_path / "b" / "two").parent)
    np.testing.assert_array_equal(found.array, expected.array)
    assert "twice" in found.stored.notes[0]


def test_echoes_and_time_points_are_volumes_of_their_own(tmp_path: Path) -> None:
    for number, (echo, time) in enumerate([(20, 1), (20, 2), (90, 1), (90, 2)]):
        tags = {"EchoTime": echo, "TemporalPositionIdentifier": time}
        series = VirtualSeries(pattern(least=1000 * number), tags=tags)
        for k, data in enumerate(series.slices):
            data.SOPInstanceUID = f"1.2.3.4.5.{number}.{k}"
        series.write(tmp_path / str(number))
    found = series_of(tmp_path)
    assert [s.label for s in found] == [
        "echo time 20, time point 1",
        "echo time 20, time point 2",
        "echo time 90, time point 1",
        "echo time 90, time point 2",
    ]
    with pytest.raises(VolumeError, match="holds 4 series, 4 of which"):
        read(tmp_path)
    assert read(tmp_path, DicomOptions(series="3")).array.min() == 2001


def test_one_of_several_series_is_chosen(tmp_path: Path) -> None:
    for number, title in enumerate(["T1 mprage", "t2_tse_tra", "FLAIR tra"], start=1):
        tags = {"SeriesDescription": title, "SeriesNumber": number}
        series = VirtualSeries(pattern(least=number), uid=f"1.2.3.4.{number}", tags=tags)
        series.write(tmp_path / f"{9 - number}")
    assert [s.taken_for for s in series_of(tmp_path)] == ["T1", "T2", "FLAIR"]
    assert is_one_study(tmp_path)
    for name in ("2", "1.2.3.4.2", "T2_TSE", "t2_tse_tra"):
        assert read(tmp_path, DicomOptions(series=name)).array.min() == 3
    for name in ("tra", "4", "ADC", ""):
        with pytest.raises(VolumeError, match="series"):
            read(tmp_path, DicomOptions(series=name))


def test_synthetic_series_are_marked_and_never_taken_unasked(tmp_path: Path) -> None:
    tags = {"SyntheticData": "YES", "ImageType": ["DERIVED", "SECONDARY", "OTHER"]}
    VirtualSeries(pattern(least=50), uid="1.2.3.4.6", tags=tags).write(tmp_path / "made")
    made = read(tmp_path / "made")
    assert mark_of(tmp_path / "made") == formats.mark_of(tmp_path / "made") == made.synthetic != ""
    with pytest.raises(VolumeError, match="synthetic"):
        refuse_synthetic(made)
    VirtualSeries(pattern()).write(tmp_path / "acquired")
    assert not read(tmp_path).synthetic
    assert read(tmp_path, DicomOptions(series="2")).synthetic


def test_zeros_behind_the_pixels_cost_nothing(tmp_path: Path) -> None:
    folder = VirtualSeries(pattern()).write(tmp_path)
    expected = read(folder)
    with (folder / "000.dcm").open("ab") as file:
        file.write(bytes(3_000_000))
    np.testing.assert_array_equal(read(folder).array, expected.array)


def test_the_name_of_the_patient_stays_out(tmp_path: Path, caplog, recwarn) -> None:
    """Where it stands in a tag of numbers, it is neither quoted nor logged."""
    series = VirtualSeries(pattern())
    folder = series.write(tmp_path)
    said = []
    for keyword in ("EchoTime", "PixelSpacing", "SeriesInstanceUID", "Rows", "RescaleSlope"):
        data = series.slices[0].copy()
        data.add_new(keyword, "LO", PATIENT)
        save(data, folder / "000.dcm")
        try:
            read(folder)
        except UserError as error:
            said.append(str(error))
    assert said
    assert PATIENT not in " ".join(said) + caplog.text
    assert not [w for w in recwarn if PATIENT in str(w.message)]
