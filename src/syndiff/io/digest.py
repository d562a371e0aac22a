"""SHA-256 digests of files, which identify their content."""

from __future__ import annotations

import glob
import hashlib
from pathlib import Path

from syndiff.errors import UserError


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error


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
