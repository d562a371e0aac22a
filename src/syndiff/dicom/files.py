"""DICOM files in a folder, in a .zip of a folder, or alone.

A .zip is never unpacked to disk: its members are read into memory one by one, so that names that
lead out of the folder, links and leftovers cannot do harm. Sizes are limited before reading.
"""

from __future__ import annotations

import io
import os
import threading
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from syndiff.errors import VolumeError
from syndiff.io.dicom import SUFFIXES
from syndiff.io.dicom import is_dicom as says_dicom

MAGIC_AT, MAGIC = 128, b"DICM"
ARCHIVE = ".zip"
SKIPPED = {"dicomdir", "__macosx"}
MOST_FILES = 200_000
LARGEST_MEMBER = 4_000_000_000  # bytes, unpacked
LARGEST_RATIO = 1100  # deflate packs zeros 1032:1; a larger ratio is a lie in the directory
LOOKED_AT = 12  # files of a folder that are opened to tell whether it holds DICOM


@dataclass(frozen=True)
class Source:
    """One DICOM file.

    Attributes:
        path: the file, or the .zip that holds it.
        member: the name within the .zip; empty for a file.
    """

    path: Path
    member: str = ""
    archive: zipfile.ZipFile | None = field(default=None, repr=False, compare=False)

    def open(self) -> BinaryIO:
        """The file, opened for reading.

        Raises:
            VolumeError: it cannot be opened.
        """
        try:
            if self.archive is None:
                return self.path.open("rb")
            with _reading:
                info = self.archive.getinfo(self.member)
                with self.archive.open(info) as packed:
                    content = packed.read(info.file_size + 1)
        except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise VolumeError(f"{self} cannot be read ({_reason(error)})") from error
        except (NotImplementedError, RuntimeError) as error:
            raise VolumeError(
                f"{self} is packed in an unknown way or with a password", "a plain .zip"
            ) from error
        return io.BytesIO(content)

    def __str__(self) -> str:
        return f"{self.path}: {self.member}" if self.member else f"{self.path}"


_reading = threading.Lock()


def sources_of(path: Path) -> list[Source]:
    """Every DICOM file at a path, in the order of names.

    Args:
        path: a folder (searched with all its subfolders), a .zip, or one file.

    Raises:
        VolumeError: there is nothing at the path, no DICOM is in it, or the .zip is damaged.
    """
    if path.is_dir():
        found = [Source(file) for file in _files(path) if is_dicom_file(file)]
    elif not path.exists():
        raise VolumeError(f"no file or folder {path}", remedy="check the path")
    elif path.suffix.lower() == ARCHIVE:
        found = _members(path)
    else:
        found = [Source(path)]
    if not found:
        raise VolumeError(f"{path} holds no DICOM files", "the files of a series")
    return found


def is_dicom(path: Path) -> bool:
    """Whether a path is a DICOM file, or a folder or .zip that holds DICOM files directly."""
    try:
        if path.is_dir():
            return _holds_dicom(path)
        if path.suffix.lower() == ARCHIVE:
            return path.is_file() and bool(_members(path, most=1))
        return is_dicom_file(path)
    except (OSError, VolumeError):
        return False


def is_dicom_file(path: Path) -> bool:
    """Whether a file's name or content says that it is DICOM."""
    return path.name.lower() not in SKIPPED and path.is_file() and says_dicom(path)


def _holds_dicom(folder: Path) -> bool:
    looked_at = 0
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        if is_dicom_file(path):
            return True
        looked_at += 1
        if looked_at >= LOOKED_AT:
            break
    return False


def _files(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()
    count = 0
    for inside, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(inside)
        if real in seen:  # a link back to a folder that was searched
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(
            f for f in folders if not f.startswith(".") and f.lower() not in SKIPPED
        )
        for name in sorted(files):
            count += 1
            if count > MOST_FILES:
                raise VolumeError(
                    f"{folder} holds more than {MOST_FILES} files", remedy="choose a subfolder"
                )
            if not name.startswith("."):
                yield Path(inside) / name


def _members(path: Path, most: int = MOST_FILES) -> list[Source]:
    """The DICOM files of a .zip; at most `most` of them."""
    try:
        archive = zipfile.ZipFile(path)
        infos = archive.infolist()
        if len(infos) > MOST_FILES:
            raise VolumeError(f"{path} holds {len(infos)} files", f"at most {MOST_FILES}")
        found: list[Source] = []
        for info in sorted(infos, key=lambda each: each.filename):
            name = info.filename.rsplit("/", 1)[-1]
            parts = {part.lower() for part in info.filename.split("/")}
            if info.is_dir() or name.startswith(".") or parts & SKIPPED:
                continue
            _check_member(path, info)
            with archive.open(info) as file:
                magic = file.read(MAGIC_AT + 4)[MAGIC_AT:] == MAGIC
            if magic or name.lower().endswith(SUFFIXES):
                found.append(Source(path, info.filename, archive))
            if len(found) == most:
                break
    except (NotImplementedError, RuntimeError) as error:
        raise VolumeError(
            f"{path} is packed in an unknown way or with a password", "a plain .zip"
        ) from error
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise VolumeError(
            f"{path} is not a readable .zip ({_reason(error)})", remedy="copy it again"
        ) from error
    return found


def _check_member(path: Path, info: zipfile.ZipInfo) -> None:
    if info.flag_bits & 1:
        raise VolumeError(f"{path} is locked with a password", "a plain .zip", "unlock it first")
    packed = max(info.compress_size, 1)
    if info.file_size > LARGEST_MEMBER or info.file_size > LARGEST_RATIO * packed + 1_000_000:
        raise VolumeError(
            f"{path} holds a file of {info.file_size / 1e6:.0f} MB packed into "
            f"{packed / 1e6:.3f} MB",
            f"at most {LARGEST_MEMBER / 1e6:.0f} MB, packed {LARGEST_RATIO}:1",
        )


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
