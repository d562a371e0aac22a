"""Atomic writing: a file is written under a temporary name and then renamed."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from syndiff.errors import UserError

PARTIAL = ".partial-"  # begins the name of a file that is being written
LONGEST_NAME = 255  # bytes, of most file systems
LARGEST_JSON = 512_000_000  # bytes; a manifest of 10,000 scans takes about 50 MB

LARGEST_TABLE = 64_000_000  # bytes of a table or a history: more than a million rows


def partial_of(path: Path, tag: str) -> Path:
    """The hidden name beside `path` under which it is written; it ends as `path` does."""
    head = f"{PARTIAL}{tag}-".encode()
    name = os.fsencode(path.name)
    if len(head) + len(name) > LONGEST_NAME:  # the end of the name, which says the format
        name = name[len(head) + len(name) - LONGEST_NAME :]
        while name and name[0] & 0xC0 == 0x80:  # not within a letter
            name = name[1:]
    return path.with_name(os.fsdecode(head + name))


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds.

    The temporary name keeps the suffix of `path` (`.nii.gz` stays `.nii.gz`), because writers
    choose the format by the suffix. If the block fails, the temporary file is deleted.

    Raises:
        UserError: the disk is full, or the folder is not writable.
    """
    path = Path(path)
    temporary = partial_of(path, str(os.getpid()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{path} could not be written: {reason}",
            remedy="free some space or choose a folder that you may write to",
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically; see `whole_file`."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically; see `whole_file`.

    Raises:
        ValueError: `content` holds NaN or an infinite number.
        UserError: the file could not be written.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path, what: str, remedy: str = "") -> Any:
    """Read a JSON file.

    Files with NaN, infinite numbers or duplicate keys are refused as invalid JSON.

    Args:
        path: the file.
        what: the kind of file in error messages ("manifest", "translator configuration").
        remedy: what the user should do about an error.

    Raises:
        UserError: the file is missing, is not a regular file, is larger than `LARGEST_JSON`, or is
            not valid JSON.
    """
    text = read_text(path, what, remedy, LARGEST_JSON, "readable JSON")
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError as error:
        raise UserError(f"the {what} {path} is nested too deeply", remedy=remedy) from error
    except ValueError as error:  # bad JSON, or a number with too many digits
        raise UserError(
            f"the {what} {path} is not readable JSON ({error})", remedy=remedy
        ) from error


def read_text(
    path: str | Path,
    what: str,
    remedy: str = "",
    most_bytes: int = LARGEST_TABLE,
    kind: str = "readable text",
) -> str:
    """Read a text in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        what: the kind of file in error messages.
        remedy: what the user should do about an error.
        most_bytes: larger files are refused before they are read.
        kind: what the file is not, in error messages, if it cannot be decoded.

    Raises:
        UserError: the file is missing, is not a regular file, is too large, or is not UTF-8.
    """
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would block for ever
            raise UserError(f"the {what} {path} is no file", remedy=remedy)
        if status.st_size > most_bytes:
            raise UserError(
                f"the {what} {path} is {status.st_size / 1e6:.0f} MB long",
                f"at most {most_bytes / 1e6:.0f} MB",
                remedy,
            )
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"no {what} at {path}", remedy=remedy) from error
    except (OSError, ValueError) as error:  # of the file system, or bad UTF-8
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"the {what} {path} is not {kind} ({reason})", remedy=remedy) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
