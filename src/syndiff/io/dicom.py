"""DICOM files are recognised by name or content; `syndiff.dicom` reads them."""

from __future__ import annotations

import os
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

LOOKED_AT = 2000  # files of a folder; a series of slices shows itself in the first one
SUFFIXES = (".dcm", ".ima")


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its name, or by the letters DICM behind 128 bytes."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def first_dicom(folder: Path) -> Path | None:
    """A DICOM file in or below a folder, None if none is found among the first files."""
    files = (Path(place) / name for place, _, names in os.walk(folder) for name in sorted(names))
    regular = (path for path in islice(files, LOOKED_AT) if path.is_file())
    return next((path for path in regular if is_dicom(path)), None)


def reading(series: str, regular_grid: bool, hu_offset: float) -> dict[str, Any]:
    """The options of `io.formats.read` for DICOM; none where everything is as usual.

    Args:
        series, regular_grid, hu_offset: see `syndiff.dicom.options.DicomOptions`.

    Raises:
        OptionError: one of them makes no sense.
    """
    if not (series or regular_grid or hu_offset):
        return {}
    kind = import_module("syndiff.dicom.options").DicomOptions
    return {"options": kind(series, regular_grid, hu_offset)}
