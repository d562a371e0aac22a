"""Read a series into a volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from syndiff.dicom.files import is_dicom, sources_of
from syndiff.dicom.frames import Unusable, frames_of
from syndiff.dicom.options import AS_STORED, DicomOptions
from syndiff.dicom.pixels import AIR_HU, values_of
from syndiff.dicom.regular import regular
from syndiff.dicom.series import Series, choose, series_of
from syndiff.errors import VolumeError
from syndiff.io.marks import MARK_BEGINNING, SYNTHETIC_MARK
from syndiff.io.volume import Stored, Volume
from syndiff.reporting import SILENT, Reporter

__all__ = ["is_dicom", "is_one_study", "mark_of", "read", "read_series"]


def is_one_study(folder: Path) -> bool:
    """Whether a folder holds the DICOM files of one study, in itself or in its subfolders.

    Of each folder only the first file is looked at. A folder with images of other formats, or with
    several studies, is a collection.
    """
    if is_dicom(folder):
        return True
    try:
        sources = sources_of(folder)
    except VolumeError:
        return False
    first = {source.path.parent: source for source in reversed(sources)}
    studies = set()
    for source in first.values():
        found = frames_of(source)
        header = found.header if isinstance(found, Unusable) else found[0].header
        if header is not None:
            studies.add(header.study_uid)
    return len(studies) == 1


def read(path: Path, options: DicomOptions = AS_STORED, report: Reporter = SILENT) -> Volume:
    """Read the chosen series of a folder, a .zip or a file as a RAS+ volume.

    Args:
        path: the folder, with all its subfolders; or the .zip; or one file.
        options: which series, and how it is read.
        report: receives the number of files read.

    Returns:
        The volume. `stored.header` is its `Series`, which `writing` needs; `stored.notes` are
        sentences on what was replaced or resampled.

    Raises:
        VolumeError: there is no DICOM, none or several series fit, or the series cannot be used;
            see `series`, `geometry` and `pixels`.
    """
    path = Path(path)
    return read_series(choose(series_of(path, report), path, options), path, options)


def read_series(series: Series, path: Path, options: DicomOptions = AS_STORED) -> Volume:
    """Read a series that `choose` returned; see `read`."""
    stack = series.stack
    if stack is None:
        raise VolumeError(f"{series.name} in {path}: {series.reason}", "", series.remedy)
    values, notes = values_of(stack.frames, options.hu_offset)
    affine = stack.affine
    if stack.fault:
        fill = AIR_HU if series.header.modality == "CT" else min(0.0, float(values.min()))
        values, affine, how = regular(stack, values, fill)
        notes = (*notes, how)
    return _volume(values, affine, series, path, (*series.notes, *notes))


def mark_of(path: Path, options: DicomOptions = AS_STORED) -> str:
    """The text that marks the DICOM at a path as synthetic; empty for an acquired scan.

    A folder with acquired series beside synthetic ones is not marked: `choose` never takes the
    synthetic one for the only usable one.
    """
    try:
        chosen = choose(series_of(path), path, options)
    except VolumeError:
        return ""
    return _mark(chosen)


def _mark(series: Series) -> str:
    if not series.header.synthetic:
        return ""
    assert SYNTHETIC_MARK.startswith(MARK_BEGINNING)
    return f"Synthetic Data (0008,001C) is YES in {series.name}"


def _volume(
    values: NDArray[np.float32],
    affine: NDArray[np.float64],
    series: Series,
    path: Path,
    notes: tuple[str, ...],
) -> Volume:
    orientation = io_orientation(affine)
    ras = np.ascontiguousarray(apply_orientation(values, orientation))
    kind = series.header.modality
    stored = Stored(values.shape, affine, orientation, series, path, series.name, notes, kind)
    return Volume(ras, affine @ inv_ornt_aff(orientation, values.shape), stored, _mark(series))


def slices_of(volume: Volume, array: NDArray[np.float32]) -> NDArray[np.float32]:
    """The slices (n, rows, columns) of a RAS+ array in the order of a series' own stack."""
    axes = volume.stored.orientation[:, 0].astype(int)
    for ras_axis, flip in zip(axes, volume.stored.orientation[:, 1], strict=True):
        if flip < 0:
            array = np.flip(array, ras_axis)
    return np.ascontiguousarray(array.transpose(axes).transpose(2, 1, 0))
