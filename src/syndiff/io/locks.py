"""One writer at a time, for folders and for files that belong together.

The operating system frees the lock of a process that died, on network drives with locks, too.
Where a file system has none, the lock is a file with the process's number and machine: filelock
takes it over once that process is gone from this machine.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from syndiff.errors import OptionError, UserError
from syndiff.io.atomic import PARTIAL, partial_of

LOCK = ".syndiff.lock"
WAIT_S = 60.0  # for another process that writes the same image
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


def is_leftover(path: Path) -> bool:
    """Whether a file or folder is what an interrupted writer of ours left, and nothing more."""
    return path.name == LOCK or path.name.startswith(PARTIAL)


def in_use(folder: Path) -> bool:
    """Whether a path holds anything but leftovers."""
    return folder.exists() and (not folder.is_dir() or not all(map(is_leftover, folder.iterdir())))


@contextmanager
def only_writer(folder: str | Path) -> Iterator[None]:
    """Inside, no other process writes to the folder; it is made if need be.

    What was made for it is removed where it stays empty.

    Raises:
        OptionError: another process is writing to it, or it is a file.
        UserError: the folder cannot be written to.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"{folder} is a file", "a folder")
    made = [place for place in (folder, *folder.absolute().parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _locked(folder / LOCK, 0)
    except Timeout as error:
        raise OptionError(
            f"another process is writing to {folder}", "a folder that nobody writes to",
            "wait for it or stop it, or choose another folder",
        ) from error  # fmt: skip
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written to ({error.strerror})", remedy="choose another folder"
        ) from error
    try:
        yield
    finally:
        _free(lock, folder / LOCK)
        for place in made:
            with suppress(OSError):  # what holds something stays
                place.rmdir()


@contextmanager
def one_at_a_time(file: Path, wait_s: float = WAIT_S) -> Iterator[None]:
    """Inside, no other process writes this file or folder; one that does is waited for.

    Raises:
        UserError: it is being written all the while, or its folder cannot be written to.
    """
    path = partial_of(file, "lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = _locked(path, wait_s)
    except Timeout as error:
        raise UserError(
            f"another process is writing {file}", remedy="wait for it, or choose another name"
        ) from error
    except OSError as error:
        raise UserError(
            f"{file} could not be written: {error.strerror}",
            remedy="choose a folder that you may write to",
        ) from error
    try:
        yield
    finally:
        _free(lock, path)


def clear_leftovers(folder: Path, names: Collection[str] | None = None) -> None:
    """Remove what writers that are no more left half-written; for who holds the lock.

    Args:
        folder: itself, not the folders in it.
        names: of the files that were to be written; None for any.
    """
    endings = None if names is None else tuple(f"-{name}" for name in names)
    for path in folder.glob(f"{PARTIAL}*"):
        if path.name.startswith(f"{PARTIAL}lock-"):
            continue  # somebody may hold it; it is no half-written file
        if endings is not None and not path.name.endswith(endings):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _locked(path: Path, wait_s: float) -> BaseFileLock:
    """The lock, held.

    Raises:
        Timeout: somebody else has it.
        OSError: the folder cannot be written to.
    """
    for kind in (FileLock, SoftFileLock):
        lock = kind(path, timeout=wait_s)
        try:
            lock.acquire()
            return lock
        except NotImplementedError:
            continue  # a network drive without locks
        except OSError as error:
            if error.errno not in NO_LOCKS or kind is SoftFileLock:
                raise
    raise OSError(errno.ENOLCK, "it cannot be locked", str(path))


def _free(lock: BaseFileLock, path: Path) -> None:
    with suppress(OSError):  # while it is held: who waits notices that the file is another one
        path.unlink(missing_ok=True)
    with suppress(OSError):
        lock.release()
