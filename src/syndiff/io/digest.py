"""SHA-256 digests and sizes of files, and of folders that hold one image."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from syndiff.errors import UserError


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits.

    For a folder, it is the digest of the sorted digests of its files, whatever their names.

    Raises:
        UserError: a file cannot be read.
    """
    if path.is_dir():
        each = sorted(sha256_of(file) for file in files_in(path))
        return hashlib.sha256("".join(each).encode()).hexdigest()
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error


def files_in(folder: Path) -> Iterator[Path]:
    """The files of a folder and its subfolders, without hidden ones."""
    for inside, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(inside) / name for name in sorted(names) if not name.startswith("."))


def stamp_of(path: Path) -> dict[str, int]:
    """Size in bytes and latest change in ns: whether a file or a folder is still the same.

    Raises:
        UserError: it has gone.
    """
    try:
        states = [file.stat() for file in (files_in(path) if path.is_dir() else [path])]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    return {
        "bytes": sum(state.st_size for state in states),
        "mtime_ns": max((state.st_mtime_ns for state in states), default=0),
    }


def sha256_of_scan(path: Path) -> str:
    """SHA-256 of a scan's content: of both files where header and values lie in two.

    Raises:
        UserError: a file cannot be read.
    """
    if path.suffix.lower() not in (".hdr", ".img"):
        return sha256_of(path)
    pair = sorted(p for p in path.parent.glob(f"{glob.escape(path.stem)}.*") if _of_pair(p))
    return hashlib.sha256("".join(map(sha256_of, pair)).encode()).hexdigest()


def _of_pair(path: Path) -> bool:
    return path.suffix.lower() in (".hdr", ".img")
