"""What may be replaced: files of ours, and others only if the user insists; asked before work."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from syndiff.errors import OptionError, UserError
from syndiff.io import formats
from syndiff.io.atomic import write_json
from syndiff.io.marks import SYNTHETIC_MARK
from syndiff.io.outputs import check_folder, check_outputs, expected_image_bytes, is_ours
from syndiff.io.volume import Volume

SCAN = Volume(np.random.default_rng(0).random((4, 5, 6), np.float32), np.diag([1.0, 1, 1, 1]))


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_images_say_whose_they_are(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    formats.write(SCAN, path)
    assert not is_ours(path)
    formats.write(SCAN, path, description="virtual subject (syndiff phantom)")
    assert is_ours(path)
    formats.write(replace(SCAN, synthetic=SYNTHETIC_MARK), path)
    assert is_ours(path)


def test_a_sidecar_does_not_vouch_for_its_image(tmp_path: Path) -> None:
    formats.write(SCAN, tmp_path / "a.nii.gz")
    write_json(tmp_path / "a.json", {"synthetic": True})
    assert is_ours(tmp_path / "a.json")
    assert not is_ours(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("content", [b"", b"\x1f\x8bbroken", b"anything"])
def test_what_cannot_be_read_is_not_ours(tmp_path: Path, content: bytes) -> None:
    for name in ("a.nii.gz", "a.nii", "a.json"):
        (tmp_path / name).write_bytes(content)
        assert not is_ours(tmp_path / name)


def test_others_files_are_kept_unless_the_user_insists(tmp_path: Path) -> None:
    names = [tmp_path / f"{letter}.json" for letter in "abcde"]
    check_outputs(names)
    for name in names:
        name.write_text('{"Manufacturer": "Siemens"}')
    with pytest.raises(OptionError, match=r"c\.json and 2 more would be replaced.*`overwrite`"):
        check_outputs(names)
    check_outputs(names, overwrite=True)
    with pytest.raises(OptionError, match="is a folder"):
        check_outputs([tmp_path], overwrite=True)


def test_a_place_that_cannot_hold_the_results(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    check_folder(tmp_path / "new" / "deep", expected_bytes=1000)
    assert not (tmp_path / "new").exists()
    with pytest.raises(OptionError, match="is a file"):
        check_folder(tmp_path / "file" / "below")
    with pytest.raises(UserError, match="MB of free space; expected"):
        check_outputs([tmp_path / "a.nii"], expected_bytes=10**18)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="may not be written"):
        check_folder(tmp_path / "new")
    tmp_path.chmod(0o700)


def test_the_expected_size_is_that_of_the_values(tmp_path: Path) -> None:
    formats.write(SCAN, tmp_path / "a.nii.gz")
    assert expected_image_bytes(tmp_path / "a.nii.gz") == 4 * 4 * 5 * 6
    assert expected_image_bytes(tmp_path / "none.nii") == 0
