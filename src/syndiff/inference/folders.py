"""Translate a folder of volumes over several processes, machines or GPUs.

    IN/sub-001/anat/sub-001_T1w.nii.gz   →   OUT/sub-001/anat/sub-001_T2w.nii.gz and .json

A BIDS data set becomes a BIDS derivative, see `bids`.

Each volume is one task: of a thread of this process, or, with several workers or a scheduler, of
dask.distributed. If a worker dies, dask runs its tasks again on another worker. Each process runs
three tasks at a time, of which only one may use the network: reading, computing and writing
overlap, and a process holds at most three volumes in memory. Finished results
are skipped: those whose side-car belongs to the image and names the same sources, translator and
options by their hashes. Only one process at a time may write to the folder of results.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from syndiff.errors import DataError, OptionError, UserError
from syndiff.inference import bids
from syndiff.inference.here import Leaving, run_here
from syndiff.inference.options import DEFAULTS, TranslationOptions
from syndiff.inference.requests import Model, bytes_of, files_of, translate_file
from syndiff.inference.spread import beside, require_noise
from syndiff.io.digest import sha256_of_scan
from syndiff.io.formats import stem_of
from syndiff.io.locks import only_writer
from syndiff.io.outputs import check_outputs
from syndiff.io.pairs import record_of
from syndiff.memory import keep_freed
from syndiff.preparation.discover import counted
from syndiff.preparation.selection import scans_of
from syndiff.reporting import SILENT, Reporter
from syndiff.tasks import RETRIES, Workers, run_tasks
from syndiff.translators import locate, read_config

TASKS_PER_PROCESS = 3  # one reads, one computes, one writes
BEFORE = {"accelerate": False, "samples": 0}  # what a side-car without the option means
_network_lock = threading.Lock()  # the network of this process works on one volume at a time


@dataclass(frozen=True)
class Job:
    """One translation.

    Attributes:
        inputs: source files in the order of the translator's sources.
        output: the image to write.
        dataset: the BIDS data set that the inputs belong to, if they do.
    """

    inputs: tuple[Path, ...]
    output: Path
    dataset: Path | None = None


@dataclass(frozen=True)
class Result:
    """The outcome of a job.

    Attributes:
        job: the job.
        seconds: how long the job took.
        problem: the error in one line; empty if the job succeeded.
        skipped: whether the result existed already.
        warnings: what may spoil the result.
    """

    job: Job
    seconds: float = 0.0
    problem: str = ""
    skipped: bool = False
    warnings: tuple[str, ...] = ()


def translate_folder(
    model: str | Path,
    folder: Path,
    out: Path,
    options: TranslationOptions = DEFAULTS,
    *,
    workers: int = 1,
    scheduler: str = "",
    pattern: str = "",
    modality: str = "",
    participant_label: Sequence[str] = (),
    only_missing: bool = False,
    overwrite: bool = False,
    report: Reporter = SILENT,
) -> list[Result]:
    """Translate every volume of the source modality in a folder.

    Args:
        model: translator folder, or "demo".
        folder: scans in a layout that `prepare` knows, or image files in one folder.
        out: folder for the results, which get the layout of `folder`.
        options: how the volumes are translated.
        workers: number of worker processes on this machine; with GPUs, one worker per GPU.
        scheduler: address of a running dask scheduler ("tcp://host:8786"), used in place of
            local workers; its workers must see the same files.
        pattern: takes exactly the files whose names match, e.g. "*_0000.nii.gz".
        modality: the word for the source modality in the file names of `folder`.
        participant_label: of a BIDS data set, the people to translate; all if none is named.
        only_missing: of a BIDS data set, only visits that have no image of the target.
        overwrite: allow replacing results and side-cars that syndiff did not make.
        report: receives the number of finished volumes, and each error and warning.

    Returns:
        One result per volume, in the order of their names.

    Raises:
        OptionError: a result or side-car exists that syndiff did not make, or another process
            writes to `out`; nothing is translated.
        UserError: the model, the folder or an option cannot be used.
    """
    loaded_model = Model.read(model)  # an unusable model is one error, not one per volume
    loaded_model.translator.require_source()
    require_noise(loaded_model.translator, options.samples)
    folder, out = Path(os.path.realpath(folder)), Path(os.path.realpath(out))
    Workers(workers, scheduler)  # refuses what is out of range
    jobs = plan(
        model, folder, out, pattern, modality, report,
        participant_label=participant_label, only_missing=only_missing,
    )  # fmt: skip
    if options.samples and jobs and jobs[0].dataset is not None:
        raise OptionError(
            f"`samples` with the BIDS data set {folder}", "single files, or a folder without BIDS"
        )
    with ExitStack() as stack:
        if not all(finished(job, loaded_model, options) for job in jobs):
            stack.enter_context(only_writer(out))
        results = {
            job: Result(job, skipped=True) for job in jobs if finished(job, loaded_model, options)
        }
        left = [job for job in jobs if job not in results]
        check_outputs(
            [file for job in left for file in files_of(job.output, options)],
            overwrite=overwrite,
            expected_bytes=sum(bytes_of(job.inputs[0], options) for job in left),
        )
        if left and left[0].dataset is not None:
            name, target = loaded_model.translator.name, loaded_model.translator.target
            bids.describe(left[0].dataset, out, name, target)
        for result in _run(str(model), left, workers, scheduler, options, overwrite):
            results[result.job] = result
            name = result.job.output.name
            for message in (*result.warnings, *([result.problem] if result.problem else [])):
                report.warn(f"{name}: {message}")
            report.progress(len(results), len(jobs), name)
    return [results[job] for job in jobs]


def plan(
    model: str | Path,
    folder: Path,
    out: Path,
    pattern: str = "",
    modality: str = "",
    report: Reporter = SILENT,
    *,
    participant_label: Sequence[str] = (),
    only_missing: bool = False,
) -> list[Job]:
    """One job per scan of the source modality, or per visit that has every source modality.

    `report` receives a warning that counts the files left out (other modalities, masks).

    Args:
        model, folder, out, pattern, modality, report, participant_label, only_missing: as in
            `translate_folder`.

    Raises:
        DataError: the folder holds no scan of the source modality, or two results would have the
            same name.
        OptionError: `out` is `folder`.
    """
    config = read_config(locate(model))
    sources, target = list(config["sources"]), str(config["target"])
    if folder == out:
        raise OptionError(f"the results would go into the folder of scans, {out}", "another one")
    if not folder.is_dir():
        raise DataError(f"no folder {folder}", "a folder with scans")
    selection = scans_of(folder, sources, pattern, modality)
    if selection.left_out:
        report.warn(f"not translated: {counted(selection.left_out)}")
    dataset = folder if bids.is_bids(folder) else None
    groups = list(selection.groups)
    if dataset is not None:
        bids.check_place(folder, out)
        groups = bids.of_participants(groups, participant_label)
        groups = [g for g in groups if not only_missing or bids.lacking(folder, g[0], target)]
    elif participant_label or only_missing:
        raise DataError(f"{folder} is no BIDS data set", f"a folder with {bids.DESCRIPTION}")
    jobs = [
        Job(
            tuple(folder / name for name in group),
            out
            / (
                bids.derivative_name(group[0], target)
                if dataset
                else renamed(group[0], sources[0], target)
            ),
            dataset,
        )
        for group in groups
    ]
    twice = [output for output, count in Counter(j.output for j in jobs).items() if count > 1]
    if twice:
        raise DataError(f"two scans would both become {sorted(twice)[0]}", "different names")
    return jobs


def renamed(name: Path, source: str, target: str) -> Path:
    """The path of a scan's result: sub-1/anat/sub-1_T1w.nii.gz → sub-1/anat/sub-1_T2w.nii.gz.

    If the name does not end in the source modality, the target modality is appended.
    """
    stem = stem_of(name)
    head, tail = stem, f"_{target}"
    for ending in (f"{source}w", source):
        if stem.lower().endswith(ending.lower()):
            head = stem[: len(stem) - len(ending)]
            tail = target + ending[len(source) :] * (target != "CT")
            break
    return name.with_name(f"{head}{tail}.nii.gz")


def finished(job: Job, model: Model, options: TranslationOptions) -> bool:
    """Whether the result of a job exists and was made of these files by this model and options."""
    record = record_of(job.output)
    if record is None:
        return False
    asked = options.deciding()
    if any(record.get(name, BEFORE.get(name)) != value for name, value in asked.items()):
        return False
    if options.samples and any(record_of(file) is None for file in beside(job.output).values()):
        return False
    made_by = record.get("translator")
    mine = {"weights_sha256": model.weights_sha256, "config_sha256": model.config_sha256}
    if not isinstance(made_by, dict) or any(made_by.get(k) != v for k, v in mine.items()):
        return False
    try:
        return record.get("source_sha256") == [sha256_of_scan(file) for file in job.inputs]
    except UserError:  # whoever reads it will say what is wrong with it
        return False


def _run(
    model: str,
    jobs: Sequence[Job],
    workers: int,
    scheduler: str,
    options: TranslationOptions,
    overwrite: bool,
) -> Iterator[Result]:
    """Run the jobs here, by local workers or a given scheduler; yield results as they finish."""
    who = Workers(min(workers, max(len(jobs), 1)), scheduler)
    if who.alone:
        yield from _run_here(model, jobs, options, overwrite)
        return
    threads = 0 if scheduler else _threads(who.count)
    calls = {job: (model, job, options, threads, overwrite) for job in jobs}
    for done in run_tasks(work, calls, who, TASKS_PER_PROCESS):
        yield Result(done.item, problem=done.problem) if done.problem else done.result


def _run_here(
    model: str, jobs: Sequence[Job], options: TranslationOptions, overwrite: bool
) -> Iterator[Result]:
    """Run the jobs in threads of this process; yield results as they finish."""

    def once(job: Job, stopped: threading.Event) -> Result:
        for _ in range(RETRIES):
            with suppress(Exception):
                return work(model, job, options, 0, overwrite, stopped)
        return work(model, job, options, 0, overwrite, stopped)

    for job, ended in run_here(once, jobs, TASKS_PER_PROCESS):
        if isinstance(ended, MemoryError):
            yield Result(job, problem="there is not enough memory")
        elif isinstance(ended, Exception):
            yield Result(job, problem=f"failed {RETRIES + 1} times ({ended!r})")
        else:
            yield ended


def work(
    model: str,
    job: Job,
    options: TranslationOptions,
    threads: int,
    overwrite: bool = False,
    stopped: threading.Event | None = None,
) -> Result:
    """Translate one volume; runs in a worker, or in a thread that leaves it once it is stopped.

    A `UserError` becomes the problem of the result. Any other error is raised, so that dask runs
    the task again.
    """
    started, messages = time.monotonic(), Leaving(stopped)
    problem = ""
    try:
        loaded_model = loaded(model, threads, options.precision, _stamp(model))
        translate_file(
            loaded_model,
            job.inputs[0],
            job.output,
            replace(options, device=_device(options.device)),
            also=dict(zip(loaded_model.translator.sources[1:], job.inputs[1:], strict=True)),
            record=bids.entries(job.dataset, job.inputs) if job.dataset else {},
            overwrite=overwrite,
            lock=_network_lock,
            report=messages,
        )
    except UserError as error:
        problem = str(error)
    return Result(job, time.monotonic() - started, problem, warnings=tuple(messages.warnings))


def _stamp(model: str) -> tuple[tuple[int, ...], ...]:
    """Tells one state of a translator's folder from another, without reading its files."""
    folder = locate(model)
    stats = [path.stat() for path in sorted(folder.iterdir())] if folder.is_dir() else []
    return tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in stats)


@lru_cache(maxsize=1)
def loaded(model: str, threads: int, precision: str, stamp: tuple[tuple[int, ...], ...]) -> Model:
    """The model of this worker process, which is read once, and again after a change."""
    import torch

    keep_freed()
    if threads:
        torch.set_num_threads(threads)
    return Model.read(model).for_precision(precision)


def _threads(workers: int) -> int:
    """Number of torch threads of each worker: its share of the cores; 0 keeps torch's default."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return 0 if workers == 1 else max(1, (cores or 1) // workers)


def _device(name: str) -> str:
    """The device of this worker: with "auto" and several GPUs, each worker gets one of them."""
    import torch

    if name != "auto" or torch.cuda.device_count() < 2:
        return name
    from distributed import get_worker

    worker = get_worker().name
    number = worker if isinstance(worker, int) else os.getpid()
    return f"cuda:{number % torch.cuda.device_count()}"
