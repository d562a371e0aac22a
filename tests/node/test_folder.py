"""The queue on disk: interrupted between any two of its steps, it goes on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from syndiff.errors import UserError
from syndiff.node.folder import Job, NodeFolder, is_full, key_of
from syndiff.node.work import uids

STUDY = "1.2.3"


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Line:
    """A connection."""

    alive = True

    def is_alive(self) -> bool:
        return self.alive


def queued(folder: NodeFolder, *instances: str) -> Job:
    for instance in instances or ("1", "2"):
        folder.keep(b"content", STUDY, instance)
    ((job, _, _),) = folder.take_quiet(0)
    return job


def with_result(job: Job) -> Job:
    (job.results / "digest").mkdir(parents=True)
    (job.results / "digest" / "0001.dcm").write_bytes(b"made")
    return job


def test_a_study_is_quiet_when_all_its_connections_have_ended(tmp_path: Path) -> None:
    clock, first, second = Clock(), Line(), Line()
    folder = NodeFolder(tmp_path, clock)
    folder.keep(b"a", STUDY, "1", first)
    folder.keep(b"b", STUDY, "2", second)
    clock.now += 60
    second.alive = False
    assert not folder.take_quiet(10)
    first.alive = False
    clock.now -= 55
    assert not folder.take_quiet(10)
    clock.now += 5
    ((job, objects, back),) = folder.take_quiet(10)
    assert (job.key, objects, back) == (key_of(STUDY), 2, 0)


def test_after_a_restart_the_quiet_time_begins_again(tmp_path: Path) -> None:
    NodeFolder(tmp_path).keep(b"a", STUDY, "1")
    clock = Clock()
    folder = NodeFolder(tmp_path, clock)
    assert not folder.take_quiet(10)
    clock.now += 10
    assert len(folder.take_quiet(10)) == 1


def test_an_object_that_comes_twice_is_there_once(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path)
    folder.keep(b"old", STUDY, "1")
    folder.keep(b"new", STUDY, "1")
    ((job, objects, _),) = folder.take_quiet(0)
    assert objects == 1
    assert [path.read_bytes() for path in job.received.iterdir()] == [b"new"]


def test_nothing_is_left_of_an_object_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = NodeFolder(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space") as found:
            folder.keep(b"a", STUDY, "1")
    assert is_full(found.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_leftovers_of_a_killed_node_go(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path)
    (folder.at("incoming") / ".partial-1-x.dcm").write_bytes(b"half")
    (folder.at("trash") / "job").mkdir()
    (folder.at("quarantine") / "20260101T000000-key" / "received").mkdir(parents=True)
    (folder.at("incoming") / "key" / "received").mkdir(parents=True)
    again = NodeFolder(tmp_path)
    assert not again.take_quiet(0)
    assert not [path for path in tmp_path.glob("*/*")]


def test_results_and_faults_take_their_ways(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path)
    assert folder.finish(with_result(queued(folder)), []).folder.parent.name == "outgoing"
    job = folder.finish(queued(folder), ["no model"])
    assert job.folder.parent.name == "quarantine"
    assert job.faults() == ["no model"]
    job = folder.finish(with_result(queued(folder)), ["one of two"])
    assert job.folder.parent.name == "outgoing"
    job.note_sent("A@h:1", "digest/0001.dcm")
    set_aside = folder.quarantine(job)
    assert set_aside.faults() == ["one of two"]
    assert sorted(path.name for path in set_aside.folder.iterdir()) == ["faults.txt", "received"]


def test_what_comes_later_joins_what_is_in_quarantine(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path)
    folder.finish(queued(folder, "1", "2"), ["a slice is missing"])
    folder.keep(b"late", STUDY, "3")
    folder.keep(b"late", "9.9.9", "4")
    found = {job.key: (objects, back) for job, objects, back in folder.take_quiet(0)}
    assert found == {key_of(STUDY): (3, 2), key_of("9.9.9"): (1, 0)}
    assert folder.waiting()["quarantine"] == 0


def test_confirmed_images_are_remembered_by_destination(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path)
    job = folder.finish(with_result(queued(folder)), [])
    job.note_sent("A@h:1", "digest/0001.dcm")
    again = next(NodeFolder(tmp_path).jobs("outgoing"))
    assert again.sent("A@h:1") == {"digest/0001.dcm"}
    assert again.sent("B@h:1") == set()


def test_attempts_are_counted_until_one_succeeds(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path)
    job = queued(folder)
    for number in range(3):
        assert job.attempts() == number
        job.begin()
    assert folder.finish(job, ["fault"]).attempts() == 0


def test_what_was_sent_is_remembered_for_a_while(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path)
    folder.note_done("digest")
    assert folder.done_lately("digest", 60)
    assert not folder.done_lately("other", 60)
    os.utime(folder.at("done") / "digest", (0, 0))
    assert not folder.done_lately("digest", 60)
    folder.forget_done(60)
    assert not list(folder.at("done").iterdir())


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a folder that you may write to"):
        NodeFolder(tmp_path / "file" / "node")


def test_uids_follow_from_the_digest() -> None:
    first, second, other = uids("digest"), uids("digest"), uids("another")
    made = [first() for _ in range(100)]
    assert made == [second() for _ in range(100)]
    assert len({*made, *[other() for _ in range(100)]}) == 200
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in made)


def test_a_kill_between_two_folders_loses_nothing_of_the_quarantine(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path)
    folder.quarantine(queued(folder, "1"), "no slices")
    (folder.at("incoming") / key_of(STUDY)).mkdir()  # its `received` was not yet made
    ((job, objects, back),) = folder.take_quiet(0)
    assert (objects, back) == (1, 1)
    assert [path.read_bytes() for path in job.received.iterdir()] == [b"content"]
