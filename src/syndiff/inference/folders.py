"""Translate a folder of volumes over several processes, machines or GPUs.

    IN/sub-001/anat/sub-001_T1w.nii.gz   →   OUT/sub-001/anat/sub-001_T2w.nii.gz and .json

One volume is one task of dask.distributed: what dies is tried again elsewhere. Each process runs
three tasks at a time and lets one of them use the network, so that reading, computing and writing
overlap and memory holds three volumes, however many there are. What is done is not done again: a
result whose side-car belongs to it and names the same sources, translator and options, by their
hashes, is skipped. One process at a time writes to a folder of results.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from syndiff.errors import DataError, OptionError, UserError
from syndiff.inference.options import DEFAULTS, TranslationOptions
from syndiff.inference.requests import Model, translate_file
from syndiff.io.digest import sha256_of_scan
from syndiff.io.formats import stem_of
from syndiff.io.locks import only_writer
from syndiff.io.marks import sidecar
from syndiff.io.outputs import check_outputs, expected_image_bytes
from syndiff.io.pairs import record_of
from syndiff.memory import keep_freed
from syndiff.preparation.discover import counted
from syndiff.preparation.selection import scans_of
from syndiff.reporting import SILENT, Remembering, Reporter
from syndiff.translators import locate, read_config

TASKS_PER_PROCESS = 3  # one reads, one computes, one writes
RETRIES = 2  # of a task whose process died or that failed for a reason that is not the user's
_computing = threading.Lock()  # of this process: the network works on one volume at a time


@dataclass(frozen=True)
class Job:
    """One subject: the volumes of its source modalities, in the translator's order."""

    inputs: tuple[Path, ...]
    output: Path


@dataclass(frozen=True)
class Result:
    """What became of a job; `problem` is one line, empty where it succeeded."""

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
    overwrite: bool = False,
    report: Reporter = SILENT,
) -> list[Result]:
    """Translate every volume of the source modality in a folder.

    Args:
        model: translator folder, or "demo".
        folder: scans in a layout that `prepare` knows, or simply files side by side.
        out: folder for the results, laid out as `folder`.
        options: how.
        workers: processes on this machine; on a machine with GPUs one per GPU.
        scheduler: address of a running dask scheduler ("tcp://host:8786") instead; its workers
            must see the same files.
        pattern: takes the files whose names fit, whatever they say: "*_0000.nii.gz".
        modality: the word for the source modality in the names of this folder.
        overwrite: replace results and side-cars that syndiff did not make, too.
        report: told how many volumes are done, and one line per failure and per doubt.

    Returns:
        One result per volume, in the order of their names.

    Raises:
        OptionError: a result or side-car exists and is not one of ours, or another process writes
            to `out`; nothing is done then.
        UserError: the model, the folder or an option cannot be used.
    """
    read = Model.read(model)  # a wrong model is one error, not one per volume
    read.translator.require_source()
    folder, out = Path(folder).resolve(), Path(out).resolve()
    if workers < 1:
        raise OptionError(f"`workers` {workers}", "1 or more")
    jobs = plan(model, folder, out, pattern, modality, report)
    with ExitStack() as stack:
        if not all(finished(job, read, options) for job in jobs):
            stack.enter_context(only_writer(out))
        results = {job: Result(job, skipped=True) for job in jobs if finished(job, read, options)}
        left = [job for job in jobs if job not in results]
        check_outputs(
            [file for job in left for file in (job.output, sidecar(job.output))],
            overwrite=overwrite,
            expected_bytes=sum(expected_image_bytes(job.inputs[0]) for job in left),
        )
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
) -> list[Job]:
    """One job per scan of the source modality, or per visit that has every source modality.

    Files that are not taken (other modalities, masks) are counted and named to `report`.

    Raises:
        DataError: the folder holds no such scan, or two results would have one name.
        OptionError: `out` is the folder itself.
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
    jobs = [
        Job(tuple(folder / name for name in group), out / renamed(group[0], sources[0], target))
        for group in selection.groups
    ]
    twice = [output for output, count in Counter(j.output for j in jobs).items() if count > 1]
    if twice:
        raise DataError(f"two scans would both become {sorted(twice)[0]}", "different names")
    return jobs


def renamed(name: Path, source: str, target: str) -> Path:
    """Where the result of a scan goes: sub-1/anat/sub-1_T1w.nii.gz → sub-1/anat/sub-1_T2w.nii.gz.

    A name that does not end in its modality gets the target's appended.
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
    """Whether the result is there, made from these very files by this translator as asked."""
    record = record_of(job.output)
    if record is None:
        return False
    asked = options.deciding()
    if any(record.get(name) != value for name, value in asked.items()):
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
    """Results as they come, from a local or a given cluster."""
    if not jobs:
        return
    # dask takes a second to import, and only this command needs it
    from dask import config
    from distributed import Client, LocalCluster, as_completed

    # A worker that dies takes its tasks' results with it: each task may meet that twice.
    config.set({"distributed.scheduler.allowed-failures": RETRIES})
    workers = min(workers, len(jobs))
    with ExitStack() as stack:
        if scheduler:
            client = stack.enter_context(_given(scheduler))
        else:
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=TASKS_PER_PROCESS,
                processes=workers > 1,
                memory_limit=0,
                dashboard_address=None,
                silence_logs=50,
            )
            client = stack.enter_context(Client(stack.enter_context(cluster)))
        threads = 0 if scheduler else _threads(workers)
        how = (options, threads, overwrite)
        tasks = {
            client.submit(work, model, job, *how, pure=False, retries=RETRIES): job for job in jobs
        }
        for task in as_completed(tasks):
            problem = task.exception()
            reason = f"failed {RETRIES + 1} times ({problem!r})"
            yield task.result() if problem is None else Result(tasks[task], problem=reason)
            task.release()


def _given(scheduler: str) -> Any:
    """A client of a scheduler that runs already."""
    from distributed import Client

    try:
        return Client(scheduler, timeout="20s")
    except (OSError, ValueError) as error:
        raise OptionError(
            f"no dask scheduler answers at {scheduler} ({error})",
            "an address such as tcp://host:8786",
            "start one with 'dask scheduler', or leave `scheduler` out and give `workers`",
        ) from error


def work(
    model: str, job: Job, options: TranslationOptions, threads: int, overwrite: bool = False
) -> Result:
    """Translate one volume; runs in a worker.

    What the user can mend is a result with a problem; anything else raises and is tried again.
    """
    started, heard = time.monotonic(), Remembering()
    problem = ""
    try:
        read = loaded(model, threads, options.precision)
        translate_file(
            read,
            job.inputs[0],
            job.output,
            replace(options, device=_device(options.device)),
            also=dict(zip(read.translator.sources[1:], job.inputs[1:], strict=True)),
            overwrite=overwrite,
            turn=_computing,
            report=heard,
        )
    except UserError as error:
        problem = str(error)
    return Result(job, time.monotonic() - started, problem, warnings=tuple(heard.warnings))


@lru_cache(maxsize=1)
def loaded(model: str, threads: int, precision: str) -> Model:
    """The model of this process, read once."""
    import torch

    keep_freed()
    if threads:
        torch.set_num_threads(threads)
    return Model.read(model).for_precision(precision)


def _threads(workers: int) -> int:
    """Threads of each process: its share of the cores; 0 leaves torch's own choice."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return 0 if workers == 1 else max(1, (cores or 1) // workers)


def _device(name: str) -> str:
    """ "auto" in a process of a cluster: its own GPU where there are several."""
    import torch

    if name != "auto" or torch.cuda.device_count() < 2:
        return name
    from distributed import get_worker

    worker = get_worker().name
    number = worker if isinstance(worker, int) else os.getpid()
    return f"cuda:{number % torch.cuda.device_count()}"
