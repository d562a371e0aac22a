"""Checks of output paths before any work begins, so that no acquired data is ever replaced.

Files that syndiff made are recognised by their content: images carry the mark of synthetic or of
virtual images, and side-cars hold `"synthetic": true`. Every other existing file counts as the
user's data.
"""

from __future__ import annotations

import gzip
import os
import shutil
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from syndiff.errors import OptionError, UserError
from syndiff.io.marks import MARK_BEGINNING, says_synthetic

VIRTUAL_MARK = "virtual subject (syndiff"
READ_BYTES = 65_536  # the mark is within the first bytes of a file
MOST_NAMED = 3  # paths listed in a message


def is_ours(path: Path) -> bool:
    """Whether a file carries a mark that syndiff made it; False if the file cannot be read."""
    if path.name.lower().endswith(".json"):
        return says_synthetic(path)
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rb") as file:
            head = bytes(file.read(READ_BYTES))
    except (OSError, EOFError, zlib.error):
        return False
    return any(mark.encode() in head for mark in (MARK_BEGINNING, VIRTUAL_MARK))


def check_outputs(
    paths: Iterable[str | Path],
    *,
    overwrite: bool = False,
    expected_bytes: int = 0,
    ours: Callable[[Path], bool] = is_ours,
) -> None:
    """Check that files can be written, and that no file of the user's is replaced.

    Args:
        paths: the files that will be written.
        overwrite: allow replacing files that syndiff did not make.
        expected_bytes: the size of all files together, in bytes.
        ours: whether an existing file may be replaced without `overwrite`.

    Raises:
        OptionError: a path is a folder, or an existing file may not be replaced.
        UserError: a folder cannot be made or written, or the disk has too little space.
    """
    files = [Path(path) for path in paths]
    for file in files:
        if file.is_dir():
            raise OptionError(f"{file} is a folder", "the name of a file")
    foreign = [file for file in files if file.exists() and not overwrite and not ours(file)]
    if foreign:
        named = ", ".join(map(str, foreign[:MOST_NAMED]))
        more = f" and {len(foreign) - MOST_NAMED} more" if len(foreign) > MOST_NAMED else ""
        raise OptionError(
            f"{named}{more} would be replaced, and syndiff did not make it",
            "another name for the output",
            "`overwrite` replaces it nevertheless",
        )
    for folder in {file.parent for file in files}:
        check_folder(folder, expected_bytes)


def check_folder(folder: str | Path, expected_bytes: int = 0) -> None:
    """Check that a folder exists or can be made, is writable, and has enough free space.

    Args:
        folder: the folder.
        expected_bytes: the space that is needed, in bytes.

    Raises:
        OptionError: `folder` or one of its parents is a file.
        UserError: the folder is not writable, or the disk has too little space.
    """
    folder = Path(folder)
    there = next(
        place
        for place in (folder.absolute(), *folder.absolute().parents)
        if os.path.lexists(place)
    )
    if not there.is_dir():
        raise OptionError(f"{there} is a file", f"a folder, so that {folder} can be written")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(
            f"{there} may not be written", remedy="choose a folder that you may write to"
        )
    free = shutil.disk_usage(there).free
    if free < expected_bytes:
        raise UserError(
            f"{folder} has {free / 1e6:.0f} MB of free space",
            f"{expected_bytes / 1e6:.0f} MB for the results",
            "free some space or choose another folder",
        )


def expected_image_bytes(source: str | Path) -> int:
    """Bytes of an uncompressed float32 image on a file's grid; 0 if the file is unreadable."""
    import nibabel as nib

    try:
        shape = nib.load(source).shape
    except Exception:  # the reader of the file reports the error later
        return 0
    voxels = 1
    for n in shape:
        voxels *= int(n)
    return 4 * voxels
