"""Write a synthetic volume as a derived DICOM series on the slices of its source series.

Each slice becomes a file of its own, an MR or CT image, uncompressed, with 16 bits. What it takes
from the source is the patient, the study, the frame of reference and the geometry, and nothing
else (`datasets`): how the source was acquired would be a lie about a synthetic image.

The folder is made under a temporary name and renamed, so it is whole or absent.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.dicom.datasets import Derivation, Plane, SeriesTags, image, series_tags
from syndiff.dicom.frames import Frame, dataset
from syndiff.dicom.geometry import TO_RAS
from syndiff.dicom.reading import slices_of
from syndiff.dicom.series import Series
from syndiff.dicom.tags import quiet
from syndiff.errors import OptionError, UserError
from syndiff.io.outputs import is_ours
from syndiff.io.volume import Volume
from syndiff.reporting import SILENT, Reporter

HU_INTERCEPT, LARGEST_STORED = -1024.0, 32767  # of 16 bits, so that signed readers agree
CT_WINDOW = (40.0, 400.0)  # centre and width in HU: soft tissue
MR_WINDOW_PERCENT = (1.0, 99.5)


@dataclass(frozen=True)
class Stored:
    """Whole numbers and how they become values again.

    Attributes:
        values: (n, rows, columns) uint16.
        slope, intercept: value = slope · stored + intercept.
        window: centre and width for display, in values.
    """

    values: NDArray[np.uint16]
    slope: float
    intercept: float
    window: tuple[float, float]


def new_uid() -> str:
    """A UID that nobody has used: 2.25 and a random UUID."""
    from pydicom.uid import generate_uid

    return str(generate_uid(prefix=None))


def write_series(
    volume: Volume,
    folder: Path,
    made: Derivation,
    also: Sequence[Volume] = (),
    *,
    uid: Callable[[], str] = new_uid,
    now: datetime | None = None,
    report: Reporter = SILENT,
) -> list[Path]:
    """Write a synthetic volume as a derived series.

    Args:
        volume: the synthetic volume on the grid of a series that `reading` read.
        folder: the folder to make; one that holds nothing but our own series is replaced.
        made: how the volume was made.
        also: further sources on the same grid; those that are DICOM are referenced, too.
        uid: makes the UIDs of the series and of its images.
        now: the time that the images carry.
        report: receives the number of files written.

    Returns:
        The files, in the order of the slices.

    Raises:
        OptionError: `volume` does not come from DICOM, or `folder` holds other files.
        UserError: the folder cannot be written; nothing is left behind.
    """
    series = source_series(volume)
    check_series_folder(folder)
    stored = whole_numbers(slices_of(volume, volume.array), made.unit)
    with quiet():
        first = series.stack.frames[0]  # type: ignore[union-attr]
        template = dataset(first.source, pixels=False, tags=None)
        tags = series_tags(template, series, made, uid, now or datetime.now(UTC))
        return _write(_Task(volume, series, also, stored, tags), Path(folder), uid, report)


def source_series(volume: Volume) -> Series:
    """The series that a volume was read from.

    Raises:
        OptionError: it was read from another format, or made in memory.
    """
    series = volume.stored.header
    if not isinstance(series, Series) or series.stack is None:
        raise OptionError(
            f"a DICOM series from {volume.name}, which is no DICOM",
            "a DICOM series as source",
            "write NIfTI: give the output a name ending in .nii.gz",
        )
    return series


def check_series_folder(folder: str | Path) -> None:
    """Check that a derived series may be written to a folder, before any work.

    Raises:
        OptionError: it is a file, or it holds files that are not from an earlier derived series.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"{folder} is a file", "the name of a folder for the derived series")
    held = sorted(folder.iterdir()) if folder.is_dir() else []
    foreign = [path.name for path in held if not (path.is_file() and is_ours(path))]
    if foreign:
        raise OptionError(
            f"{folder} holds files that syndiff did not make, e.g. {foreign[0]}",
            "a new folder for the derived series",
        )


def whole_numbers(slices: NDArray[np.float32], unit: str) -> Stored:
    """Values as 16-bit whole numbers: HU + 1024 for CT, else scaled to the brightest voxel.

    Args:
        slices: (n, rows, columns).
        unit: "HU" for CT.
    """
    if unit == "HU":
        slope, intercept, window = 1.0, HU_INTERCEPT, CT_WINDOW
    else:
        low, high = min(0.0, float(slices.min())), float(slices.max())
        slope = _decimal((high - low) / LARGEST_STORED) or 1.0
        intercept = _decimal(low)
        window = _mr_window(slices)
    whole = np.rint((slices.astype(np.float64) - intercept) / slope)
    return Stored(np.clip(whole, 0, LARGEST_STORED).astype("<u2"), slope, intercept, window)


def _mr_window(slices: NDArray[np.float32]) -> tuple[float, float]:
    inside = slices[slices > 0]
    low, high = np.percentile(inside, MR_WINDOW_PERCENT) if inside.size else (0.0, 1.0)
    return float(low + high) / 2, max(float(high - low), 1e-3)


def _decimal(value: float) -> float:
    """A number as a decimal string of DICOM holds it (16 characters)."""
    return float(f"{value:.9e}") if value else 0.0


@dataclass(frozen=True)
class _Task:
    volume: Volume
    series: Series
    also: Sequence[Volume]
    stored: Stored
    tags: SeriesTags


def _write(task: _Task, folder: Path, uid: Callable[[], str], report: Reporter) -> list[Path]:
    folder = folder.resolve()
    temporary = folder.with_name(_hidden("partial", folder))
    n = len(task.stored.values)
    names = [f"{k + 1:0{max(4, len(str(n)))}d}.dcm" for k in range(n)]
    try:
        _clear_abandoned(folder)
        temporary.mkdir(parents=True)
        for k, name in enumerate(names):
            _slice(task, k, uid()).save_as(temporary / name, enforce_file_format=True)
            report.progress(k + 1, n, name)
        _swap(temporary, folder)
    except OSError as error:
        raise UserError(
            f"{folder} could not be written: {error.strerror or error}",
            remedy="free some space or choose a folder that you may write to",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [folder / name for name in names]


def _hidden(what: str, folder: Path) -> str:
    """The name beside a folder of what this process makes or takes away."""
    return f".{what}-{platform.node()}-{os.getpid()}-{folder.name}"


def _clear_abandoned(folder: Path) -> None:
    """Remove what writers of this machine that are no more left beside a folder."""
    if not folder.parent.is_dir():
        return
    start, end = f"-{platform.node()}-", f"-{folder.name}"
    for path in list(folder.parent.iterdir()):
        kind = next((k for k in (".partial", ".old") if path.name.startswith(k + start)), None)
        if kind is None or not path.name.endswith(end):
            continue
        pid = path.name.removeprefix(kind + start).removesuffix(end)
        if pid.isdecimal() and (int(pid) == os.getpid() or not _is_alive(int(pid))):
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


def _swap(temporary: Path, folder: Path) -> None:
    """Put a finished folder in its place; an earlier series of ours goes."""
    if not folder.exists():
        temporary.rename(folder)
        return
    check_series_folder(folder)  # something may have come since the first look
    old = folder.with_name(_hidden("old", folder))
    folder.rename(old)
    try:
        temporary.rename(folder)
    except OSError:
        with suppress(OSError):
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _slice(task: _Task, k: int, instance_uid: str) -> Any:
    stored = task.stored
    return image(
        task.tags,
        instance_uid,
        k + 1,
        _plane(task, k),
        _sources(task, k),
        stored.values[k],
        (stored.slope, stored.intercept),
        stored.window,
    )


def _plane(task: _Task, k: int) -> Plane:
    """Where a slice lies: as its source says, or on the grid that it was resampled to."""
    stack = task.series.stack
    assert stack is not None
    first = stack.frames[0]
    if not stack.fault:
        frame = stack.frames[k]
        position, rows, columns = frame.position, frame.along_row, frame.along_column
    else:
        lps = TO_RAS @ task.volume.stored.affine
        position = lps[:3, 3] + k * lps[:3, 2]
        rows, columns = first.along_row, first.along_column
    thickness = first.thickness_mm if first.thickness_mm and not stack.fault else stack.step_mm
    return Plane(position, rows, columns, first.spacing_mm, thickness, stack.step_mm)


def _sources(task: _Task, k: int) -> list[Frame]:
    """The source images that a slice was made from."""
    stack = task.series.stack
    assert stack is not None
    if stack.fault:  # resampled: those on either side
        place = stack.along[0] + k * stack.step_mm
        right = min(int(np.searchsorted(stack.along, place)), len(stack.along) - 1)
        sides = [i for i in (right - 1, right) if i >= 0]
        exact = [i for i in sides if abs(stack.along[i] - place) < 1e-3 * stack.step_mm]
        return [stack.frames[i] for i in exact or sides]
    found = [stack.frames[k]]
    for other in task.also:
        theirs = other.stored.header
        if isinstance(theirs, Series) and theirs.stack is not None and not theirs.stack.fault:
            near = [
                frame
                for frame in theirs.stack.frames
                if np.abs(frame.position - found[0].position).max() < 0.5 * stack.step_mm
            ]
            found += near[:1]
    return found
