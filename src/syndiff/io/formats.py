"""The table of file formats: suffixes, readers and writers.

To add a format, add a line to `FORMATS` and a module with its reader.
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
    """An image file format.

    Attributes:
        name: the format's name in messages.
        suffixes: the suffixes of the format's file names, in lower case.
        reader: path → volume; None if syndiff only recognises the format, to name it in errors.
        writer: (volume, path, description) → file; None if syndiff does not write the format.
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
    """The format that a file name's suffix stands for; None if the suffix is unknown."""
    suffix = suffix_of(path)
    return next((kind for kind in FORMATS if suffix in kind.suffixes), None)


def read(path: str | Path) -> Volume:
    """Read a volume into RAS+ order as float32; the file name's suffix decides the format.

    Raises:
        VolumeError: the file is missing or damaged, is not a 3-D scalar image, holds NaN or
            infinite values, is blank, or does not state its orientation.
    """
    kind = format_of(path)
    # Files with an unknown suffix go to the NIfTI reader, whose error says what the file is.
    reader = kind.reader if kind and kind.reader else nifti.read
    return reader(Path(path))


def write(volume: Volume, path: str | Path, description: str = "") -> None:
    """Write a volume on the grid of the file that it was read from (`volume.stored`).

    Args:
        volume: the volume to write.
        path: the file to write; its suffix, one of `WRITABLE`, decides the format.
        description: text for the file's header; a synthetic volume's mark takes its place.

    Raises:
        OptionError: `path` has another suffix.
        UserError: the file could not be written; nothing is left behind.
    """
    check_output_name(path)
    kind = format_of(path)
    assert kind is not None  # checked above
    assert kind.writer is not None
    kind.writer(volume, Path(path), description)


def check_output_name(path: str | Path) -> None:
    """Check that the suffix of an output name can be written, before any long work.

    Raises:
        OptionError: `path` does not end in one of `WRITABLE`.
    """
    if suffix_of(path) not in WRITABLE:
        raise OptionError(
            f"the output name {Path(path).name!r}", f"a name ending in {' or '.join(WRITABLE)}"
        )
