"""Both passes of `prepare` over several processes or machines: a person is a task.

A worker holds the scans of one person at a time. It writes the same files as one process would,
into the folder of prepared data, which it must see under the same path. What is decided for the
whole cohort is decided by the process that was called, so that the data are the same byte for byte
whatever the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from syndiff.errors import UserError
from syndiff.preparation.scans import ScanFolder
from syndiff.reporting import SILENT, Remembering, Reporter
from syndiff.tasks import Workers, run_tasks

Records = dict[str, dict[str, Any]]
REMEDY = "run the same command again; perhaps the memory is too small for so many workers"


def measured_by_all(
    source: ScanFolder, subjects: Sequence[str], workers: Workers, report: Reporter
) -> Iterator[tuple[str, Records | None, UserError | None]]:
    """The first pass: subject, its records, and why there are none; as they are finished."""
    calls = {s: (replace(source.only(s), report=SILENT), s) for s in subjects}
    for done in run_tasks(measure, calls, workers):
        if done.problem:
            yield done.item, None, UserError(f"{done.item} {done.problem}", "", REMEDY)
            continue
        records, error, warnings = done.result
        for message in warnings:
            report.warn(message)
        yield done.item, records, error


def measure(
    source: ScanFolder, subject: str
) -> tuple[Records | None, UserError | None, list[str]]:
    """One subject's records, or the error, and warnings; runs in a worker."""
    heard = Remembering()
    try:
        records = replace(source, report=heard).records(subject)
    except UserError as error:
        return None, error, heard.warnings
    return records, None, heard.warnings


def written_by_all(
    write: Callable[..., None], calls: Mapping[str, tuple[Any, ...]], workers: Workers
) -> Iterator[str]:
    """The second pass: the subjects whose slices are written, as they are finished.

    Raises:
        UserError: some could not be written; the message names them, and the others are.
    """
    problems = []
    for done in run_tasks(write, calls, workers):
        if done.problem:
            problems.append(f"{done.item} {done.problem}")
        yield done.item
    if problems:
        raise UserError("; ".join(problems), "", REMEDY)
