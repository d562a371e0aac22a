"""Prepare a cohort: raw scans → slices in [0, 1] on one grid, and the manifest.

    1  every subject by itself: read, register, find the head, choose slices   (measure.py, cached)
    2  the cohort: pixel size, intensity scales                                (decisions.py)
    3  every scan: normalise, bring onto the grid, write; at last the manifest (folder.py)

Slices come from a folder of scans (scans.py) or from the official code's files (official_mat.py).
A run that was interrupted goes on where it stopped; a finished folder is left as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff import __version__
from syndiff.errors import DataError, OptionError, UserError
from syndiff.io.locks import only_writer
from syndiff.preparation.decisions import (
    choose_scales,
    choose_spacing,
    place,
    place_centre,
    shared_boxes,
)
from syndiff.preparation.folder import WORK, OutFolder
from syndiff.preparation.geometry import SliceGrid
from syndiff.preparation.intensity import IntensityScale
from syndiff.preparation.judgement import judged
from syndiff.preparation.manifest import Manifest, slices_name
from syndiff.preparation.official_mat import MatFolder, is_official
from syndiff.preparation.scans import Request, ScanFolder
from syndiff.preparation.settings import Settings
from syndiff.preparation.source import Fault, Source
from syndiff.preparation.split import parse_split
from syndiff.preparation.spread import measured_by_all, written_by_all
from syndiff.reporting import SILENT, Reporter
from syndiff.tasks import Workers

__all__ = ["Settings", "job_of", "parse_split", "prepare", "prepare_with"]
ALONE = Workers()


@dataclass(frozen=True)
class Job:
    """One call of `prepare`, checked.

    Attributes:
        source: where the slices come from.
        folder: where they go.
        settings: the options.
        spacing_mm: of the slices to write; None: what the heads need.
        report: receives phases, progress and warnings.
        workers: who does it.
    """

    source: Source
    folder: OutFolder
    settings: Settings
    spacing_mm: float | None
    report: Reporter
    workers: Workers = ALONE


def prepare(
    raw: Path,
    out: Path,
    *,
    workers: int = 1,
    scheduler: str = "",
    report: Reporter = SILENT,
    **options: Any,
) -> Manifest:
    """Convert a folder of scans to the prepared data that training and evaluation read.

    Args:
        raw: folder of scans, see `discover` for the layouts; or folder of the official code's
            .mat files, see `official_mat`, which contain their split and are not registered.
        out: the folder to make; an unfinished folder with the same options is continued.
        workers: number of processes; the prepared data do not depend on it.
        scheduler: address of a dask scheduler, in place of processes on this machine.
        report: receives phases, the number of finished subjects, and warnings.
        options: the fields of `Settings`: modalities=("T1", "T2"), split={"train": 8, ...}, ...

    Returns:
        The manifest of `out`.

    Raises:
        OptionError: an option is out of range, `out` was made with other options, or another
            process writes to it.
        UserError: scans cannot be used; the message names all of them, and no manifest is
            written.
    """
    return prepare_with(raw, out, Settings(**options), report, Workers(workers, scheduler))


def prepare_with(
    raw: Path,
    out: Path,
    settings: Settings,
    report: Reporter = SILENT,
    workers: Workers = ALONE,
) -> Manifest:
    """The same as `prepare`, with the options as objects."""
    if not workers.alone:  # which may run in other folders, and on other machines
        raw, out = Path(os.path.abspath(raw)), Path(os.path.abspath(out))
    job = replace(job_of(Path(raw), Path(out), settings, report), workers=workers)
    with only_writer(out):
        return run_job(job)


def job_of(raw: Path, out: Path, settings: Settings, report: Reporter = SILENT) -> Job:
    """Find the scans and check the options; writes nothing.

    Raises:
        UserError: see `prepare`.
    """
    mat = is_official(raw)
    settings.check_source(mat)
    source: Source
    if mat:
        source = MatFolder.find(
            raw,
            settings.modalities,
            settings.spacing_mm,
            settings.orientation,
            settings.paired or (),
            settings.intensity,
            report,
        )
    else:
        request = Request(
            settings.split,
            settings.split_file,
            settings.table,
            settings.choice,
            settings.allow_synthetic,
        )
        source = ScanFolder.find(raw, out / WORK, settings.measure, request, report)
    if settings.scales is not None and "train" in source.splits.values():
        raise OptionError(
            "training subjects for a ready translator", "subjects for validation and test",
            "leave `split` out: everybody is for test then",
        )  # fmt: skip
    folder = OutFolder(out, settings.said() | source.options, source, settings.skip_bad)
    # The spacing of .mat files is their own; what they are brought to depends on the size.
    return Job(source, folder, settings, None if mat else settings.spacing_mm, report)


def run_job(job: Job) -> Manifest:
    """Both passes, unless the folder is finished."""
    finished = job.folder.take_up()
    if finished is not None:
        job.report.phase("nothing to do")
        return finished
    job, records = _read_all(job)
    job.source.check_records(records)
    records = judged(records, job.source, job.report)
    wanted = job.settings
    spacing_mm = job.spacing_mm or choose_spacing(records, wanted.shape, job.report)
    scales = wanted.scales or choose_scales(
        records, _scaling(job), wanted.modalities, wanted.intensity, wanted.ct_window
    )
    grids = {s: _grids(s, of, job, spacing_mm) for s, of in records.items()}
    entries = _write_all(job, records, grids, scales)
    accelerated = {m: a.to_dict() for m, a in wanted.accelerate.items()}
    manifest = job.folder.finish(
        {
            **({"accelerate": accelerated} if accelerated else {}),
            "made_by": f"syndiff {__version__}",
            "options": job.folder.options,
            "modalities": list(wanted.modalities),
            "size": list(wanted.shape),
            "spacing_mm": spacing_mm,
            "intensity": {m: scale.to_dict() for m, scale in scales.items()},
            "unused_subjects": job.source.unused,
            "left_out": job.source.left_out,
            "scans": entries,
        }
    )
    job.report.progress(len(entries), len(entries), "done")
    return manifest


def _read_all(job: Job) -> tuple[Job, dict[str, dict[str, dict[str, Any]]]]:
    """The first pass over all subjects.

    Returns:
        The job without unusable scans, and the records of its subjects.

    Raises:
        UserError: scans cannot be used and `skip_bad` is False; the message names all of them.
    """
    records: dict[str, dict[str, dict[str, Any]]] = {}
    left = list(job.source.files)
    while left:
        faults: list[Fault] = []
        total = len(job.source.files)
        job.report.phase("reading and registering")
        for subject, found, error in _measured(job, left, total - len(left)):
            if found is not None:
                records[subject] = found
            if error is not None:
                faults += job.source.faults(subject, error)
        if not faults:
            break
        order = list(job.source.files)
        faults.sort(key=lambda fault: order.index(fault.subject))  # whoever finished first
        if not job.settings.skip_bad:
            raise _all_in_one(faults)
        source = job.source.without(faults)
        job = replace(job, source=source, folder=replace(job.folder, source=source))
        left = [subject for subject in source.files if subject not in records]
    return job, {subject: records[subject] for subject in job.source.files}


def _measured(
    job: Job, subjects: Sequence[str], done: int
) -> Iterator[tuple[str, dict[str, dict[str, Any]] | None, UserError | None]]:
    """Subject, its records, and why there are none; in this process or by all workers."""
    total = done + len(subjects)
    if not job.workers.alone and isinstance(job.source, ScanFolder):
        job.report.progress(done, total)
        for found in measured_by_all(job.source, subjects, job.workers, job.report):
            done += 1
            job.report.progress(done, total, found[0])
            yield found
        return
    for number, subject in enumerate(subjects, start=done):
        job.report.progress(number, total, f"person {number + 1} of {total}: {subject}")
        try:
            records = job.source.records(subject)
        except UserError as error:
            yield subject, None, error
        else:
            yield subject, records, None


def _all_in_one(faults: Sequence[Fault]) -> UserError:
    """One error for all scans of a cohort that cannot be used."""
    if len(faults) == 1:
        return faults[0].error
    return DataError(
        f"{len(faults)} scans cannot be used: " + "; ".join(f"({f.error})" for f in faults),
        remedy="mend them, or go on without them with `skip_bad`",
    )


def _scaling(job: Job) -> Mapping[str, str]:
    """Subject → split for the intensity scales; without training subjects, all count as such."""
    splits = job.source.splits
    if "train" in splits.values():
        return splits
    job.report.warn(
        "nobody is for training: the intensity scales come from the people at hand, and the data "
        "can only be translated and evaluated"
    )
    return dict.fromkeys(splits, "train")


def _grids(
    subject: str, records: Mapping[str, Mapping[str, Any]], job: Job, spacing_mm: float
) -> dict[str, SliceGrid]:
    """Each scan's place on the training grid; scans that share a grid share the place."""
    boxes, shape = shared_boxes(records), job.settings.shape
    grids = {}
    for modality, record in records.items():
        name = f"{subject} ({record['file']})"
        if job.settings.scales is not None:  # the grid is a translator's, not chosen for the heads
            grids[modality], lost = place_centre(record, boxes[modality], shape, spacing_mm)
            if lost:
                job.report.warn(f"the head of {name} is cut: {lost}")
        else:
            grids[modality] = place(record, boxes[modality], shape, spacing_mm, name)
    return grids


def _write_all(
    job: Job,
    records: Mapping[str, Mapping[str, dict[str, Any]]],
    grids: Mapping[str, Mapping[str, SliceGrid]],
    scales: Mapping[str, IntensityScale],
) -> list[dict[str, Any]]:
    """The second pass: every scan's slices on disk, and its entry in the manifest."""
    entries = {
        subject: [_entry(job, subject, m, of[m], grids[subject][m], scales) for m in of]
        for subject, of in records.items()
    }
    job.report.phase("writing slices")
    if not job.workers.alone and isinstance(job.source, ScanFolder):
        calls = {s: (_only(job, job.source, s), of, scales) for s, of in entries.items()}
        for done, subject in enumerate(written_by_all(write_subject, calls, job.workers)):
            job.report.progress(done + 1, len(calls), subject)
    else:
        for done, (subject, of_subject) in enumerate(entries.items()):
            job.report.progress(done, len(entries), subject)
            write_subject(job, of_subject, scales)
    return [entry for of_subject in entries.values() for entry in of_subject]


def write_subject(
    job: Job, entries: Sequence[dict[str, Any]], scales: Mapping[str, IntensityScale]
) -> None:
    """Write the slices of a subject's scans; runs in a worker, too."""
    for entry in entries:
        _write_scan(job, entry, scales[entry["modality"]])


def _only(job: Job, source: ScanFolder, subject: str) -> Job:
    """What a worker needs of a job to write one subject's slices."""
    alone = replace(source.only(subject), report=SILENT)
    folder = replace(job.folder, source=alone)
    return replace(job, source=alone, folder=folder, report=SILENT, workers=ALONE)


def _entry(
    job: Job,
    subject: str,
    modality: str,
    record: dict[str, Any],
    grid: SliceGrid,
    scales: Mapping[str, IntensityScale],
) -> dict[str, Any]:
    """A scan's entry in the manifest: what was measured, and what was decided."""
    scale, mean, split = scales[modality], record["reference_mean"], job.source.splits[subject]
    quantiles = scale.normalise(np.asarray(record["foreground_quantiles"]), mean)
    return {
        "subject": subject,
        **job.source.notes(subject),
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
    if job.folder.is_written(entry, scale):
        return
    grid = SliceGrid.from_dict(entry["grid"])

    def prepared() -> Iterator[NDArray[np.float32]]:
        for part in job.source.parts(entry["subject"], entry["modality"]):
            normal = scale.normalise(part, entry["foreground_mean"])  # n y x
            yield np.clip(grid.forward(normal, scale.background), 0, 1)

    job.folder.write(entry, scale, prepared())
