"""Prepare a cohort: raw scans → slices in [0, 1] on one grid, and the manifest.

    1  every subject by itself: read, register, find the head, choose slices   (measure.py, cached)
    2  the cohort: pixel size, intensity scales                                (cohort.py)
    3  every scan: normalise, bring onto the grid, write; at last the manifest

A run that was interrupted goes on where it stopped; a finished folder is left as it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from syndiff import __version__
from syndiff.errors import DataError, OptionError
from syndiff.files import read_json, whole_file, write_json
from syndiff.preparation.cohort import choose_scales, choose_spacing, place, shared_boxes
from syndiff.preparation.discover import Found, find_scans, overlooked
from syndiff.preparation.geometry import SliceGrid
from syndiff.preparation.intensity import RULES, IntensityScale
from syndiff.preparation.manifest import (
    FILE_NAME,
    Manifest,
    check_modality_names,
    read_manifest,
    slices_name,
    write_manifest,
)
from syndiff.preparation.measure import (
    MeasureOptions,
    file_stamp,
    measured,
    restore_cache,
    slices_cache,
)
from syndiff.preparation.split import assign, parse_split

__all__ = ["parse_split", "prepare"]

WORK = ".work"
Progress = Callable[[int, int, str], None]
Warn = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """One call of `prepare`, checked."""

    raw: Path
    out: Path
    files: Found  # subject → modality → path relative to raw; only subjects that are used
    splits: dict[str, str]  # subject → split
    measure: MeasureOptions
    size: int
    spacing_mm: float | None
    options: dict[str, Any]  # as the manifest holds them
    progress: Progress
    warn: Warn

    @property
    def work(self) -> Path:
        return self.out / WORK

    @property
    def steps(self) -> int:
        """Subjects to measure and scans to write."""
        return len(self.files) + sum(len(of) for of in self.files.values())


def prepare(
    raw: Path,
    out: Path,
    *,
    modalities: Sequence[str],
    split: Mapping[str, int] | None = None,
    split_file: Path | None = None,
    size: int = 256,
    spacing_mm: float | None = None,
    intensity: str = "robust",
    register: bool = True,
    register_training: bool = True,
    max_slices: int | None = None,
    progress: Progress | None = None,
    warn: Warn | None = None,
) -> Manifest:
    """Bring a folder of scans into the form that training and evaluation read.

    Args:
        raw: folder of scans, see `discover` for the layouts.
        out: folder to make; an unfinished one of the same options is continued.
        modalities: names to look for; the first is the reference that others are moved onto.
        split: numbers of subjects, {"train": 8, "val": 2, "test": 2}, names in order; or
        split_file: a table of subject and split.
        size: pixels of the square training slices.
        spacing_mm: their pixel size; None takes the finest at which every head fits.
        intensity: "robust" or "paper" for MR; CT has a fixed window of HU.
        register: find the affine between the scans of a subject (validation and test).
        register_training: the same for training subjects that have several modalities.
        max_slices: at most so many slices per scan, the middle ones.
        progress: called with (steps done, steps in all, what is being done).
        warn: told in one line each what a person should know.

    Returns:
        The manifest of `out`.

    Raises:
        OptionError: an option makes no sense, or `out` was made with other options.
        UserError: a scan cannot be used; the message names it, and there is no manifest.
    """
    raw, out = Path(raw), Path(out)
    _check_options(modalities, size, spacing_mm, intensity, max_slices)
    found = find_scans(raw, modalities)
    ordered = {s: {m: of[m] for m in modalities if m in of} for s, of in found.items()}
    splits = assign(ordered, modalities, split, split_file)
    measure = MeasureOptions(
        tuple(modalities), intensity, register, register and register_training, max_slices
    )
    options = {
        "modalities": list(modalities),
        "split": dict(split) if split is not None else "file",
        "size": size,
        "spacing_mm": "auto" if spacing_mm is None else float(spacing_mm),
        "intensity": intensity,
        "register": register,
        "register_training": measure.register_training,
        "max_slices": max_slices,
    }
    job = Job(
        raw=raw,
        out=out,
        files={s: ordered[s] for s in splits},
        splits=splits,
        measure=measure,
        size=size,
        spacing_mm=spacing_mm,
        options=options,
        progress=progress or (lambda done, total, what: None),
        warn=warn or (lambda message: None),
    )
    _warn_of_unused(job, found)
    return _run(job, sorted(set(found) - set(splits)))


def _run(job: Job, unused: list[str]) -> Manifest:
    """Both passes, unless the folder is finished."""
    finished = _open_folder(job)
    if finished is not None:
        job.progress(job.steps, job.steps, "nothing to do")
        return finished
    records = {}
    for done, (subject, files) in enumerate(job.files.items()):
        job.progress(done, job.steps, f"reading {subject}")
        records[subject] = measured(
            subject,
            job.splits[subject],
            files,
            job.raw,
            job.work,
            job.measure,
            job.warn,
            need_slices=False,
        )
    spacing_mm = job.spacing_mm or choose_spacing(records, job.size, job.warn)
    scales = choose_scales(records, job.splits, job.measure.modalities, job.measure.intensity)
    grids = {s: _grids(s, of, job.size, spacing_mm) for s, of in records.items()}
    entries = _write_all(job, records, grids, scales)
    _remove_strays(job.out, {entry["slices"] for entry in entries})
    write_manifest(
        job.out,
        {
            "made_by": f"syndiff {__version__}",
            "options": job.options,
            "modalities": list(job.measure.modalities),
            "size": [job.size, job.size],
            "spacing_mm": spacing_mm,
            "intensity": {m: scale.to_dict() for m, scale in scales.items()},
            "unused_subjects": unused,
            "scans": entries,
        },
    )
    shutil.rmtree(job.work)
    job.progress(job.steps, job.steps, "done")
    return read_manifest(job.out)


def _grids(
    subject: str, records: Mapping[str, Mapping[str, Any]], size: int, spacing_mm: float
) -> dict[str, SliceGrid]:
    """Each scan's place on the training grid; scans that share a grid share the place."""
    boxes = shared_boxes(records)
    return {
        modality: place(record, boxes[modality], size, spacing_mm, f"{subject} ({record['file']})")
        for modality, record in records.items()
    }


def _write_all(
    job: Job,
    records: Mapping[str, Mapping[str, dict[str, Any]]],
    grids: Mapping[str, Mapping[str, SliceGrid]],
    scales: Mapping[str, IntensityScale],
) -> list[dict[str, Any]]:
    """The second pass: every scan's slices on disk, and its entry in the manifest."""
    entries = []
    done = len(job.files)
    for subject, of in records.items():
        for modality, record in of.items():
            job.progress(done, job.steps, f"writing {subject} {modality}")
            entry = _entry(job, subject, modality, record, grids[subject][modality], scales)
            _write_scan(job, entry, scales[modality])
            entries.append(entry)
            done += 1
    return entries


def _entry(
    job: Job,
    subject: str,
    modality: str,
    record: dict[str, Any],
    grid: SliceGrid,
    scales: Mapping[str, IntensityScale],
) -> dict[str, Any]:
    """A scan's entry in the manifest: what was measured, and what was decided."""
    scale, mean, split = scales[modality], record["reference_mean"], job.splits[subject]
    quantiles = scale.normalise(np.asarray(record["foreground_quantiles"]), mean)
    return {
        "subject": subject,
        "modality": modality,
        "split": split,
        "slices": slices_name(split, modality, subject),
        "count": len(record["slice_indices"]),
        "foreground_mean": mean,
        "grid": grid.to_dict(),
        "interpolated": grid.resamples,
        "tissue_quantiles": [round(float(q), 4) for q in quantiles],
        **record,
    }


def _write_scan(job: Job, entry: dict[str, Any], scale: IntensityScale) -> None:
    """Normalise a scan's chosen slices, bring them onto the grid, write; skip if in order."""
    subject, modality = entry["subject"], entry["modality"]
    target = job.out / entry["slices"]
    note = job.work / f"{subject}.{modality}.written.json"
    made_of = {"entry": entry, "scale": scale.to_dict()}
    if note.is_file() and _in_order(target, entry) and read_json(note, "note") == _plain(made_of):
        return
    cache = slices_cache(job.work, subject, modality)
    if not cache.is_file():  # its numbers came from an earlier run's manifest
        measured(
            subject,
            job.splits[subject],
            job.files[subject],
            job.raw,
            job.work,
            job.measure,
            job.warn,
        )
    normal = scale.normalise(np.load(cache), entry["foreground_mean"])  # n y x
    slices = np.clip(SliceGrid.from_dict(entry["grid"]).forward(normal, scale.background), 0, 1)
    with whole_file(target) as temporary:
        np.save(temporary, slices.astype(np.float32, copy=False))
    write_json(note, made_of)


def _plain(value: Any) -> Any:
    """As the value looks after a trip through JSON: tuples are lists."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _in_order(path: Path, entry: Mapping[str, Any]) -> bool:
    """Whether the file holds an array of the entry's shape, whole."""
    try:
        slices = np.load(path, mmap_mode="r")  # raises where the file is shorter than its shape
    except (OSError, ValueError, EOFError):
        return False
    return slices.shape == (entry["count"], *entry["grid"]["shape"])


def _open_folder(job: Job) -> Manifest | None:
    """Make or take up the output folder; its manifest if there is nothing left to do.

    Raises:
        OptionError: the folder holds something else, or was made with other options.
    """
    manifest_path, options_path = job.out / FILE_NAME, job.work / "options.json"
    if job.out.exists() and not job.out.is_dir():
        raise OptionError(f"{job.out} is a file", "a folder to write the prepared data to")
    if manifest_path.is_file():
        manifest = read_manifest(job.out)
        _check_same(job, manifest.content.get("options", {}))
        _check_same_scans(job, manifest)
        if all(_in_order(scan.slices_path, scan.record) for scan in manifest.all_scans()):
            shutil.rmtree(job.work, ignore_errors=True)  # left by a run stopped at its very end
            return manifest
        _reopen(job, manifest)
    elif options_path.is_file():
        _check_same(job, read_json(options_path, "note of options"))
    elif job.out.is_dir() and any(job.out.iterdir()):
        raise OptionError(
            f"the folder {job.out} holds other files", "a new or empty folder for prepared data"
        )
    write_json(options_path, job.options)
    return None


def _reopen(job: Job, manifest: Manifest) -> None:
    """Slices of a finished folder are gone or damaged: take it up again as unfinished."""
    records: dict[str, dict[str, Any]] = {}
    for entry in manifest.content["scans"]:
        records.setdefault(entry["subject"], {})[entry["modality"]] = entry
        scale = manifest.scale(entry["modality"]).to_dict()
        name = f"{entry['subject']}.{entry['modality']}.written.json"
        write_json(job.work / name, {"entry": entry, "scale": scale})
    for subject, files in job.files.items():
        of = records[subject]
        restore_cache(job.work, subject, job.splits[subject], files, job.raw, job.measure, of)
    write_json(job.work / "options.json", job.options)
    (job.out / FILE_NAME).unlink()


def _check_same(job: Job, options: Mapping[str, Any]) -> None:
    """Raise OptionError if the folder was begun with other options."""
    for name, value in job.options.items():
        if options.get(name) != _plain(value):
            raise OptionError(
                f"{job.out} was prepared with {name.replace('_', '-')} {options.get(name)}, "
                f"not {_plain(value)}",
                remedy="choose another folder, or delete this one",
            )


def _check_same_scans(job: Job, manifest: Manifest) -> None:
    """Raise OptionError if a finished folder was made from other scans."""
    remedy = "choose another folder, or delete this one"
    held = {(scan.subject, scan.modality): scan for scan in manifest.all_scans()}
    wanted = {(s, m): job.splits[s] for s, of in job.files.items() for m in of}
    if {place: scan.split for place, scan in held.items()} != wanted:
        raise OptionError(f"{job.out} was prepared from other subjects or splits", remedy=remedy)
    for (subject, modality), scan in held.items():
        path = job.files[subject][modality]
        stamp = {"file": path.as_posix(), **file_stamp(job.raw / path)}
        if any(scan.record.get(name) != value for name, value in stamp.items()):
            raise OptionError(f"{job.raw / path} has changed since {job.out} was made", "", remedy)


def _remove_strays(out: Path, wanted: set[str]) -> None:
    """Delete slices that an interrupted run with other subjects left in our own folder."""
    for path in (out / "slices").glob("*/*/*.npy"):
        if path.relative_to(out).as_posix() not in wanted:
            path.unlink()


def _warn_of_unused(job: Job, found: Found) -> None:
    unused = sorted(set(found) - set(job.splits))
    if unused:
        job.warn(f"{len(unused)} subjects are in no split and left out: {_some(unused)}")
    missed = overlooked(job.raw, found)
    if missed:
        job.warn(f"no readable scan in {len(missed)} subject folders: {_some(missed)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _check_options(
    modalities: Sequence[str],
    size: int,
    spacing_mm: float | None,
    intensity: str,
    max_slices: int | None,
) -> None:
    """Raise OptionError for values that make no sense, before anything is read."""
    if isinstance(modalities, str) or not modalities:
        raise OptionError(f"the modalities {modalities!r}", "names such as T1, T2")
    try:
        check_modality_names(modalities)
    except DataError as error:
        raise OptionError(error.found, error.expected) from error
    if not 8 <= size <= 4096:
        raise OptionError(f"a size of {size} pixels", "8 to 4096")
    if spacing_mm is not None and not 0.01 <= spacing_mm <= 100:
        raise OptionError(f"a spacing of {spacing_mm} mm", "0.01 to 100, or auto")
    if intensity not in RULES:
        raise OptionError(f"the intensity rule {intensity!r}", " or ".join(RULES))
    if max_slices is not None and max_slices < 1:
        raise OptionError(f"at most {max_slices} slices", "1 or more")
