"""The official SynDiff code's data files as a source of slices.

    FOLDER/data_{train,val,test}_{T1,T2}.mat     MATLAB v7.3, that is HDF5

Each holds `data_fs`, (n, columns, rows) with values from 0 to 1: the official loader swaps the
last two axes, so that (n, rows, columns) is what its network and its pictures show. How these lie
is the `orientation`; they are turned to our (z, y, x) without interpolation.

The files do not state the person of a slice, its position, its pixel size, or whether slices with
equal indices in two files are pairs. Each file therefore counts as one subject, two files are a
pair only if the user says so, and the user must give the pixel size. The values are kept: 1 stays
1. The mean of the training file relates these values to the values of other scans.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from syndiff.errors import DataError, OptionError, UserError
from syndiff.io.digest import stamp_of
from syndiff.preparation.discover import Found
from syndiff.preparation.intensity import acquired_quantiles, foreground_mask, is_ct
from syndiff.preparation.manifest import SPLITS
from syndiff.preparation.orientation import SliceOrientation
from syndiff.preparation.slices import head_box
from syndiff.preparation.source import Fault
from syndiff.reporting import SILENT, Reporter

NAME = re.compile(r"data_(train|val|test)_(.+)\.mat")
VARIABLE = "data_fs"
DEFAULT_ORIENTATION = "PL"  # as the pictures of the authors' data look; left and right are a guess
CHUNK = 64  # slices in memory at a time
TOLERANCE = 0.1  # how far values may lie outside 0 to 1, as after interpolation
SAMPLED = 7  # every seventh foreground value is enough for quantiles


def is_official(raw: Path) -> bool:
    """Whether a folder holds files named as the official code names its data."""
    return raw.is_dir() and any(NAME.fullmatch(path.name) for path in raw.iterdir())


@dataclass(frozen=True)
class MatFolder:
    """A folder of the official code's data files, as a `source.Source`.

    Attributes:
        raw: the folder.
        files: subject → modality → file, relative to the folder.
        splits: subject → "train", "val" or "test".
        unused: subjects in no split; always empty.
        spacing_mm: pixel size.
        orientation: directions in which rows and columns of the official pictures grow.
        paired: splits in which slices of equal indices are pairs.
        rule: "robust" or "paper": the scale is the mean over the head or over all pixels.
        report: receives the warnings.
    """

    raw: Path
    files: Found
    splits: dict[str, str]
    unused: list[str]
    spacing_mm: float
    orientation: SliceOrientation
    paired: tuple[str, ...]
    rule: str
    report: Reporter
    _measured: dict[Path, Measured] = field(default_factory=dict, repr=False)

    @classmethod
    def find(
        cls,
        raw: Path,
        modalities: Sequence[str],
        spacing_mm: float | None,
        orientation: str | None,
        paired: Sequence[str],
        rule: str,
        report: Reporter = SILENT,
    ) -> MatFolder:
        """The files of some modalities in a folder; the arguments are the attributes.

        Raises:
            OptionError: the spacing is missing, `paired` names no split, or a modality is CT.
            DataError: a modality has no training file, or a paired split lacks a file.
        """
        if spacing_mm is None:
            raise OptionError(
                f"no `spacing_mm` for the .mat files in {raw}, which do not know their pixel size",
                "the size of their pixels in mm",
                "e.g. `spacing_mm` 0.94 where 256 pixels span 240 mm",
            )
        if unknown := sorted(set(paired) - set(SPLITS)):
            raise OptionError(f"paired slices in {', '.join(unknown)}", ", ".join(SPLITS))
        if ct := [modality for modality in modalities if is_ct(modality)]:
            raise OptionError(
                f"{ct[0]} in .mat files, which do not say for which HU their 0 and 1 stand",
                "MR modalities",
                "prepare CT from NIfTI files in HU",
            )
        files: Found = {}
        splits: dict[str, str] = {}
        for split in SPLITS:
            for subject, of in _subjects(raw, split, modalities, split in paired).items():
                files[subject], splits[subject] = of, split
        turned = SliceOrientation(orientation or DEFAULT_ORIENTATION)
        _tell(report, orientation, set(splits.values()) - set(paired))
        pairs = tuple(split for split in SPLITS if split in paired)
        return cls(raw, files, splits, [], float(spacing_mm), turned, pairs, rule, report)

    @property
    def options(self) -> dict[str, Any]:
        """The user's statements on the files, as the manifest records them."""
        return {
            "split": "file names",
            "orientation": self.orientation.code,
            "paired": list(self.paired),
        }

    @property
    def left_out(self) -> dict[str, Any]:
        """Empty: no file is left out."""
        return {}

    def notes(self, subject: str) -> dict[str, Any]:
        """Empty: the files do not name people or visits."""
        return {}

    def faults(self, subject: str, error: UserError) -> list[Fault]:
        """One fault for the whole subject, since its files form one split."""
        return [Fault(subject, None, error)]

    def without(self, faults: Sequence[Fault]) -> MatFolder:
        """Raise the first error: a file cannot be left out, because it is a whole split."""
        raise faults[0].error

    def check_records(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """No check: slices are not compared between files."""

    def records(self, subject: str) -> dict[str, dict[str, Any]]:
        """The records of a subject's files, by modality, for the decisions and the manifest."""
        files = self.files[subject]
        records = {modality: self._record(path, modality) for modality, path in files.items()}
        shapes = {tuple(record["native_shape"]) for record in records.values()}
        if len(shapes) > 1:
            raise DataError(
                f"{' and '.join(str(self.raw / path) for path in files.values())} differ in shape",
                "as many slices of the same size in paired files",
                "leave this split out of `paired`",
            )
        return {m: record | {"reference": next(iter(files))} for m, record in records.items()}

    def apart(self, subject: str, reasons: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """The unchanged records: the user decides whether these files are pairs."""
        return self.records(subject)

    def parts(self, subject: str, modality: str) -> Iterator[NDArray[np.float32]]:
        """All slices of a file as (n, y, x), some at a time."""
        return self._parts(self.files[subject][modality])

    def restore(self, subject: str, records: Mapping[str, Any]) -> None:
        """No action: the files are read again."""

    def _parts(self, path: Path) -> Iterator[NDArray[np.float32]]:
        for part in read_parts(self.raw / path):
            yield self.orientation.to_ours(part)

    def _record(self, path: Path, modality: str) -> dict[str, Any]:
        """The manifest's record of a file."""
        here = self._measure(path)
        # The training file's mean scales the files of all splits, so that 1 stays 1 in each.
        mean = self._measure(Path(f"data_train_{modality}.mat")).mean[self.rule]
        n, y, x = here.shape
        rows, columns = (x, y) if self.orientation.transposed else (y, x)
        return {
            "file": path.as_posix(),
            **stamp_of(self.raw / path),
            "file_shape": [n, columns, rows],
            "file_affine": None,
            "native_affine": None,
            "native_shape": [x, y, n],
            "registration": None,
            "slice_indices": list(range(n)),
            "spacing_yx_mm": [self.spacing_mm, self.spacing_mm],
            "box_yx": here.box_yx,
            "reference_mean": mean,
            "peak": 1 / mean,
            "foreground_quantiles": here.quantiles,
        }

    def _measure(self, path: Path) -> Measured:
        """Measurements of a file, made at the first call; warns of values outside 0 to 1."""
        if path not in self._measured:
            self._measured[path] = measure(self._parts(path), str(self.raw / path))
            low, high = self._measured[path].range
            if low < 0 or high > 1:
                self.report.warn(
                    f"{path} holds values from {low:.3g} to {high:.3g}; those outside 0 to 1 are "
                    "set to 0 or 1"
                )
        return self._measured[path]


@dataclass(frozen=True)
class Measured:
    """Measurements of one file, from one pass over its slices."""

    shape: tuple[int, int, int]  # n y x
    mean: dict[str, float]  # by rule: over the head, over all pixels
    box_yx: list[list[int]]
    quantiles: list[float]  # of the head
    range: tuple[float, float]


def measure(parts: Iterator[NDArray[np.float32]], name: str) -> Measured:
    """Measure a file's slices.

    Args:
        parts: (n, y, x) in order, some at a time.
        name: of the file, for the message.

    Raises:
        DataError: no part of the file looks like tissue.
    """
    n, low, high = 0, np.inf, -np.inf
    everything, tissue = np.zeros(2), np.zeros(2)  # sum and count
    samples: list[NDArray[np.float32]] = []
    seen: NDArray[np.bool_] | None = None
    for part in parts:
        # Slice by slice: neighbours in the file need not be neighbours in a head.
        mask = np.stack([foreground_mask(image[None], "a.u.")[0] for image in part])
        inside = part[mask]
        n, low, high = n + len(part), min(low, float(part.min())), max(high, float(part.max()))
        everything += part.sum(dtype=np.float64), part.size
        tissue += inside.sum(dtype=np.float64), inside.size
        samples.append(inside[::SAMPLED])
        plane = np.asarray(mask.any(axis=0))  # y x
        seen = plane if seen is None else seen | plane
    if seen is None or min(everything[0], tissue[0]) <= 0:
        raise DataError(f"{name} holds nothing that looks like tissue")
    y, x = seen.shape
    return Measured(
        shape=(n, y, x),
        mean={
            "robust": float(tissue[0] / tissue[1]),
            "paper": float(everything[0] / everything[1]),
        },
        box_yx=head_box(seen.T[:, :, None]),
        quantiles=acquired_quantiles(np.concatenate(samples)),
        range=(low, high),
    )


def _tell(report: Reporter, orientation: str | None, apart: set[str]) -> None:
    """Warn which orientation is assumed and which splits cannot be compared."""
    if orientation is None:
        report.warn(
            f"the slices are taken to lie {DEFAULT_ORIENTATION}: anterior at the top, the "
            "patient's right on the left; `orientation` says otherwise"
        )
    compared = [split for split in ("val", "test") if split in apart]
    if compared:
        report.warn(
            f"slices of {' and '.join(compared)} are not taken as pairs, so that nothing can be "
            f"compared there; `paired` {','.join(compared)} if slice i of either file is the "
            "same slice of the same person"
        )


def _subjects(raw: Path, split: str, modalities: Sequence[str], paired: bool) -> Found:
    """The subjects of a split: one with all files if these are pairs, else one for each file.

    Raises:
        DataError: a file of the training split, or of a paired split, is missing.
    """
    of = {m: Path(f"data_{split}_{m}.mat") for m in modalities}
    there = {m: path for m, path in of.items() if (raw / path).is_file()}
    missing = [str(path) for m, path in of.items() if m not in there]
    if missing and (paired or split == "train"):
        held = ", ".join(sorted(p.name for p in raw.iterdir() if NAME.fullmatch(p.name)))
        raise DataError(f"no {' and no '.join(missing)} in {raw}, which holds {held}")
    if paired:
        return {split: there}
    return {f"{split}-{modality}": {modality: path} for modality, path in there.items()}


def read_parts(path: Path) -> Iterator[NDArray[np.float32]]:
    """The slices of a file as the official code shows them, (n, rows, columns), some at a time.

    Raises:
        DataError: the file is damaged or of another format, or its `data_fs` is not three axes of
            finite numbers from 0 to 1.
    """
    with _opened(path) as data:
        for start in range(0, len(data), CHUNK):
            try:
                part = np.asarray(data[start : start + CHUNK], dtype=np.float32)
            except (OSError, RuntimeError) as error:
                raise _damaged(path) from error
            _check_values(part, path, start)
            yield part.swapaxes(1, 2)  # n columns rows -> n rows columns


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file and check type and shape of its `data_fs`; yields the h5py.Dataset."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        with path.open("rb") as stream:
            if stream.read(8) == b"MATLAB 5":
                raise DataError(
                    f"{path} is a MATLAB v5 file",
                    "MATLAB v7.3 (HDF5)",
                    "save it again in MATLAB with save(…, '-v7.3')",
                ) from error
        raise _damaged(path) from error
    with file:
        data = file.get(VARIABLE)
        if not isinstance(data, h5py.Dataset):
            held = ", ".join(file) or "nothing"
            raise DataError(f"{path} holds {held}", f"a variable {VARIABLE}")
        if data.ndim != 3 or 0 in data.shape:
            shape = "×".join(map(str, data.shape)) or "a single value"
            raise DataError(
                f"{VARIABLE} of {path} is {shape}", "three axes: slices, columns and rows"
            )
        if data.dtype.kind not in "fiu":
            raise DataError(f"{VARIABLE} of {path} holds {data.dtype}", "real numbers")
        yield data


def _damaged(path: Path) -> DataError:
    return DataError(
        f"{path} is damaged or not an HDF5 file", "MATLAB v7.3 (HDF5)", "copy it again"
    )


def _check_values(part: NDArray[np.float32], path: Path, start: int) -> None:
    """Raise DataError unless the values are finite and within TOLERANCE of 0 to 1."""
    finite = np.isfinite(part).all(axis=(1, 2))
    if not finite.all():
        index = start + int(np.argmin(finite))
        raise DataError(f"slice {index} of {path} holds values that are not finite", "numbers")
    low, high = float(part.min()), float(part.max())
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise DataError(
            f"{path} holds values from {low:g} to {high:g}",
            "0 to 1, as the official code needs them",
            "divide by the training file's maximum",
        )
