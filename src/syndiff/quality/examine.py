"""Look at every scan of a prepared folder, or of a folder of raw scans, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from syndiff.errors import DataError, UserError
from syndiff.io.formats import read
from syndiff.io.volume import to_slices
from syndiff.preparation.discover import find_cohort
from syndiff.preparation.identical import same_files
from syndiff.preparation.intensity import HU_WINDOW, foreground_mask, is_ct
from syndiff.preparation.labels import what_labels
from syndiff.preparation.manifest import FILE_NAME, Manifest, Scan, read_manifest
from syndiff.preparation.values import understood
from syndiff.quality.pairs import Pair, pairs_of
from syndiff.quality.seen import Geometry, Labels, Seen, seen
from syndiff.reporting import SILENT, Reporter

BRIGHT = 99.9  # percentile of a raw MR's head that becomes 1


@dataclass(frozen=True)
class Fault:
    """A scan that cannot be looked at.

    Attributes:
        name: subject and modality.
        says: what is wrong, in one line.
        remedy: what to do about it.
    """

    name: str
    says: str
    remedy: str


@dataclass(frozen=True)
class Examined:
    """A data set as the checks see it.

    Attributes:
        folder: the folder.
        modalities: in their order.
        scans: every scan that could be read.
        pairs: pairs of a prepared folder, worst first.
        faults: scans that could not be read.
        same: groups of scans whose files have equal bytes, by name.
        manifest: of a prepared folder; None for raw scans.
    """

    folder: Path
    modalities: tuple[str, ...]
    scans: tuple[Seen, ...]
    pairs: tuple[Pair, ...] = ()
    faults: tuple[Fault, ...] = ()
    same: tuple[tuple[str, ...], ...] = ()
    manifest: Manifest | None = field(default=None, repr=False)

    def of(self, modality: str) -> list[Seen]:
        """The scans of a modality that show something."""
        return [s for s in self.scans if s.modality == modality and not s.empty]


def examined(folder: Path, modalities: Sequence[str], report: Reporter = SILENT) -> Examined:
    """Look at a folder, which is prepared if it holds a manifest.

    Args:
        folder: a prepared folder, or raw scans in a layout that `prepare` knows.
        modalities: those to look for among raw scans.
        report: told which scan is looked at.

    Raises:
        DataError: the folder is neither, or its manifest is damaged.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}", "prepared data or a folder of scans")
    if (folder / FILE_NAME).is_file():
        return _prepared(folder, report)
    return _raw(folder, modalities, report)


def _prepared(folder: Path, report: Reporter) -> Examined:
    manifest = read_manifest(folder)
    found, faults = [], []
    scans = manifest.all_scans()
    report.phase("looking at the scans")
    for i, scan in enumerate(scans):
        report.progress(i, len(scans), f"{scan.subject} {scan.modality}")
        try:
            slices = np.array(scan.load())
            found.append(
                seen(
                    _labels(scan),
                    slices,
                    (_slice_mm(scan), scan.grid.spacing_mm, scan.grid.spacing_mm),
                    ct=is_ct(scan.modality),
                    whole=False,
                )
            )
        except UserError as error:
            faults.append(Fault(f"{scan.subject} {scan.modality}", error.found, error.remedy))
    report.phase("comparing pairs")
    pairs = () if faults else tuple(pairs_of(manifest))
    return Examined(
        folder, manifest.modalities, tuple(found), pairs, tuple(faults), manifest=manifest
    )


def _labels(scan: Scan) -> Labels:
    shape, affine = scan.record.get("file_shape"), scan.record.get("file_affine")
    geometry = Geometry.of(shape, affine) if shape and affine else None
    file = str(scan.record.get("file") or scan.slices_path.name)
    return Labels(scan.subject, scan.person, scan.modality, scan.split, file, geometry)


def _slice_mm(scan: Scan) -> float:
    """The distance of a prepared scan's slices; that of pixels if it is not known."""
    native, z = scan.record.get("native_affine"), scan.slice_indices
    if native is None or len(z) < 2:
        return scan.grid.spacing_mm
    step = float(np.linalg.norm(np.asarray(native)[:3, 2]))
    return step * (z[-1] - z[0]) / (len(z) - 1)


def _raw(folder: Path, modalities: Sequence[str], report: Reporter) -> Examined:
    cohort = find_cohort(folder, modalities)
    places = [(s, m, path) for s, of in cohort.files.items() for m, path in of.items()]
    found, faults = [], []
    report.phase("looking at the scans")
    for i, (subject, modality, path) in enumerate(places):
        report.progress(i, len(places), f"{subject} {modality}")
        try:
            found.append(_raw_scan(folder / path, subject, cohort.people[subject], modality))
        except UserError as error:
            remedy = error.remedy or "mend the file, or prepare without it (`skip_bad`)"
            faults.append(Fault(f"{subject} {modality}", f"{error.found} ({path})", remedy))
    groups = same_files(folder, cohort.files)
    same = tuple(tuple(f"{s} {m}" for s, m in group) for group in groups)
    return Examined(folder, tuple(modalities), tuple(found), faults=tuple(faults), same=same)


def _raw_scan(path: Path, subject: str, person: str, modality: str) -> Seen:
    volume = read(path)
    ct = is_ct(modality)
    if not ct and (what := what_labels(volume.array)):
        raise DataError(f"it holds {what}", remedy="move it out of the folder of scans")
    array = understood(volume.array, "HU" if ct else "a.u.").array
    if ct:
        low, high = HU_WINDOW
        values: Any = (array - low) / (high - low)
    else:
        head = foreground_mask(array, "a.u.")
        values = array / max(
            float(np.percentile(array[head] if head.any() else array, BRIGHT)), 1e-6
        )
    x, y, z = volume.spacing_mm
    geometry = Geometry.of(volume.stored.shape, volume.stored.affine)
    labels = Labels(subject, person, modality, "", path.name, geometry)
    slices = np.clip(to_slices(np.asarray(values, np.float32)), 0, 1)
    return seen(labels, slices, (z, y, x), ct=ct, whole=True)
