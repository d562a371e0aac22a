"""First pass: read a subject's scans, bring them onto one grid, find the head, choose slices.

What a subject yields depends on nobody else, so it is cached: numbers in `<subject>.json`, chosen
native slices in `<subject>.<modality>.npy`. The cohort's decisions and the second pass need only
these, and never more than one scan in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import UserError, VolumeError
from syndiff.io.atomic import read_json, whole_file, write_json
from syndiff.io.formats import read
from syndiff.io.volume import Volume, to_slices
from syndiff.preparation.intensity import (
    HU_WINDOW,
    acquired_quantiles,
    checked_hounsfield,
    foreground_mask,
    is_ct,
    peak_value,
    reference_mean,
)
from syndiff.preparation.labels import refuse_labels
from syndiff.preparation.registration import Alignment, align

MEASURE_VERSION = 3  # raise it when cached measurements are no longer what this code would make
AREA_SHARE = 0.1  # of the largest slice's foreground: what a slice must hold to be taken
COVERED_SHARE = 0.95  # of a slice's foreground that every scan of a pair must have seen


@dataclass(frozen=True)
class MeasureOptions:
    """What the first pass depends on.

    Attributes:
        modalities: the order decides which one is the reference.
        intensity: "robust" or "paper", for MR.
        register: find the affine between a subject's scans, not only their headers.
        register_training: bring training subjects' scans onto one grid too.
        max_slices: at most so many slices per scan, the middle ones.
    """

    modalities: tuple[str, ...]
    intensity: str
    register: bool
    register_training: bool
    max_slices: int | None


@dataclass(frozen=True)
class Loaded:
    """A scan as it came from its file, and what was measured there."""

    volume: Volume
    mask: NDArray[np.bool_]  # (x, y, z) the head
    mean: float  # what intensities are divided by; 1 for CT
    peak: float  # value / mean that counts as bright
    quantiles: list[float]  # of the foreground, in acquired units


def measured(
    subject: str,
    split: str,
    files: Mapping[str, Path],
    raw: Path,
    work: Path,
    options: MeasureOptions,
    warn: Callable[[str], None],
    *,
    need_slices: bool = True,
) -> dict[str, dict[str, Any]]:
    """A subject's records, modality → plain values; from the cache if it is in order.

    Args:
        subject: label.
        split: "train", "val" or "test".
        files: modality → path relative to `raw`.
        raw: folder of the scans.
        work: folder of the cache.
        options: see there.
        warn: told what may matter, in words.
        need_slices: whether the cached slices must be there too.

    Raises:
        UserError: a scan cannot be used; the message names its file.
    """
    key = _fingerprint(split, files, raw, options)
    path = work / f"{subject}.json"
    if path.is_file():
        cached = _cached(path, key)
        slices = [slices_cache(work, subject, m) for m in files]
        if cached is not None and (not need_slices or all(s.is_file() for s in slices)):
            return cached
    together = len(files) > 1 and (split != "train" or (options.register_training))
    groups = [list(files)] if together else [[m] for m in files]
    records: dict[str, dict[str, Any]] = {}
    for group in groups:
        chosen = {m: files[m] for m in group}
        records |= _measure_group(subject, chosen, raw, work, options, warn)
    write_json(path, {"key": key, "records": records})
    return records


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


def file_stamp(path: Path) -> dict[str, int]:
    """Size in bytes and modification time in ns: whether a file is still the same.

    Raises:
        UserError: the file has gone.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _fingerprint(
    split: str, files: Mapping[str, Path], raw: Path, options: MeasureOptions
) -> dict[str, Any]:
    """What a subject's measurements depend on, as plain JSON values."""
    stamps = {m: {"file": p.as_posix(), **file_stamp(raw / p)} for m, p in files.items()}
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(options).items()}
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
    except UserError:
        return None
    return content["records"] if content.get("key") == key else None


def _measure_group(
    subject: str,
    files: Mapping[str, Path],
    raw: Path,
    work: Path,
    options: MeasureOptions,
    warn: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    """Scans of one subject that share the first one's grid (or a single scan)."""
    reference, *others = files
    first = _load(raw / files[reference], reference, options.intensity)
    moved: dict[str, tuple[Loaded, Alignment | None]] = {reference: (first, None)}
    for modality in others:
        loaded = _load(raw / files[modality], modality, options.intensity)
        fill = HU_WINDOW[0] if is_ct(modality) else 0.0
        result = align(first.volume, first.mask, loaded.volume, fill, search=options.register)
        for note in result.notes:
            warn(f"{subject}, {modality} onto {reference}: {note}")
        moved[modality] = (loaded, result)
    seen = [aligned.covered for _, aligned in moved.values() if aligned is not None]
    chosen = choose_slices(first.mask, seen, options.max_slices)
    own = choose_slices(first.mask, [], options.max_slices)
    if not len(chosen):
        raise VolumeError(f"the scans of {subject} share no slice", remedy="check their positions")
    records = {}
    for modality, (loaded, aligned) in moved.items():
        volume = first.volume if aligned is None else aligned.volume
        mask = first.mask if aligned is None else _moved_mask(aligned, modality)
        _save_slices(slices_cache(work, subject, modality), to_slices(volume)[chosen])
        record = _record(loaded, aligned, mask, chosen, raw, files[modality])
        records[modality] = record | {"reference": reference}
        records[modality]["slices_not_seen_by_all"] = len(own) - len(chosen)
        records[modality]["native_shape"] = list(first.volume.array.shape)
        records[modality]["native_affine"] = first.volume.affine.tolist()
    return records


def _load(path: Path, modality: str, rule: str) -> Loaded:
    """Read one scan and measure its head; every error names the file."""
    volume = read(path)
    ct = is_ct(modality)
    if not ct:
        refuse_labels(volume.array, f"{path}")
    try:
        if ct:
            volume = volume.like(checked_hounsfield(volume.array))
        mask = foreground_mask(volume.array, "HU" if ct else "a.u.")
        if not mask.any():
            raise VolumeError("it holds nothing that looks like tissue")
        mean = 1.0 if ct else reference_mean(volume.array, rule, mask)
        peak = 1.0 if ct else peak_value(volume.array, mask, rule) / mean
        if not ct and peak <= 0:
            raise VolumeError("its head holds no positive value")
    except VolumeError as error:
        raise VolumeError(f"{path}: {error.found}", error.expected, error.remedy) from error
    return Loaded(volume, mask, mean, peak, acquired_quantiles(volume.array[mask]))


def choose_slices(
    mask: NDArray[np.bool_], seen: Sequence[NDArray[np.bool_]], max_slices: int | None
) -> NDArray[np.int64]:
    """The z of the axial slices that hold tissue.

    Args:
        mask: (x, y, z) the reference's head.
        seen: (x, y, z) each, where a scan of the group has values.
        max_slices: keep the middle ones if there are more.

    Returns:
        (n,) ascending.
    """
    area = mask.sum(axis=(0, 1))
    good = area >= max(AREA_SHARE * int(area.max()), 1)
    for covered in seen:
        good &= (mask & covered).sum(axis=(0, 1)) >= COVERED_SHARE * area
    chosen = np.flatnonzero(good)
    if max_slices is not None and len(chosen) > max_slices:
        start = (len(chosen) - max_slices) // 2
        chosen = chosen[start : start + max_slices]
    return chosen


def _moved_mask(result: Alignment, modality: str) -> NDArray[np.bool_]:
    """The head of a scan that was brought onto another grid."""
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
        **file_stamp(raw / file),
        "file_shape": list(loaded.volume.stored.shape),
        "file_affine": loaded.volume.stored.affine.tolist(),
        "registration": None if result is None else result.to_dict(),
        "slice_indices": [int(z) for z in chosen],
        "spacing_yx_mm": [sy, sx],
        "box_yx": head_box(mask[:, :, chosen]),
        "reference_mean": loaded.mean,
        "peak": loaded.peak,
        "foreground_quantiles": loaded.quantiles,
    }


def head_box(mask: NDArray[np.bool_]) -> list[list[int]]:
    """[[first y, last y], [first x, last x]] of the foreground in any slice of (x, y, n)."""
    plane = np.asarray(mask.any(axis=2))  # x y
    if not plane.any():
        return [[0, plane.shape[1] - 1], [0, plane.shape[0] - 1]]
    xs, ys = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    return [[int(ys[0]), int(ys[-1])], [int(xs[0]), int(xs[-1])]]
