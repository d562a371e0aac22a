"""Prepare a cohort: raw scans → slices in [0, 1] on one grid, and the manifest.

    1  every subject by itself: read, register, find the head, choose slices   (measure.py, cached)
    2  the cohort: pixel size, intensity scales                                (decisions.py)
    3  every scan: normalise, bring onto the grid, write; at last the manifest (folder.py)

Slices come from a folder of scans (scans.py) or from the official code's files (official_mat.py).
A run that was interrupted goes on where it stopped; a finished folder is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff import __version__
from syndiff.errors import DataError, OptionError, UserError
from syndiff.io.locks import only_writer
from syndiff.preparation.decisions import choose_scales, choose_spacing, place, shared_boxes
from syndiff.preparation.discover import Choice
from syndiff.preparation.folder import WORK, OutFolder
from syndiff.preparation.geometry import SliceGrid
from syndiff.preparation.intensity import PAPER, RULES, IntensityScale
from syndiff.preparation.intensity import ct_window as window_of
from syndiff.preparation.judgement import judged
from syndiff.preparation.manifest import Manifest, check_modality_names, slices_name
from syndiff.preparation.measure import MeasureOptions
from syndiff.preparation.official_mat import MatFolder, is_official
from syndiff.preparation.scans import Request, ScanFolder
from syndiff.preparation.source import Fault, Source
from syndiff.preparation.split import DEFAULT_SHARES, Counts, Shares, parse_split
from syndiff.reporting import SILENT, Reporter

__all__ = ["parse_split", "prepare"]


@dataclass(frozen=True)
class Job:
    """One call of `prepare`, checked."""

    source: Source
    folder: OutFolder
    modalities: tuple[str, ...]
    intensity: str
    ct_window: str
    size: int
    spacing_mm: float | None  # of the slices to write; None: what the heads need
    report: Reporter
    skip_bad: bool = False


def prepare(
    raw: Path,
    out: Path,
    *,
    modalities: Sequence[str],
    split: Counts | Shares | None = None,
    split_file: Path | None = None,
    table: Path | None = None,
    prefer: Sequence[str] = (),
    unpaired_people: bool = False,
    across_visits: bool = False,
    allow_synthetic: bool = False,
    skip_bad: bool = False,
    size: int = 256,
    spacing_mm: float | None = None,
    intensity: str = "robust",
    ct_window: str = "full",
    units: str = "auto",
    register: bool = True,
    register_training: bool = True,
    max_slices: int | None = None,
    orientation: str | None = None,
    paired: Sequence[str] | None = None,
    report: Reporter = SILENT,
) -> Manifest:
    """Convert a folder of scans to the prepared data that training and evaluation read.

    Args:
        raw: folder of scans, see `discover` for the layouts; or folder of the official code's
            .mat files, see `official_mat`, which contain their split and are not registered.
        out: the folder to make; an unfinished folder with the same options is continued.
        modalities: modalities to look for; the first one is the reference of the registration.
        split: numbers of people, {"train": 8, "val": 2, "test": 2}, or shares in percent, by
            default (80, 10, 10); people are taken in the order of their names.
        split_file: a table of subject and split, in place of `split`.
        table: a table of scans in place of a layout, see `table`.
        prefer: words in file names that are preferred if a scan has several versions.
        unpaired_people: treat equal names in two modalities as two people.
        across_visits: allow pairs of scans from two visits of a person.
        allow_synthetic: accept synthetic images as scans.
        skip_bad: leave out scans that cannot be used; the manifest names them.
        size: side of the square training slices in pixels.
        spacing_mm: pixel size of the training slices in mm; None: the finest at which every head
            fits. For .mat files it is the pixel size of the files, and must be given.
        intensity: "robust" or "paper", for MR; CT has a fixed window of HU.
        ct_window: "soft", "bone", "full" or "LO,HI" in HU; "paper" normalises CT as the paper's
            Sec. IV-A normalises MR.
        units: "HU" if CT scans are in HU although no air is in view; "auto" checks the values.
        register: register the scans of each validation and test subject.
        register_training: register the scans of training subjects, too.
        max_slices: most slices per scan; the uppermost slices are kept.
        orientation: for .mat files, the orientation of the slices; see `official_mat`.
        paired: for .mat files, the splits in which slices with equal indices are pairs.
        report: receives phases, the number of finished subjects, and warnings.

    Returns:
        The manifest of `out`.

    Raises:
        OptionError: an option is out of range, `out` was made with other options, or another
            process writes to it.
        UserError: scans cannot be used; the message names all of them, and no manifest is
            written.
    """
    raw, out = Path(raw), Path(out)
    _check_options(modalities, size, spacing_mm, intensity, max_slices)
    _check_ct(ct_window, units)
    options = {
        "modalities": list(modalities),
        "split": _split_said(split, split_file, table),
        "size": size,
        "spacing_mm": "auto" if spacing_mm is None else float(spacing_mm),
        "intensity": intensity,
        "ct_window": ct_window,
    }
    source: Source
    if is_official(raw):
        _check_unset(split=split, split_file=split_file, table=table, max_slices=max_slices)
        source = MatFolder.find(
            raw, modalities, spacing_mm, orientation, paired or (), intensity, report
        )
        spacing_mm = None  # that was their own; what they are brought to depends on the size
    else:
        _check_unset(orientation=orientation, paired=paired)
        measure = MeasureOptions(
            modalities=tuple(modalities),
            intensity=intensity,
            register=register,
            register_training=register and register_training,
            max_slices=max_slices,
            units=units,
            ct_window=ct_window,
        )
        choice = Choice(tuple(prefer), unpaired_people, across_visits)
        request = Request(split, split_file, table, choice, allow_synthetic)
        source = ScanFolder.find(raw, out / WORK, measure, request, report)
    job = Job(
        source=source,
        folder=OutFolder(out, options | source.options, source, skip_bad),
        modalities=tuple(modalities),
        intensity=intensity,
        ct_window=ct_window,
        size=size,
        spacing_mm=spacing_mm,
        report=report,
        skip_bad=skip_bad,
    )
    with only_writer(out):
        return _run(job)


def _run(job: Job) -> Manifest:
    """Both passes, unless the folder is finished."""
    finished = job.folder.take_up()
    if finished is not None:
        job.report.phase("nothing to do")
        return finished
    job, records = _read_all(job)
    job.source.check_records(records)
    records = judged(records, job.source, job.report)
    spacing_mm = job.spacing_mm or choose_spacing(records, job.size, job.report)
    scales = choose_scales(records, _scaling(job), job.modalities, job.intensity, job.ct_window)
    grids = {s: _grids(s, of, job.size, spacing_mm) for s, of in records.items()}
    entries = _write_all(job, records, grids, scales)
    manifest = job.folder.finish(
        {
            "made_by": f"syndiff {__version__}",
            "options": job.folder.options,
            "modalities": list(job.modalities),
            "size": [job.size, job.size],
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
        for subject in left:
            now = f"person {len(records) + 1} of {total}: {subject}"
            job.report.progress(len(records), total, now)
            try:
                records[subject] = job.source.records(subject)
            except UserError as error:
                faults += job.source.faults(subject, error)
        if not faults:
            break
        if not job.skip_bad:
            raise _all_in_one(faults)
        source = job.source.without(faults)
        job = replace(job, source=source, folder=replace(job.folder, source=source))
        left = [subject for subject in source.files if subject not in records]
    return job, {subject: records[subject] for subject in job.source.files}


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


def _split_said(split: Counts | Shares | None, file: Path | None, table: Path | None) -> Any:
    """The requested split, as the manifest records it."""
    if isinstance(split, Mapping):
        return dict(split)
    if split is None and (file or table):
        return "file" if file else "table"
    return "/".join(f"{share:g}" for share in split or DEFAULT_SHARES)


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
    done, total = 0, sum(len(of) for of in records.values())
    job.report.phase("writing slices")
    for subject, of in records.items():
        for modality, record in of.items():
            job.report.progress(done, total, f"{subject} {modality}")
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


def _check_options(
    modalities: Sequence[str],
    size: int,
    spacing_mm: float | None,
    intensity: str,
    max_slices: int | None,
) -> None:
    """Raise OptionError for values out of range, before any file is read."""
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


def _check_ct(ct_window: str, units: str) -> None:
    """Raise OptionError for an unknown window or unknown units."""
    if ct_window != PAPER:
        window_of(ct_window)
    if units not in ("auto", "HU"):
        raise OptionError(f"`units` {units!r}", "auto or HU")


def _check_unset(**options: Any) -> None:
    """Raise OptionError if an option is set that this kind of source does not use."""
    for name, value in options.items():
        if value is not None:
            mat = name in ("orientation", "paired")
            raise OptionError(
                f"`{name}` with {'scans' if mat else '.mat files'}",
                "data_train_….mat in the folder" if mat else "none: such files say it by name",
            )
