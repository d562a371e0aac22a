"""First pass: read a subject's scans, bring them onto one grid, find the head, choose slices.

The measurements of a subject do not depend on other subjects, so they are cached: numbers in
`<subject>.json`, chosen native slices in `<subject>.<modality>.npy`. The decisions for the cohort
and the second pass only read this cache, with at most one scan in memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import UserError, VolumeError
from syndiff.io.atomic import read_json, whole_file, write_json
from syndiff.io.checked import checked
from syndiff.io.dicom import reading
from syndiff.io.digest import stamp_of
from syndiff.io.formats import read
from syndiff.io.volume import Volume, from_slices, to_slices
from syndiff.preparation.body import without_couch
from syndiff.preparation.fingerprint import fingerprint
from syndiff.preparation.head import upper_tissue
from syndiff.preparation.intensity import (
    HU_WINDOW,
    PAPER,
    Unit,
    acquired_quantiles,
    foreground_mask,
    is_ct,
    peak_value,
    reference_mean,
)
from syndiff.preparation.kspace import Acceleration
from syndiff.preparation.labels import refuse_labels
from syndiff.preparation.registration import Alignment, align
from syndiff.preparation.resampling import resample
from syndiff.preparation.slices import area_profile, choose_slices, head_box
from syndiff.preparation.stored import Cached
from syndiff.preparation.values import field_doubts, refuse_other_kind, understood
from syndiff.reporting import SILENT, Reporter

MEASURE_VERSION = 7  # raise it when cached measurements are no longer what this code would make


@dataclass(frozen=True)
class MeasureOptions:
    """The options of the first pass.

    Attributes:
        modalities: the modalities; the first one is the reference.
        intensity: "robust" or "paper", for MR.
        register: register a subject's scans; otherwise the positions in the headers are used.
        register_training: also resample training subjects' scans onto one grid.
        max_slices: most slices per scan; the uppermost slices are kept.
        units: "HU" if the user states that CT is in HU although no air is in view; else "auto".
        ct_window: a name, "LO,HI" or "paper"; only "paper" needs measurements of each scan.
        series: modality → the DICOM series to read, where a folder holds several.
        regular_grid, hu_offset: how DICOM is read, see `dicom.options`.
        accelerate: modality → how its scans are undersampled; the others stay as they are.
    """

    modalities: tuple[str, ...]
    intensity: str
    register: bool
    register_training: bool
    max_slices: int | None
    units: str = "auto"
    ct_window: str = "full"
    series: Mapping[str, str] = field(default_factory=dict)
    regular_grid: bool = False
    hu_offset: float = 0.0
    accelerate: Mapping[str, Acceleration] = field(default_factory=dict)

    def reading(self, modality: str) -> dict[str, Any]:
        """What `io.formats.read` is to be told besides the path of a scan."""
        return reading(self.series.get(modality, ""), self.regular_grid, self.hu_offset)


@dataclass(frozen=True)
class Loaded:
    """A scan on its native grid, and its measurements."""

    volume: Volume
    whole: Volume  # before it was undersampled, by which it is registered; else the same
    mask: NDArray[np.bool_]  # (x, y, z) the head in `whole`: ringing looks like tissue
    mean: float  # what intensities are divided by; 1 for CT
    peak: float  # value / mean that counts as bright
    quantiles: list[float]  # of the foreground, in acquired units
    fingerprint: list[float]  # see preparation/fingerprint.py
    notes: tuple[str, ...]  # what a person should know, in words


def measured(
    subject: str,
    split: str,
    files: Mapping[str, Path],
    raw: Path,
    work: Path,
    options: MeasureOptions,
    report: Reporter = SILENT,
    *,
    need_slices: bool = True,
    apart: Mapping[str, str] | None = None,
) -> dict[str, dict[str, Any]]:
    """A subject's records, modality → plain values; from the cache if it is valid.

    Args:
        subject: label.
        split: "train", "val" or "test".
        files: modality → path relative to `raw`.
        raw: folder of the scans.
        work: folder of the cache.
        options: the options of the first pass.
        report: receives warnings.
        need_slices: whether the cached slices must exist, too.
        apart: modality → reason, for scans that the cohort shows not to be pairs with the first;
            None: as in the cache.

    Raises:
        UserError: a scan cannot be used; the message names its file.
    """
    key = _fingerprint(split, files, raw, options)
    path = work / f"{subject}.json"
    if path.is_file():
        cached = _cached(path, key)
        slices = [slices_cache(work, subject, m) for m in files]
        apart = apart if apart is not None or cached is None else judged_apart(cached)
        if (
            cached is not None
            and set(apart or {}) == set(judged_apart(cached))
            and (not need_slices or all(s.is_file() for s in slices))
        ):
            return cached
    together = len(files) > 1 and (split != "train" or (options.register_training))
    groups = [list(files)] if together else [[m] for m in files]
    records: dict[str, dict[str, Any]] = {}
    for group in groups:
        chosen = {m: files[m] for m in group}
        records |= _measure_group(
            subject, chosen, raw, work, options, report, apart or {}, split != "train"
        )
    write_json(path, {"key": key, "records": records})
    return records


def judged_apart(records: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The modalities of a subject's records that the cohort showed to be no pair, and why."""
    return {m: r["unpaired_because"] for m, r in records.items() if r.get("judged_by_cohort")}


def restore_cache(
    work: Path,
    subject: str,
    split: str,
    files: Mapping[str, Path],
    raw: Path,
    options: MeasureOptions,
    records: Mapping[str, Any],
) -> None:
    """Put a subject's records from a manifest back into the cache; its slices stay absent."""
    key = _fingerprint(split, files, raw, options)
    write_json(work / f"{subject}.json", {"key": key, "records": records})


def slices_cache(work: Path, subject: str, modality: str) -> Path:
    """Where the chosen native slices (n, y, x), acquired units, of a scan are cached."""
    return work / f"{subject}.{modality}.npy"


def _fingerprint(
    split: str, files: Mapping[str, Path], raw: Path, options: MeasureOptions
) -> dict[str, Any]:
    """What a subject's measurements depend on, as plain JSON values."""
    stamps = {m: {"file": p.as_posix(), **stamp_of(raw / p)} for m, p in files.items()}
    settings = json.loads(json.dumps(asdict(options)))
    return {
        "version": MEASURE_VERSION,
        "evaluated": split != "train",  # validation and test are treated alike
        "files": stamps,
        **settings,
    }


def _cached(path: Path, key: dict[str, Any]) -> dict[str, dict[str, Any]] | None:
    """The records of a cache file, None if it was made from something else."""
    try:
        content = read_json(path, "cache")
        checked(Cached, content, path)
    except UserError:
        return None
    fits = content["key"] == key and set(content["records"]) == set(key["files"])
    return content["records"] if fits else None


def _measure_group(
    subject: str,
    files: Mapping[str, Path],
    raw: Path,
    work: Path,
    options: MeasureOptions,
    report: Reporter,
    apart: Mapping[str, str],
    evaluated: bool,
) -> dict[str, dict[str, Any]]:
    """Measure scans of one subject; scans that are pairs share the grid of the first one."""
    reference, *others = files
    loaded = {m: _load(raw / files[m], m, options) for m in files}
    for modality, scan in loaded.items():
        for note in scan.notes:
            report.warn(f"{files[modality]}: {note}")
    first = loaded[reference]
    together: dict[str, Alignment | None] = {reference: None}
    alone: dict[str, tuple[str, Alignment]] = {}
    for modality in others:
        result = _aligned(first, loaded[modality], modality, options.register)
        problem = apart.get(modality, result.problem)
        if not problem and not len(choose_slices(first.mask, [result.covered], None, evaluated)):
            problem = "they share no slice"
        for note in result.notes if not problem else ():
            report.warn(f"{subject}, {modality} onto {reference}: {note}")
        if problem:
            alone[modality] = (problem, result)
        else:
            together[modality] = result
    group = _Group(subject, files, raw, work, options, loaded, evaluated)
    records = group.write(together)
    for modality, (problem, result) in alone.items():
        records |= group.write({modality: None})
        records[modality] |= {
            "registration": result.to_dict(),
            "registered_onto": reference,
            "unpaired_because": problem,
            "judged_by_cohort": modality in apart,
        }
    return {m: records[m] for m in files}


def _aligned(first: Loaded, other: Loaded, modality: str, search: bool) -> Alignment:
    """A scan on the first one's grid."""
    fill = HU_WINDOW[0] if is_ct(modality) else 0.0
    result = align(
        first.whole, first.mask, other.whole, fill, search=search, moving_mask=other.mask
    )
    if other.whole is other.volume:
        return result
    if result.method == "same grid":
        return replace(result, volume=first.volume.like(other.volume.array))
    moved = resample(other.volume, first.volume, result.matrix, fill)
    return replace(result, volume=first.volume.like(moved))


@dataclass(frozen=True)
class _Group:
    """Writes a subject's scans to the cache."""

    subject: str
    files: Mapping[str, Path]
    raw: Path
    work: Path
    options: MeasureOptions
    loaded: Mapping[str, Loaded]
    evaluated: bool

    def write(self, of: Mapping[str, Alignment | None]) -> dict[str, dict[str, Any]]:
        """Cache the chosen slices of scans on one grid; their records.

        Args:
            of: modality → how it came onto the first one's grid, None for the first.
        """
        reference = next(iter(of))
        first = self.loaded[reference]
        seen = [result.covered for result in of.values() if result is not None]
        chosen = choose_slices(first.mask, seen, self.options.max_slices, self.evaluated)
        own = choose_slices(first.mask, [], self.options.max_slices, self.evaluated)
        records = {}
        for modality, result in of.items():
            volume = first.volume if result is None else result.volume
            mask = (
                first.mask
                if result is None
                else _moved_mask(result, self.loaded[modality], modality)
            )
            _save_slices(
                slices_cache(self.work, self.subject, modality), to_slices(volume)[chosen]
            )
            records[modality] = {
                **_record(
                    self.loaded[modality], result, mask, chosen, self.raw, self.files[modality]
                ),
                "reference": reference,
                "registered_onto": None if result is None else reference,
                "native_shape": list(first.volume.array.shape),
                "native_affine": first.volume.affine.tolist(),
                "slices_not_seen_by_all": len(own) - len(chosen),
                "area_profile_mm2": area_profile(mask, volume, chosen),
            }
        return records


def _load(path: Path, modality: str, options: MeasureOptions) -> Loaded:
    """Read one scan and measure its head; every error names the file."""
    volume = read(path, **options.reading(modality))
    ct = is_ct(modality)
    if not ct:
        refuse_labels(volume.array, f"{path}")
    unit: Unit = "HU" if ct else "a.u."
    try:
        refuse_other_kind(volume.stored.modality, unit)
        values = understood(volume.array, unit, certain=options.units == "HU")
        array, couch = without_couch(values.array, volume.spacing_mm) if ct else (values.array, "")
        whole = volume = volume.like(array)
        mask = whole_mask = foreground_mask(volume.array, unit)
        if acceleration := options.accelerate.get(modality):
            volume = whole.like(from_slices(acceleration.undersampled(to_slices(whole))))
            mask = foreground_mask(volume.array, unit)  # as `translate` finds it
        if not mask.any():
            raise VolumeError("it holds nothing that looks like tissue")
        head = mask if ct else upper_tissue(volume.array, mask, volume.spacing_mm, unit)
        mean, peak = reference_and_peak(volume.array, head, modality, options)
    except VolumeError as error:
        raise VolumeError(f"{path}: {error.found}", error.expected, error.remedy) from error
    marks = fingerprint(volume.array, mask, volume.spacing_mm, unit)
    found = (*volume.stored.notes, *values.notes, *([couch] if couch else []))
    notes = (*found, *field_doubts(volume.array, mask, unit))
    quantiles = acquired_quantiles(volume.array[mask])
    return Loaded(volume, whole, whole_mask, mean, peak, quantiles, marks, notes)


def reference_and_peak(
    array: NDArray[np.float32], mask: NDArray[np.bool_], modality: str, options: MeasureOptions
) -> tuple[float, float]:
    """What a scan's values are divided by, and its bright value after that.

    Raises:
        VolumeError: neither is positive.
    """
    if is_ct(modality):
        if options.ct_window != PAPER:
            return 1.0, 1.0  # a fixed window needs neither
        array = array - np.float32(HU_WINDOW[0])  # 0 in air, as in MR
    rule = PAPER if is_ct(modality) else options.intensity
    mean = reference_mean(array, rule, mask)
    peak = peak_value(array, mask, rule) / mean
    if peak <= 0:
        raise VolumeError("its head holds no positive value")
    return mean, peak


def _moved_mask(result: Alignment, scan: Loaded, modality: str) -> NDArray[np.bool_]:
    """The head of a scan that was brought onto another grid."""
    if scan.whole is not scan.volume:
        if result.method == "same grid":
            return scan.mask
        moved = resample(scan.whole.like(scan.mask), result.volume, result.matrix)
        return (moved > 0.5) & result.covered
    mask = foreground_mask(result.volume.array, "HU" if is_ct(modality) else "a.u.")
    return mask & result.covered


def _save_slices(path: Path, slices: NDArray[np.float32]) -> None:
    with whole_file(path) as temporary:
        np.save(temporary, np.ascontiguousarray(slices))


def _record(
    loaded: Loaded,
    result: Alignment | None,
    mask: NDArray[np.bool_],
    chosen: NDArray[np.int64],
    raw: Path,
    file: Path,
) -> dict[str, Any]:
    """What the cohort's decisions and the manifest need to know of a scan: plain values."""
    sx, sy, _ = loaded.volume.spacing_mm if result is None else result.volume.spacing_mm
    return {
        "file": file.as_posix(),
        **stamp_of(raw / file),
        "file_shape": list(loaded.volume.stored.shape),
        "file_affine": loaded.volume.stored.affine.tolist(),
        "registration": None if result is None else result.to_dict(),
        "slice_indices": [int(z) for z in chosen],
        "spacing_yx_mm": [sy, sx],
        "box_yx": head_box(mask[:, :, chosen]),
        "reference_mean": loaded.mean,
        "peak": loaded.peak,
        "foreground_quantiles": loaded.quantiles,
        "fingerprint": loaded.fingerprint,
    }
