"""The mark of synthetic images: whatever is done to the file, one of its places still says it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from syndiff.errors import VolumeError
from syndiff.io import formats as volumes
from syndiff.io.atomic import write_json
from syndiff.io.marks import SYNTHETIC_MARK, refuse_synthetic, sidecar
from syndiff.io.volume import Volume

MARK = f"{SYNTHETIC_MARK}: T2 from T1"


def acquired() -> Volume:
    array = np.random.default_rng(0).random((4, 5, 6), np.float32)
    return Volume(array, np.diag([1.0, 1.0, 2.0, 1.0]))


def renamed(path: Path) -> Path:
    return path.rename(path.with_name("sub-01_T2w.nii.gz"))


def copied(path: Path) -> Path:
    return Path(shutil.copy(path, path.parent / "copy.nii.gz"))


def without_comment(path: Path) -> Path:
    image = nib.load(path)
    image.header.extensions.clear()
    nib.save(image, path.parent / "plain.nii.gz")
    return path.parent / "plain.nii.gz"


def without_description(path: Path) -> Path:
    image = nib.load(path)
    image.header["descrip"] = b"FSL6.0"
    nib.save(image, path.parent / "other.nii.gz")
    return path.parent / "other.nii.gz"


def without_header(path: Path) -> Path:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(image.get_fdata(), image.affine), path.parent / "bare.nii.gz")
    write_json(path.parent / "bare.json", {"synthetic": True})
    return path.parent / "bare.nii.gz"


def resliced(path: Path) -> Path:
    volumes.write(volumes.read(path), path.parent / "again.nii")
    return path.parent / "again.nii"


@pytest.mark.parametrize(
    "change", [renamed, copied, without_comment, without_description, without_header, resliced]
)
def test_a_synthetic_file_is_recognised(change: Callable[[Path], Path], tmp_path: Path) -> None:
    path = tmp_path / "made.nii.gz"
    volumes.write(replace(acquired(), synthetic=MARK), path)
    found = volumes.read(change(path))
    assert found.synthetic.startswith(SYNTHETIC_MARK)
    with pytest.raises(VolumeError, match=r"synthetic image .*`allow_synthetic`"):
        refuse_synthetic(found)
    refuse_synthetic(found, allowed=True)
    assert found.like(found.array * 2).synthetic == found.synthetic


def test_an_acquired_file_is_none(tmp_path: Path) -> None:
    """Nor one with a BIDS side-car, a broken side-car, or a description of another program."""
    path = tmp_path / "scan.nii.gz"
    volumes.write(acquired(), path, description="FSL6.0 synthetic B0")
    for text in (None, '{"Manufacturer": "Siemens", "synthetic": "no"}', "[1]", "{", "\xff"):
        if text is not None:
            sidecar(path).write_text(text, encoding="latin-1")
        assert volumes.read(path).synthetic == ""
    volumes.write(acquired(), tmp_path / "plain.nii.gz")
    assert volumes.read(tmp_path / "plain.nii.gz").synthetic == ""
