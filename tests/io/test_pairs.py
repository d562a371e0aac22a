"""An image and its side-car are one: killed anywhere, neither speaks for another's values."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from syndiff.errors import OptionError, UserError
from syndiff.io import formats, locks
from syndiff.io.atomic import read_json, whole_file, write_text
from syndiff.io.digest import sha256_of, sha256_of_scan
from syndiff.io.locks import LOCK, clear_leftovers, in_use, one_at_a_time, only_writer
from syndiff.io.marks import SYNTHETIC_MARK, sidecar
from syndiff.io.pairs import record_of, write_pair
from syndiff.io.volume import Volume

SCAN = Volume(
    np.random.default_rng(0).random((4, 5, 6), np.float32),
    np.diag([1.0, 1, 1, 1]),
    synthetic=SYNTHETIC_MARK,
)


def write(image: Path, seed: int) -> None:
    volume = replace(SCAN, array=SCAN.array * 0 + np.arange(6, dtype=np.float32) / 6 + seed)
    record = {"synthetic": True, "seed": seed}
    write_pair(image, lambda path: formats.write(volume, path), record)


def in_child(work: Callable[[], None]) -> int:
    """Do something in a process of its own; its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except UserError:
            os._exit(2)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dies_at(call: int) -> Callable[[], None]:
    """From now on, the process is killed before its nth change of a directory."""
    left = [call]

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if event in ("os.rename", "os.remove") or writes:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return lambda: sys.addaudithook(watch)


def test_a_kill_anywhere_leaves_a_pair_or_none(tmp_path: Path) -> None:
    image = tmp_path / "a.nii.gz"
    write(image, 1)
    killed = []
    for call in range(40):

        def replaced(call: int = call) -> None:
            dies_at(call)()
            write(image, 9)

        code = in_child(replaced)
        record = record_of(image)
        if record is not None:  # the old pair or the new one
            assert formats.read(image).array.min() == record["seed"]
        killed.append(code)
        write(image, 1)  # nothing stands in its way
        assert record_of(image)["seed"] == 1  # type: ignore[index]
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.nii.gz"]
        if code == 0:
            break
    assert killed[-1] == 0
    assert len(killed) > 6
    assert set(killed[:-1]) == {-signal.SIGKILL}


def test_a_side_car_speaks_for_its_own_image_only(tmp_path: Path) -> None:
    image = tmp_path / "a.nii.gz"
    assert record_of(image) is None
    write(image, 1)
    assert read_json(sidecar(image), "side-car")["sha256"] == sha256_of(image)
    formats.write(SCAN, image)
    assert record_of(image) is None
    sidecar(image).write_text("[]")
    assert record_of(image) is None


def test_the_content_of_a_scan_in_two_files(tmp_path: Path) -> None:
    for name in ("a.hdr", "a.img", "ab.img"):
        (tmp_path / name).write_text("one")
    before = sha256_of_scan(tmp_path / "a.hdr")
    assert sha256_of_scan(tmp_path / "a.img") == before
    (tmp_path / "ab.img").write_text("two")
    assert sha256_of_scan(tmp_path / "a.hdr") == before
    (tmp_path / "a.img").write_text("two")
    assert sha256_of_scan(tmp_path / "a.hdr") != before


# --- locks ------------------------------------------------------------------------------------


def test_a_second_writer_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    out = tmp_path / "new" / "deep"
    with only_writer(out):
        assert not in_use(out)
        refused = pytest.raises(OptionError, match="another process is writing to")
        with refused as caught, only_writer(out):
            pass
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    with only_writer(tmp_path):
        write_text(tmp_path / "kept.txt", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]


@pytest.mark.parametrize("native", [True, False])
def test_the_lock_of_a_dead_process_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    if not native:  # a network drive without locks
        monkeypatch.setattr(locks, "FileLock", locks.SoftFileLock)

    def dies() -> None:
        with only_writer(tmp_path / "out"):
            os.kill(os.getpid(), signal.SIGKILL)

    def second() -> None:
        with only_writer(tmp_path / "out"):
            pass

    assert in_child(dies) == -signal.SIGKILL
    assert (tmp_path / "out" / LOCK).exists()
    with only_writer(tmp_path / "out"):
        assert in_child(second) == 2  # while this one lives it holds


def test_who_writes_the_same_file_waits(tmp_path: Path) -> None:
    with one_at_a_time(tmp_path / "a.nii"):
        refused = pytest.raises(UserError, match="another process is writing")
        with refused, one_at_a_time(tmp_path / "a.nii", wait_s=0):
            pass
        with one_at_a_time(tmp_path / "b.nii", wait_s=0):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_locked_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OptionError, match="is a file"), only_writer(tmp_path / "file"):
        pass
    refused = pytest.raises(UserError, match="cannot be written to")
    with refused, only_writer(tmp_path / "file" / "below"):
        pass


def test_leftovers_of_other_files_are_kept(tmp_path: Path) -> None:
    for name in (".partial-7-a.nii", ".partial-7-b.nii"):
        (tmp_path / name).write_text("x")
    clear_leftovers(tmp_path, ["a.nii"])
    assert [p.name for p in tmp_path.iterdir()] == [".partial-7-b.nii"]
    clear_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a" * 248 + ".nii.gz", "é" * 123 + "a.nii.gz"])
def test_the_longest_names_can_be_written(tmp_path: Path, name: str) -> None:
    with one_at_a_time(tmp_path / name), whole_file(tmp_path / name) as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == [name]
