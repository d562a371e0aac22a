"""Files of strangers: two hundred damaged images and manifests, and names of patients in headers.

Each ends in a result or in one line, and nothing of a header's text is passed on.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syndiff.errors import DataError, UserError, VolumeError
from syndiff.io import formats
from syndiff.io.digest import sha256_of_scan
from syndiff.preparation.manifest import FILE_NAME, read_manifest
from tests.helpers.mutations import mutated
from tests.helpers.tiny import write_prepared

HEADER = 352  # bytes before the values


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = np.random.default_rng(0).integers(0, 900, (6, 5, 4)).astype(np.int16)
    path = tmp_path_factory.mktemp("image") / "sound.nii"
    nib.Nifti1Image(values, np.diag([2.0, 2.0, 3.0, 1.0])).to_filename(path)
    return path


@settings(max_examples=200)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, HEADER - 1), st.binary(min_size=1, max_size=8)),
        min_size=1,
        max_size=4,
    ),
    length=st.one_of(st.none(), st.integers(0, 600)),
)
def test_a_damaged_image_is_read_or_refused(
    image: Path, changes: list[tuple[int, bytes]], length: int | None
) -> None:
    content = bytearray(image.read_bytes())
    for place, values in changes:
        content[place : place + len(values)] = values
    damaged = image.with_name("damaged.nii")
    damaged.write_bytes(bytes(content[:length]))
    with suppress(VolumeError):
        volume = formats.read(damaged)
        assert np.isfinite(volume.array).all()
        assert np.isfinite(volume.affine).all()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return write_prepared(folder, {"train1": "T1|T2", "train2": "T1|T2", "val1": "T1 T2"})


@settings(max_examples=200)
@given(draw=st.data())
def test_a_damaged_manifest_is_read_or_refused(data: Path, draw: st.DataObject) -> None:
    content = draw.draw(mutated(json.loads((data / FILE_NAME).read_text())))
    folder = data.parent / "damaged"
    folder.mkdir(exist_ok=True)
    (folder / FILE_NAME).write_text(content)
    if not (folder / "slices").exists():
        (folder / "slices").mkdir()
    with suppress(DataError):
        for scan in read_manifest(folder).all_scans():
            assert scan.slices_path.resolve().is_relative_to(folder.resolve())


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("slices", "../other.npy", "a path inside the folder"),
        ("slices", "/etc/passwd", "a path inside the folder"),
        ("subject", "../x", "name without folders"),
        ("foreground_mean", 0, "greater than 0"),
        ("slice_indices", [-1], "greater than or equal to 0"),
        ("tissue_quantiles", [0.1], "tissue_quantiles"),
        ("more", 1, "unknown"),
    ],
)
def test_what_no_manifest_has_is_refused(
    tmp_path: Path, key: str, value: object, words: str
) -> None:
    folder = write_prepared(tmp_path, {"train1": "T1|T2"})
    content = json.loads((folder / FILE_NAME).read_text())
    content["scans"][0][key] = value
    (folder / FILE_NAME).write_text(json.dumps(content))
    with pytest.raises(DataError, match=words) as caught:
        read_manifest(folder)
    assert "\n" not in str(caught.value)


def test_slices_stay_inside_their_folder(tmp_path: Path) -> None:
    folder = write_prepared(tmp_path / "data", {"train1": "T1|T2"})
    (slices,) = (folder / "slices" / "train" / "T1").iterdir()
    slices.rename(tmp_path / "elsewhere.npy")
    slices.symlink_to(tmp_path / "elsewhere.npy")
    with pytest.raises(DataError, match="leads out of its folder"):
        read_manifest(folder)


def test_arrays_of_objects_are_not_unpickled(tmp_path: Path) -> None:
    folder = write_prepared(tmp_path, {"train1": "T1|T2"})
    scan = read_manifest(folder).all_scans()[0]
    np.save(scan.slices_path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        scan.load()


PLANTED = b"Doe^Jane"


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_no_text_of_a_header_is_passed_on(tmp_path: Path, kind: type) -> None:
    values = np.random.default_rng(0).integers(0, 900, (6, 5, 4)).astype(np.int16)
    image = kind(values, np.diag([2.0, 2.0, 3.0, 1.0]))
    texts = [n for n in image.header if image.header[n].dtype.kind == "S"]
    kept = {"magic"}
    for name in set(texts) - kept:
        image.header[name] = PLANTED[: image.header[name].dtype.itemsize]
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", PLANTED))
    nib.save(image, tmp_path / "in.nii")
    assert PLANTED in (tmp_path / "in.nii").read_bytes()
    formats.write(formats.read(tmp_path / "in.nii"), tmp_path / "out.nii", "made by a test")
    written = (tmp_path / "out.nii").read_bytes()
    for part in (PLANTED, PLANTED[:4]):
        assert part not in written


def test_odd_names_are_names(tmp_path: Path, image: Path) -> None:
    for name in ("line\nbreak.nii", "🧠.nii", "é" * 125 + ".nii"):
        copy = tmp_path / name
        copy.write_bytes(image.read_bytes())
        volume = formats.read(copy)
        formats.write(volume, tmp_path / f"{name[:50]}_T2.nii", "made by a test")
        assert (tmp_path / f"{name[:50]}_T2.nii").exists()


def test_a_circle_of_links_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.nii").symlink_to("b.nii")
    (tmp_path / "b.nii").symlink_to("a.nii")
    with pytest.raises(UserError) as caught:
        formats.read(tmp_path / "a.nii")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="symbolic links"):
        sha256_of_scan(tmp_path / "a.nii")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path, image: Path) -> None:
    copy = tmp_path / "secret.nii"
    copy.write_bytes(image.read_bytes())
    copy.chmod(0)
    with pytest.raises(UserError):
        formats.read(copy)
