"""Files are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from syndiff.errors import UserError
from syndiff.io.atomic import read_json, whole_file, write_json


def write_half(path: Path, error: Exception) -> None:
    with whole_file(path) as temporary:
        assert temporary.name.endswith(path.name)  # writers choose the format by the suffix
        temporary.write_text("half")
        raise error


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.nii.gz"
    path.write_text("old")
    with pytest.raises(UserError, match="No space left") as caught:
        write_half(path, OSError(errno.ENOSPC, "No space left on device"))
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result.nii.gz"]


def test_any_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_half(tmp_path / "a.txt", ZeroDivisionError())
    assert not list(tmp_path.iterdir())


def test_folders_are_made_and_nan_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "a.json", {"a": [1, 2]})
    assert read_json(tmp_path / "new" / "a.json", "note") == {"a": [1, 2]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="could not be written"):
        write_json(tmp_path / "file" / "a.json", {})


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe"])
def test_damaged_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"the note .* is not readable JSON"):
        read_json(tmp_path / "a.json", "note")
    with pytest.raises(UserError, match="no note at"):
        read_json(tmp_path / "none.json", "note", "make one")
