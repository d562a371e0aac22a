"""One process at a time writes to a run's folder. Leftovers of killed processes are removed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from syndiff.errors import OptionError, UserError

LOCK, PARTIAL = ".lock", ".partial-"


def is_leftover(path: Path) -> bool:
    """Whether a file or folder is a lock or a partial file of an interrupted run."""
    return path.name == LOCK or path.name.startswith(PARTIAL)


def in_use(run: Path) -> bool:
    """Whether a path holds anything but leftovers."""
    return run.exists() and (not run.is_dir() or not all(map(is_leftover, run.iterdir())))


@contextmanager
def only_writer(run: Path) -> Iterator[None]:
    """Lock the run's folder and remove the leftovers of killed processes.

    The operating system frees the lock of a process that died. On a file system without locks, a
    lock file holds the number of the process; another process takes it over once that one has
    ended.

    Raises:
        OptionError: another process is writing to the folder.
        UserError: the folder cannot be written to.
    """
    lock = _locked(run)
    try:
        _clear(run)
        yield
    finally:
        lock.release()
        with suppress(OSError):
            (run / LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # a run that was refused leaves no folder
            run.rmdir()


def _locked(run: Path) -> BaseFileLock:
    try:
        run.mkdir(parents=True, exist_ok=True)
        for kind in (FileLock, SoftFileLock):
            lock = kind(run / LOCK, timeout=0)
            try:
                lock.acquire()
                return lock
            except NotImplementedError:
                continue  # a network drive without locks
    except Timeout as error:
        raise OptionError(
            f"another process is training in {run}", "a run that nobody writes to",
            "wait for it or stop it, or choose another folder",
        ) from error  # fmt: skip
    except OSError as error:
        raise UserError(
            f"{run} cannot be written to ({error.strerror})", remedy="choose another folder"
        ) from error
    raise UserError(f"{run} cannot be locked", remedy="choose a folder on a local disk")


def _clear(run: Path) -> None:
    """Remove files that killed processes left half-written."""
    for folder in (run, run / "checkpoints", run / "translators"):
        for path in folder.glob(f"{PARTIAL}*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
