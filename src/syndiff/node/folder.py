"""The queue on disk. A study is in one folder at a time and moves on by renaming.

    FOLDER/incoming/KEY/received/     objects of a study that is still arriving
    FOLDER/queue/TIME-KEY/received/   a study that is to be translated
                          results/    the derived series so far
                          attempts    one line for each time that its translation began
    FOLDER/outgoing/TIME-KEY/         results/ is complete
                          sent-…      names of the images that a destination has confirmed
                          faults.txt  what could not be translated
    FOLDER/quarantine/TIME-KEY/       received/ as it came, and faults.txt
    FOLDER/done/                      an empty file for each translation that was sent
    FOLDER/trash/                     what is being removed

KEY is a digest of the Study Instance UID, the names of files are digests of SOP Instance UIDs: no
name says who the patient is. Every step can be interrupted and repeated. What must outlive a loss
of power (an object, before it is acknowledged; a result, before it is sent) is forced to the disk.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from syndiff.errors import UserError
from syndiff.io.atomic import PARTIAL, write_text

INCOMING, QUEUE, OUTGOING, QUARANTINE, DONE, TRASH = PLACES = (
    "incoming", "queue", "outgoing", "quarantine", "done", "trash",
)  # fmt: skip
RECEIVED, RESULTS, ATTEMPTS, FAULTS = "received", "results", "attempts", "faults.txt"
GIGABYTE = 1e9
KEY_LENGTH = 12  # hexadecimal digits
FULL = {errno.ENOSPC, errno.EDQUOT}


def key_of(study_uid: str) -> str:
    """The name of a study in folders and in the log: a digest of its UID."""
    return sha256(study_uid.encode()).hexdigest()[:KEY_LENGTH]


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is a disk without space."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__
    return False


def sync(path: Path) -> None:
    """Force a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some file systems cannot do it for folders
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Force everything in a folder to the disk."""
    for path in (*sorted(folder.rglob("*")), folder):
        sync(path)


@dataclass(frozen=True)
class Job:
    """A study in the queue, on its way out, or in quarantine."""

    folder: Path

    @property
    def key(self) -> str:
        """The study's name in the log."""
        return self.folder.name.rpartition("-")[2]

    @property
    def received(self) -> Path:
        """The objects as they came."""
        return self.folder / RECEIVED

    @property
    def results(self) -> Path:
        """The derived series."""
        return self.folder / RESULTS

    def images(self) -> list[Path]:
        """The files of the results, in order."""
        found = self.results.glob("*/*.dcm")
        return sorted(path for path in found if not path.parent.name.startswith("."))

    def faults(self) -> list[str]:
        """What could not be translated, a line each."""
        path = self.folder / FAULTS
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def attempts(self) -> int:
        """How often its translation has begun and not ended."""
        path = self.folder / ATTEMPTS
        return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0

    def begin(self) -> None:
        """Note an attempt, before it."""
        with (self.folder / ATTEMPTS).open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n")
            file.flush()
            os.fsync(file.fileno())

    def forget_attempts(self) -> None:
        """The translation was ended on purpose: attempts do not count."""
        with suppress(OSError):
            (self.folder / ATTEMPTS).unlink(missing_ok=True)

    def sent(self, destination: str) -> set[str]:
        """Names of the images that a destination has confirmed."""
        path = self._sent_file(destination)
        return set(path.read_text(encoding="utf-8").splitlines()) if path.exists() else set()

    def note_sent(self, destination: str, image: str) -> None:
        """Note that a destination has confirmed an image; a half line counts as nothing."""
        with self._sent_file(destination).open("a", encoding="utf-8") as file:
            file.write(f"{image}\n")

    def _sent_file(self, destination: str) -> Path:
        return self.folder / f"sent-{sha256(destination.encode()).hexdigest()[:KEY_LENGTH]}"


class NodeFolder:
    """The folders of a node; for the one process that holds its lock.

    Args:
        folder: made if need be, for the owner alone.
        clock: seconds; another one in tests.

    Raises:
        UserError: it cannot be written to.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder, self._clock = folder, clock
        self._moving = threading.Lock()  # of objects into a study, and of studies onward
        self._heard: dict[str, tuple[float, set[Any]]] = {}  # study → when, which connections
        try:
            for name in PLACES:
                self.at(name).mkdir(mode=0o700, parents=True, exist_ok=True)
            for leftover in self.at(INCOMING).glob(f"{PARTIAL}*"):
                leftover.unlink()
            self._clear()
        except OSError as error:
            raise UserError(
                f"`folder` {folder} cannot be used ({error.strerror})",
                "a folder that you may write to",
            ) from error

    def at(self, name: str) -> Path:
        """One of its folders."""
        return self.folder / name

    def free_gb(self) -> float:
        """Free space of the disk, in gigabytes of 10⁹ bytes."""
        return shutil.disk_usage(self.folder).free / GIGABYTE

    def keep(self, content: bytes, study_uid: str, instance_uid: str, by: Any = None) -> str:
        """Put an object into its study. When this returns, it is safely on disk.

        Args:
            content: the DICOM file.
            study_uid, instance_uid: of the object; one that came before is replaced.
            by: the connection; while its `is_alive()` holds, the study is still arriving.

        Returns:
            The key of the study.

        Raises:
            OSError: it could not be written; nothing of it is left.
        """
        key = key_of(study_uid)
        name = sha256(instance_uid.encode()).hexdigest()[:32] + ".dcm"
        mine = f"{PARTIAL}{threading.get_ident()}-{name}"
        temporary = self.at(INCOMING) / mine
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            with self._moving:
                place = self.at(INCOMING) / key / RECEIVED
                new = not place.exists()
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.replace(temporary, place / name)
                sync(place)
                if new:
                    sync(place.parent)
                    sync(self.at(INCOMING))
                _, before = self._heard.get(key, (0.0, set()))
                self._heard[key] = (self._clock(), before | ({by} - {None}))
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        return key

    def take_quiet(self, quiet_s: float) -> list[tuple[Job, int, int]]:
        """Move studies of which nothing more comes into the queue.

        What is in quarantine of the same study goes with them: the missing slices may have come.

        Returns:
            The jobs, each with the number of its objects, and how many were in quarantine.
        """
        found = []
        for place in sorted(self.at(INCOMING).iterdir()):
            if place.name.startswith("."):
                continue
            with self._moving:
                heard, by = self._heard.setdefault(place.name, (self._clock(), set()))
                if any(each.is_alive() for each in by) or self._clock() - heard < quiet_s:
                    continue
                back = self._from_quarantine(place)
                if not any(place.glob(f"{RECEIVED}/*")):  # killed before its first object
                    shutil.rmtree(place)
                    continue
                job = Job(self.at(QUEUE) / f"{_now()}-{place.name}")
                place.rename(job.folder)
                del self._heard[place.name]
            found.append((job, sum(1 for _ in job.received.iterdir()), back))
        return found

    def _from_quarantine(self, place: Path) -> int:
        """Move the objects of a study in quarantine to those that have come; how many."""
        count = 0
        for old in self.jobs(QUARANTINE):
            if old.key != place.name:
                continue
            (place / RECEIVED).mkdir(mode=0o700, exist_ok=True)  # a kill may have come before it
            held = sorted(old.received.iterdir()) if old.received.is_dir() else []
            for path in held:
                if not (place / RECEIVED / path.name).exists():
                    path.rename(place / RECEIVED / path.name)
                    count += 1
            self.remove(old)
        return count

    def jobs(self, name: str) -> Iterator[Job]:
        """The jobs of one of the folders, the oldest first."""
        for path in sorted(self.at(name).iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                yield Job(path)

    def waiting(self) -> dict[str, int]:
        """How many studies each of the folders holds."""
        return {
            name: sum(1 for _ in self.jobs(name))
            for name in (INCOMING, QUEUE, OUTGOING, QUARANTINE)
        }

    def finish(self, job: Job, faults: list[str]) -> Job:
        """After the translation: on its way out if there are results, else into quarantine."""
        if faults:
            write_text(job.folder / FAULTS, "".join(f"{line}\n" for line in faults))
            sync(job.folder / FAULTS)
        else:  # of an earlier attempt
            (job.folder / FAULTS).unlink(missing_ok=True)
        job.forget_attempts()
        if not job.images():
            return self.quarantine(job)
        sync_tree(job.folder)
        return self._move(job, OUTGOING)

    def quarantine(self, job: Job, *faults: str) -> Job:
        """Set a study aside; what came stays, the results go."""
        if faults:
            lines = [*job.faults(), *faults]
            write_text(job.folder / FAULTS, "".join(f"{line}\n" for line in lines))
        if job.results.exists():
            results = self.at(TRASH) / f"{_now()}-{job.folder.name}"
            job.results.rename(results)
            shutil.rmtree(results, ignore_errors=True)
        for path in job.folder.glob("sent-*"):
            path.unlink()
        job.forget_attempts()
        sync_tree(job.folder)
        return self._move(job, QUARANTINE)

    def remove(self, job: Job) -> None:
        """Remove a job for good; if it is interrupted, the next start goes on."""
        target = self.at(TRASH) / f"{_now()}-{job.folder.name}"
        job.folder.rename(target)
        shutil.rmtree(target, ignore_errors=True)

    def note_done(self, digest: str) -> None:
        """Note that a translation was sent."""
        (self.at(DONE) / digest).touch()

    def done_lately(self, digest: str, within_s: float) -> bool:
        """Whether a translation was sent within so many seconds."""
        try:
            age_s = time.time() - (self.at(DONE) / digest).stat().st_mtime
        except OSError:
            return False
        return age_s < within_s

    def forget_done(self, within_s: float) -> None:
        """Remove the notes that are older."""
        for path in self.at(DONE).iterdir():
            if not self.done_lately(path.name, within_s):
                path.unlink(missing_ok=True)

    def _move(self, job: Job, name: str) -> Job:
        moved = Job(self.at(name) / job.folder.name)
        source = job.folder.parent
        job.folder.rename(moved.folder)
        sync(moved.folder.parent)
        sync(source)
        return moved

    def _clear(self) -> None:
        """Remove what a node that was killed left behind and nobody needs."""
        for path in self.at(TRASH).iterdir():
            shutil.rmtree(path, ignore_errors=True)
        for job in self.jobs(QUARANTINE):  # whose objects had moved on
            if not any(job.received.glob("*")):
                self.remove(job)


def _now() -> str:
    """A time that sorts by name and that no two calls share."""
    time.sleep(1e-6)
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
