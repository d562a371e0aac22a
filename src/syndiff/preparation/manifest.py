"""The manifest: how every scan was prepared, and where its slices are.

    DATA/manifest.json                          every decision, and its inverse
    DATA/slices/<split>/<modality>/<subject>.npy   (n, h, w) float32 in [0, 1], memory-mappable

Axes: a slice array is (z, y, x) of the RAS+ volume, z ascending to superior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import DataError, UserError
from syndiff.io.atomic import read_json, write_json
from syndiff.io.checked import inside
from syndiff.preparation.fingerprint import NAMES
from syndiff.preparation.geometry import SliceGrid
from syndiff.preparation.intensity import IntensityScale
from syndiff.preparation.manifest_model import checked_manifest

FORMAT = "syndiff-manifest"
VERSION = 1
FILE_NAME = "manifest.json"
SPLITS = ("train", "val", "test")
AXES = "slices are (z, y, x) of the RAS+ volume; z ascends to superior, y to anterior, x to right"
REMEDY = "prepare the data with 'syndiff prepare'"


@dataclass(frozen=True)
class Scan:
    """One prepared volume.

    Attributes:
        subject: label of the person, the same in all modalities.
        modality: as named when preparing.
        split: "train", "val" or "test".
        slices_path: absolute path of the .npy file, (n, h, w) float32 in [0, 1].
        slice_indices: z in the RAS+ volume of each of the n slices.
        foreground_mean: what acquired values were divided by (1 for CT).
        grid: from the scan's (or its reference's) pixels to the training grid and back.
        tissue_quantiles: 5, 25, 50, 75 and 95 % quantiles of the normalised foreground.
        reference: modality onto whose grid the scan was brought; its own name if none.
        record: everything else that preparation noted about the scan (plain JSON values).
    """

    subject: str
    modality: str
    split: str
    slices_path: Path
    slice_indices: tuple[int, ...]
    foreground_mean: float
    grid: SliceGrid
    tissue_quantiles: list[float]
    reference: str
    record: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def count(self) -> int:
        """Number of slices."""
        return len(self.slice_indices)

    @property
    def person(self) -> str:
        """The person; a person with several visits is several subjects."""
        return str(self.record.get("person") or self.subject)

    def load(self) -> NDArray[np.float32]:
        """The slices (n, h, w), memory-mapped and read-only.

        Raises:
            DataError: the file is missing or damaged, or has another shape than recorded.
        """
        try:
            slices = np.load(self.slices_path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{self.slices_path} cannot be read ({error})", remedy="prepare the data again"
            ) from error
        expected = (self.count, *self.grid.shape)
        if slices.shape != expected or slices.dtype != np.float32:
            raise DataError(
                f"{self.slices_path} holds {slices.dtype} of shape {slices.shape}",
                f"float32 of shape {expected}",
                "prepare the data again",
            )
        return slices


@dataclass(frozen=True)
class Manifest:
    """The content of a prepared folder.

    Attributes:
        folder: absolute path of the prepared folder.
        modalities: the modalities in the order of preparation; the first is the reference.
        size: (h, w) pixels of every slice.
        spacing_mm: pixel size of every slice.
        intensity: each modality's rule between acquired values and [0, 1].
        content: the whole of manifest.json.
    """

    folder: Path
    modalities: tuple[str, ...]
    size: tuple[int, int]
    spacing_mm: float
    intensity: dict[str, IntensityScale]
    content: dict[str, Any] = field(repr=False)
    _scans: tuple[Scan, ...] = field(repr=False)

    def scans(self, split: str, modality: str) -> list[Scan]:
        """The scans of one split and modality, sorted by subject."""
        chosen = (s for s in self._scans if s.split == split and s.modality == modality)
        return sorted(chosen, key=lambda scan: scan.subject)

    def all_scans(self) -> tuple[Scan, ...]:
        """Every scan of every split and modality."""
        return self._scans

    def subjects(self, split: str) -> list[str]:
        """The subjects of a split, sorted."""
        return sorted({scan.subject for scan in self._scans if scan.split == split})

    def scale(self, modality: str) -> IntensityScale:
        """The intensity rule of a modality.

        Raises:
            DataError: the data hold no such modality.
        """
        if modality not in self.intensity:
            held = ", ".join(self.modalities)
            raise DataError(f"the data in {self.folder} hold no {modality}", f"one of {held}")
        return self.intensity[modality]

    def fingerprints(self) -> dict[str, Any]:
        """The fingerprints of the training scans, as translators store them; {} without any.

        A person counts once, by the first visit: the limit of likeness is taken from scans that
        are held out, and another visit of the same person is not.

        Returns:
            {"names": of the numbers, "scans": modality → one list of numbers for each person}
        """
        scans: dict[str, list[list[float]]] = {}
        for modality in self.modalities:
            first: dict[str, list[float]] = {}
            for scan in self.scans("train", modality):
                if scan.record.get("fingerprint") is not None:
                    first.setdefault(scan.person, scan.record["fingerprint"])
            scans[modality] = list(first.values())
        held = {modality: rows for modality, rows in scans.items() if rows}
        return {"names": list(NAMES), "scans": held} if held else {}

    def paired_subjects(self, split: str, a: str, b: str) -> list[str]:
        """The subjects of a split whose slice i of `a` belongs with slice i of `b`, sorted."""
        others = {scan.subject: scan for scan in self.scans(split, b)}
        return [
            scan.subject
            for scan in self.scans(split, a)
            if scan.subject in others and _paired(scan, others[scan.subject])
        ]


def _paired(a: Scan, b: Scan) -> bool:
    """Whether two scans of one subject lie on one grid with the same slices."""
    return a.reference == b.reference and a.slice_indices == b.slice_indices and a.grid == b.grid


def read_manifest(folder: str | Path) -> Manifest:
    """Read a prepared folder's manifest.

    Raises:
        DataError: the folder or its manifest is missing, damaged or of another version.
    """
    folder = Path(folder).resolve()
    path = folder / FILE_NAME
    if not folder.is_dir():
        raise DataError(f"no folder {folder}", "a folder of prepared data", REMEDY)
    try:
        content = read_json(path, "manifest", REMEDY)
    except UserError as error:
        raise DataError(error.found, error.expected, error.remedy) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{path} is not a manifest of syndiff", remedy=REMEDY)
    if content.get("version") != VERSION:
        raise DataError(
            f"{path} has version {content.get('version')}", f"version {VERSION}", REMEDY
        )
    checked_manifest(content, path, REMEDY)
    try:
        return from_content(folder, content)
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        raise DataError(
            f"{path} is damaged ({type(error).__name__}: {error})", remedy=REMEDY
        ) from error


def from_content(folder: Path, content: dict[str, Any]) -> Manifest:
    """The manifest of a folder from the plain values of its JSON file."""
    h, w = content["size"]
    return Manifest(
        folder=folder,
        modalities=tuple(content["modalities"]),
        size=(int(h), int(w)),
        spacing_mm=float(content["spacing_mm"]),
        intensity={m: IntensityScale.from_dict(s) for m, s in content["intensity"].items()},
        content=content,
        _scans=tuple(_scan(folder, entry) for entry in content["scans"]),
    )


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Write `content` as the folder's manifest, atomically."""
    write_json(folder / FILE_NAME, {"format": FORMAT, "version": VERSION, "axes": AXES, **content})


def slices_name(split: str, modality: str, subject: str) -> str:
    """Path of a scan's slices relative to the prepared folder."""
    return f"slices/{split}/{modality}/{subject}.npy"


def check_modality_names(modalities: Sequence[str]) -> None:
    """Raise DataError unless the names can be folder names and differ."""
    for name in modalities:
        if not name or any(c in name for c in "/\\ \t+") or name.startswith("."):
            raise DataError(f"a modality named {name!r}", "a plain word such as T1")


def _scan(folder: Path, entry: dict[str, Any]) -> Scan:
    return Scan(
        subject=str(entry["subject"]),
        modality=str(entry["modality"]),
        split=str(entry["split"]),
        slices_path=inside(folder, entry["slices"], DataError),
        slice_indices=tuple(int(z) for z in entry["slice_indices"]),
        foreground_mean=float(entry["foreground_mean"]),
        grid=SliceGrid.from_dict(entry["grid"]),
        tissue_quantiles=[float(q) for q in entry["tissue_quantiles"]],
        reference=str(entry["reference"]),
        record=entry,
    )
