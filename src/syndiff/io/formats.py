"""The table of file formats: suffixes, readers and writers.

To add a format, add a line to `FORMATS` and a module with its reader. DICOM has a room of its own,
on a floor above this one; the table calls it by name when a file needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from syndiff.errors import OptionError
from syndiff.io import nifti
from syndiff.io.volume import Volume

Reader = Callable[..., Volume]  # path, and the options of its format
Writer = Callable[[Volume, Path, str], None]  # volume, path, description


@dataclass(frozen=True)
class Format:
    """An image file format.

    Attributes:
        name: the format's name in messages.
        suffixes: the suffixes of the format's file names, in lower case.
        reader: path → volume; None if syndiff only recognises the format, to name it in errors.
        writer: (volume, path, description) → file; None if syndiff does not write the format.
        mark: path → the text that marks the image as synthetic, empty for an acquired one.
        recognises: for formats whose images are folders or archives, too: whether a path holds an
            image of the format.
    """

    name: str
    suffixes: tuple[str, ...]
    reader: Reader | None
    writer: Writer | None = None
    mark: Callable[..., str] | None = None
    recognises: Callable[[Path], bool] | None = None


def _dicom(name: str) -> Callable[..., Any]:
    """A function of `syndiff.dicom.reading`, which is imported when it is called."""

    def call(*arguments: Any, **named: Any) -> Any:
        return getattr(import_module("syndiff.dicom.reading"), name)(*arguments, **named)

    return call


FORMATS = (
    Format("NIfTI", (".nii.gz", ".nii"), nifti.read, nifti.write, nifti.mark_of),
    Format("MGH", (".mgz", ".mgh"), nifti.read, mark=nifti.mark_of),
    Format("Analyze or NIfTI pair", (".hdr", ".img"), nifti.read, mark=nifti.mark_of),
    Format(
        "DICOM",
        (".dcm", ".zip"),
        _dicom("read"),
        mark=_dicom("mark_of"),
        recognises=_dicom("is_dicom"),
    ),
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


def format_at(path: str | Path) -> Format | None:
    """The format of what lies at a path: by its suffix; of folders and files without, by content.

    A folder has the format of what lies in it or in its subfolders. None if nothing says which
    format it is.
    """
    path = Path(path)
    if not path.is_dir():
        kind = format_of(path)
        if kind is not None:
            return kind
    places = [path, *(Path(inside) for inside, _, _ in os.walk(path))]
    able = [kind for kind in FORMATS if kind.recognises is not None]
    return next(
        (k for place in places for k in able if k.recognises and k.recognises(place)), None
    )


def is_series(path: str | Path) -> bool:
    """Whether a path is a folder or an archive that holds images as slices, and no others."""
    path = Path(path)
    if path.is_dir():
        kinds = (format_of(file) for file in path.iterdir())
        if any(kind is not None and kind.recognises is None for kind in kinds):
            return False
    elif suffix_of(path) != ".zip":
        return False
    return any(kind.recognises is not None and kind.recognises(path) for kind in FORMATS)


def read(path: str | Path, **options: Any) -> Volume:
    """Read a volume into RAS+ order as float32; the file name's suffix decides the format.

    Args:
        path: a file; or a folder or a .zip of DICOM files, with all its subfolders.
        options: what the reader of the format takes besides: `options=DicomOptions(…)` for DICOM.

    Raises:
        VolumeError: the file is missing or damaged, is not a 3-D scalar image, holds NaN or
            infinite values, is blank, or does not state its orientation. DICOM: none or several
            series fit, or the series is no regular grid.
    """
    kind = format_at(path)
    # Files with an unknown suffix go to the NIfTI reader, whose error says what the file is.
    if kind is None or kind.reader is None:
        return nifti.read(path)
    return kind.reader(Path(path), **(options if kind.recognises is not None else {}))


def mark_of(path: str | Path, **options: Any) -> str:
    """The text that marks an image as synthetic; empty for an acquired or an unreadable one.

    Args:
        path, options: as for `read`.
    """
    kind = format_at(path)
    if kind is None or kind.mark is None:
        return ""
    return kind.mark(Path(path), **(options if kind.recognises is not None else {}))


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
