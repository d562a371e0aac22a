"""Volumes: what is read is what was stored, what is written lies where it came from."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.testing import assert_allclose, assert_array_equal

from syndiff.errors import GeometryError, OptionError, UserError, VolumeError
from syndiff.io import nifti
from syndiff.io.formats import read, write
from syndiff.io.volume import Volume, from_slices, same_grid, to_slices

ORIENTATIONS = ("RAS", "LAS", "LPS", "LIA", "PIR", "IPR", "SAL", "ASL")
OBLIQUE = np.array(  # rotated by 12° and 7°, with spacings of 0.9, 1.1 and 3 mm
    [
        [0.8803, -0.1341, -0.5823, -81.0],
        [0.1871, 1.0680, 0.1283, -102.5],
        [0.0, -0.2264, 2.9405, -37.25],
        [0.0, 0.0, 0.0, 1.0],
    ]
)


def image_in(codes: str, array: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    """An array in RAS+ order as an image whose voxel axes run as `codes` say."""
    to_codes = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(codes)))
    turned = nib.orientations.apply_orientation(array, to_codes)
    return nib.Nifti1Image(turned, affine @ inv_ornt_aff(to_codes, array.shape))


def patched(path: Path, *changes: tuple[int, bytes]) -> Path:
    """A small NIfTI file with bytes of its header overwritten; nibabel would mend them."""
    nib.save(nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4)), path)
    raw = bytearray(path.read_bytes())
    for offset, content in changes:
        raw[offset : offset + len(content)] = content
    path.write_bytes(raw)
    return path


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, (5, 6, 7)).astype(np.float32)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_orientation_is_read_as_one_and_written_as_it_was(codes, array, tmp_path):
    path, copy = tmp_path / "scan.nii.gz", tmp_path / "copy.nii.gz"
    nib.save(image_in(codes, array, OBLIQUE), path)
    scan = read(path)
    assert_array_equal(scan.array, array)
    assert_allclose(scan.affine, OBLIQUE, atol=1e-4)
    write(scan, copy)
    one, other = nib.load(path), nib.load(copy)
    assert nib.aff2axcodes(other.affine) == tuple(codes)
    assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
    assert_array_equal(one.affine, other.affine)


@given(
    order=st.permutations([0, 1, 2]),
    flips=st.tuples(*[st.sampled_from([1.0, -1.0])] * 3),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 5.0)] * 3),
    angle=st.floats(-0.6, 0.6),
)
def test_reading_what_was_written_keeps_everything(
    order, flips, shape, spacing, angle, tmp_path_factory
):
    """Any axis order, any handedness, oblique by up to 34°, down to two voxels."""
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = (turn @ np.eye(3)[:, list(order)]) * np.array(flips) * spacing
    affine[:3, 3] = (-10.5, 3.25, 40.0)
    values = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
    assume(values.size > 1)  # a single voxel is a blank image
    folder = tmp_path_factory.mktemp("volumes")
    nib.save(nib.Nifti1Image(values, affine), folder / "a.nii")
    scan = read(folder / "a.nii")
    assert all(np.diag(scan.affine)[:3] > 0)
    write(scan, folder / "b.nii")
    again, image = read(folder / "b.nii"), nib.load(folder / "b.nii")
    assert_array_equal(np.asarray(image.dataobj), values)
    assert_array_equal(image.affine, nib.load(folder / "a.nii").affine)
    assert_array_equal(again.array, scan.array)
    assert same_grid(again, scan, 1e-4)
    for index in np.ndindex(*shape):  # each value at its place in the world
        world = scan.stored.affine @ (*index, 1)
        x, y, z = np.rint((np.linalg.inv(scan.affine) @ world)[:3]).astype(int)
        assert scan.array[x, y, z] == values[index]


@pytest.mark.real_data
def test_eight_orientations_of_one_brain_are_one_in_the_world(test_data):
    reference = read(test_data / "orientations" / "RAS.nii.gz")
    for codes in ORIENTATIONS:
        scan = read(test_data / "orientations" / f"{codes}.nii.gz")
        assert nib.aff2axcodes(scan.stored.affine) == tuple(codes)
        assert same_grid(scan, reference)
        assert_array_equal(scan.array, reference.array)


def test_a_volume_made_in_memory_is_written_in_its_own_order(array, tmp_path):
    write(Volume(array, OBLIQUE), tmp_path / "made.nii.gz")
    image = nib.load(tmp_path / "made.nii.gz")
    assert_array_equal(np.asarray(image.dataobj), array)
    assert_allclose(image.affine, OBLIQUE, atol=1e-4)
    assert image.header["sform_code"] == image.header["qform_code"] == 1
    assert image.header.get_xyzt_units()[0] == "mm"


def test_written_files_are_float32_and_keep_no_names(tmp_path):
    source = image_in("LPS", np.arange(24, dtype=np.int16).reshape(2, 3, 4), OBLIQUE)
    source.header["descrip"], source.header["db_name"] = b"Jane Doe", b"JANE"
    source.header["aux_file"], source.header["cal_max"] = b"jane.txt", 255
    source.header.set_slope_inter(2.0, -10.0)
    source.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Doe 1970"))
    nib.save(source, tmp_path / "in.nii.gz")
    scan = read(tmp_path / "in.nii.gz")
    assert scan.array.dtype == np.float32
    write(scan, tmp_path / "out.nii.gz")
    raw = gzip.decompress((tmp_path / "out.nii.gz").read_bytes())
    image = nib.load(tmp_path / "out.nii.gz")
    assert image.get_data_dtype() == np.float32
    assert_array_equal(image.get_fdata(), nib.load(tmp_path / "in.nii.gz").get_fdata())
    assert b"SYNTHETIC" not in image.header["descrip"].tobytes()  # nobody said so
    assert b"Jane" not in raw
    assert b"JANE" not in raw
    assert b"jane" not in raw
    assert image.header["cal_max"] == 0


def test_other_values_on_the_same_grid(array, tmp_path):
    nib.save(image_in("PIR", array, OBLIQUE), tmp_path / "in.nii.gz")
    scan = read(tmp_path / "in.nii.gz")
    write(scan.like(scan.array * 2), tmp_path / "out.nii.gz")
    assert_array_equal(
        nib.load(tmp_path / "out.nii.gz").get_fdata(),
        2 * nib.load(tmp_path / "in.nii.gz").get_fdata(),
    )
    with pytest.raises(GeometryError, match=r"expected the grid \(5, 6, 7\)"):
        scan.like(array[1:])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float64])
def test_every_number_type_becomes_float32(dtype, tmp_path):
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    scan = read(tmp_path / "a.nii")
    assert scan.array.dtype == np.float32
    assert_array_equal(scan.array, values)


def test_scaled_integers_are_read_in_their_units(tmp_path):
    patched(tmp_path / "a.nii", (112, struct.pack("<ff", 0.5, -1024.0)))  # scl_slope, scl_inter
    assert_allclose(read(tmp_path / "a.nii").array.ravel(), np.arange(24) * 0.5 - 1024)


def test_nifti2_stays_nifti2(array, tmp_path):
    nib.save(nib.Nifti2Image(array, OBLIQUE), tmp_path / "a.nii.gz")
    write(read(tmp_path / "a.nii.gz"), tmp_path / "b.nii.gz")
    image = nib.load(tmp_path / "b.nii.gz")
    assert isinstance(image, nib.Nifti2Image)
    assert_array_equal(image.affine, OBLIQUE)


def test_mgz_becomes_nifti_on_the_same_grid(array, tmp_path):
    nib.save(nib.MGHImage(array, OBLIQUE), tmp_path / "a.mgz")
    scan = read(tmp_path / "a.mgz")
    write(scan, tmp_path / "b.nii.gz")
    again = read(tmp_path / "b.nii.gz")
    assert_array_equal(again.array, array)
    assert same_grid(again, scan)


def test_trailing_axes_of_one_are_dropped_and_restored(array, tmp_path):
    nib.save(nib.Nifti1Image(array[..., None, None], OBLIQUE), tmp_path / "a.nii")
    scan = read(tmp_path / "a.nii")
    assert scan.array.shape == array.shape
    write(scan, tmp_path / "b.nii")
    assert_array_equal(nib.load(tmp_path / "b.nii").get_fdata().squeeze(), array)


def test_form_codes_are_kept(tmp_path):
    for name, codes in {"s": (2, 0), "q": (0, 1), "both": (4, 1)}.items():
        path = tmp_path / f"{name}.nii"
        image = nib.Nifti1Image(np.arange(24.0).reshape(2, 3, 4), None)
        image.set_sform(OBLIQUE if codes[0] else None, codes[0])
        image.set_qform(OBLIQUE if codes[1] else None, codes[1])
        nib.save(image, path)
        write(read(path), tmp_path / "out.nii")
        header = nib.load(tmp_path / "out.nii").header
        assert (header["sform_code"], header["qform_code"]) == codes
        assert_allclose(header.get_best_affine(), nib.load(path).affine, atol=1e-5)


def test_slices_are_axial_and_ascend():
    scan = Volume(np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.eye(4))
    slices = to_slices(scan)  # z y x
    assert slices.shape == (4, 3, 2)
    assert slices[3, 2, 1] == scan.array[1, 2, 3]
    assert_array_equal(from_slices(slices), scan.array)


def test_spacing_and_grids():
    a = Volume(np.zeros((5, 6, 7), np.float32), OBLIQUE)
    assert_allclose(a.spacing_mm, (0.9, 1.1, 3.0), atol=1e-3)
    moved = OBLIQUE.copy()
    moved[0, 3] += 0.5
    assert same_grid(a, Volume(a.array, OBLIQUE))
    assert not same_grid(a, Volume(a.array, moved))
    assert not same_grid(a, Volume(a.array[1:], OBLIQUE))
    with pytest.raises(GeometryError, match="three axes"):
        Volume(np.zeros((2, 2), np.float32), np.eye(4))
    with pytest.raises(GeometryError, match=r"expected \(4, 4\)"):
        Volume(np.zeros((2, 2, 2), np.float32), np.eye(3))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((4, 4, 4), np.int16), "blank: every voxel is 0"),
        (np.where(np.arange(64) == 5, np.nan, 1.0).reshape(4, 4, 4), "1 NaN or infinite"),
        (np.where(np.arange(64) < 9, np.inf, 1.0).reshape(4, 4, 4), "9 NaN or infinite"),
        (np.arange(64, dtype=np.complex64).reshape(4, 4, 4), "complex"),
        (np.arange(128.0).reshape(4, 4, 4, 2), r"4 axes \(4, 4, 4, 2\)"),
        (np.arange(128.0).reshape(4, 4, 4, 1, 2), "5 axes"),
        (np.full((4, 4, 4), 1e300), "what float32 can hold"),
    ],
)
def test_values_that_are_no_image_are_refused(values, message, tmp_path):
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "scan.nii.gz")
    with pytest.raises(VolumeError, match=message) as caught:
        read(tmp_path / "scan.nii.gz")
    assert "scan.nii.gz" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"these are no voxels" * 40, "not a readable image"),
        (bytes(128) + b"DICM" + bytes(500), "it is DICOM: give it a name"),
        (gzip.compress(b"nothing", mtime=0), "not a readable image"),
    ],
)
def test_files_that_are_no_image_are_refused(content, message, tmp_path):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(content)
    with pytest.raises(VolumeError, match=message):
        read(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(VolumeError, match="no file"):
        read(tmp_path / "none.nii.gz")
    with pytest.raises(VolumeError, match="is a folder"):
        read(tmp_path)


def test_a_file_cut_short_anywhere_is_refused(array, tmp_path):
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "whole.nii.gz")
    whole = (tmp_path / "whole.nii.gz").read_bytes()
    for share in (0.02, 0.3, 0.9):
        (tmp_path / "cut.nii.gz").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(VolumeError, match=r"cut\.nii\.gz is (damaged|not a readable)"):
            read(tmp_path / "cut.nii.gz")


def test_a_scan_that_does_not_say_how_it_lies_is_refused(tmp_path):
    path = patched(tmp_path / "a.nii", (252, bytes(4)))  # qform_code, sform_code
    with pytest.raises(VolumeError, match="left and right are unknown"):
        read(path)


def test_forms_that_mirror_each_other_are_refused_and_the_advice_works(array, tmp_path):
    mirrored = np.diag([-1.0, 1, 1, 1]) @ OBLIQUE
    image = nib.Nifti1Image(array, OBLIQUE)
    image.set_sform(OBLIQUE, 1)
    image.set_qform(mirrored, 1)
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(VolumeError, match="mirror each other, so left and right are unknown"):
        read(tmp_path / "a.nii")
    image.set_qform(mirrored, 0)
    nib.save(image, tmp_path / "a.nii")
    assert_allclose(read(tmp_path / "a.nii").affine, OBLIQUE, atol=1e-4)


@pytest.mark.parametrize("suffix", [".mgh", ".mgz"])
def test_an_mgh_file_that_does_not_say_how_it_lies_is_refused(array, tmp_path, suffix):
    """nibabel reads it as if it were coronal and sets the flag itself."""
    path = tmp_path / f"a{suffix}"
    nib.save(nib.MGHImage(array, OBLIQUE), path)
    packed = suffix == ".mgz"
    content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    content[28:30] = bytes(2)  # goodRASFlag
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    with pytest.raises(VolumeError, match="goodRASFlag is 0"):
        read(path)


@pytest.mark.parametrize(("unit", "in_mm"), [("micron", 1e-3), ("meter", 1e3)])
def test_other_units_of_length_are_converted(array, tmp_path, unit, in_mm):
    stored = np.diag([1 / in_mm] * 3 + [1.0]) @ OBLIQUE
    image = nib.Nifti1Image(array, stored)
    image.header.set_xyzt_units(unit)
    image.set_sform(stored, 2)
    image.set_qform(stored, 0)
    nib.save(image, tmp_path / "a.nii")
    scan = read(tmp_path / "a.nii")
    assert_allclose(scan.affine, OBLIQUE, rtol=1e-5, atol=1e-4)
    write(scan, tmp_path / "b.nii")
    header = nib.load(tmp_path / "b.nii").header
    assert header.get_xyzt_units()[0] == "mm"
    assert (header["sform_code"], header["qform_code"]) == (2, 0)
    assert same_grid(read(tmp_path / "b.nii"), scan)


def test_a_singular_affine_is_refused(tmp_path):
    path = patched(tmp_path / "a.nii", (280, bytes(16)))  # srow_x
    with pytest.raises(VolumeError, match="singular"):
        read(path)


def test_a_header_alone_is_refused(array, tmp_path):
    nib.save(nib.Nifti1Pair(array, np.eye(4)), tmp_path / "a.hdr")
    assert_array_equal(read(tmp_path / "a.hdr").array, array)
    (tmp_path / "a.img").unlink()
    with pytest.raises(VolumeError, match=r"header without its image; expected a\.img"):
        read(tmp_path / "a.hdr")


def test_writing_is_whole_or_not_at_all(array, tmp_path, monkeypatch):
    scan, path = Volume(array, np.eye(4)), tmp_path / "out.nii.gz"
    write(scan, path)
    before = path.read_bytes()

    def full_disk(image, to):
        Path(to).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nifti.nib, "save", full_disk)
    with pytest.raises(UserError, match="No space left"):
        write(scan.like(array * 2), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out.nii.gz"]


@pytest.mark.parametrize("name", ["out", "out.mgz", "out.dcm", "out.nii.bz2"])
def test_outputs_of_other_formats_are_refused(name, array, tmp_path):
    with pytest.raises(OptionError, match=r"\.nii\.gz or \.nii"):
        write(Volume(array, np.eye(4)), tmp_path / name)
    assert not any(tmp_path.iterdir())


def test_errors_travel_between_processes():
    error = VolumeError("a scan", "another", "take it")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is VolumeError
    assert str(again) == str(error) == "a scan; expected another; take it"
