"""What may be written where: asked before any work, so that nothing acquired is ever lost.

A file of ours says so itself: images carry the mark of synthetic or virtual images, side-cars say
`"synthetic": true`. Any other existing file is somebody's data.
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
READ_BYTES = 65_536  # marks stand in the first bytes of a header
MOST_NAMED = 3


def is_ours(path: Path) -> bool:
    """Whether a file says of itself that syndiff made it; False where it cannot be read."""
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
    """Make sure that files can be written, and that nothing of somebody else is replaced.

    Args:
        paths: files that will be written; what is ours among them may be replaced.
        overwrite: the user insists on replacing the others, too.
        expected_bytes: of all of them together.
        ours: whether a file may be replaced without asking.

    Raises:
        OptionError: one exists and is not ours; or is a folder.
        UserError: a folder cannot be made or written, or the disk is too full.
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
    """Make sure that a folder exists or can be made, may be written, and has the space.

    Raises:
        OptionError: a file is in its place.
        UserError: it may not be written, or the disk is too full.
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
    """The size of a float32 image on the grid of a file, uncompressed; 0 if it is unreadable."""
    import nibabel as nib

    try:
        shape = nib.load(source).shape
    except Exception:  # whoever reads it will say what is wrong with it
        return 0
    voxels = 1
    for n in shape:
        voxels *= int(n)
    return 4 * voxels
