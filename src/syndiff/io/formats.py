"""The one table of file formats: what is read, what is written, by which functions.

A new format is a line of `FORMATS` and a file with its reader.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from syndiff.errors import OptionError
from syndiff.io import nifti
from syndiff.io.volume import Volume

Reader = Callable[[Path], Volume]
Writer = Callable[[Volume, Path, str], None]  # volume, path, description


@dataclass(frozen=True)
class Format:
    """A kind of image file.

    Attributes:
        name: for messages.
        suffixes: of its files, in lower case.
        reader: path → volume; None for files that are recognised only to be named in an error.
        writer: None where results are not written so.
    """

    name: str
    suffixes: tuple[str, ...]
    reader: Reader | None
    writer: Writer | None = None


FORMATS = (
    Format("NIfTI", (".nii.gz", ".nii"), nifti.read, nifti.write),
    Format("MGH", (".mgz", ".mgh"), nifti.read),
    Format("Analyze or NIfTI pair", (".hdr", ".img"), nifti.read),
    Format("DICOM", (".dcm",), None),
)
SUFFIXES = tuple(suffix for kind in FORMATS for suffix in kind.suffixes)  # of every known format
READABLE = tuple(suffix for kind in FORMATS if kind.reader for suffix in kind.suffixes)
WRITABLE = tuple(suffix for kind in FORMATS if kind.writer for suffix in kind.suffixes)


def suffix_of(path: str | Path) -> str:
    """The image suffix of a file name in lower case (".nii.gz" counts as one), else ""."""
    name = Path(path).name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def stem_of(path: str | Path) -> str:
    """A file's name without its image suffix: "sub-1_T1w" of "sub-1_T1w.nii.gz"."""
    name = Path(path).name
    return name[: len(name) - len(suffix_of(name))]


def format_of(path: str | Path) -> Format | None:
    """The format of a file name, None if it is unknown."""
    suffix = suffix_of(path)
    return next((kind for kind in FORMATS if suffix in kind.suffixes), None)


def read(path: str | Path) -> Volume:
    """Read a volume into RAS+ order, float32, by the format that its name says.

    Raises:
        VolumeError: the file is missing, damaged, no 3-D scalar image, holds NaN or infinite
            values, is blank, or does not say how it lies in space.
    """
    kind = format_of(path)
    # An unknown name goes to the usual reader, which says what the file is instead.
    reader = kind.reader if kind and kind.reader else nifti.read
    return reader(Path(path))


def write(volume: Volume, path: str | Path, description: str = "") -> None:
    """Write a volume by the format that the name says, on the grid of its own file.

    Args:
        volume: what to write.
        path: ends in one of `WRITABLE`.
        description: goes into the file's header, unless the volume carries a synthetic mark.

    Raises:
        OptionError: `path` has another ending.
        UserError: the file could not be written; nothing is left behind.
    """
    check_output_name(path)
    kind = format_of(path)
    assert kind is not None  # checked above
    assert kind.writer is not None
    kind.writer(volume, Path(path), description)


def check_output_name(path: str | Path) -> None:
    """Raise OptionError unless `path` can be written; called before any long work."""
    if suffix_of(path) not in WRITABLE:
        raise OptionError(
            f"the output name {Path(path).name!r}", f"a name ending in {' or '.join(WRITABLE)}"
        )
