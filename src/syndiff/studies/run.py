"""study(): the cells that are not finished yet, and the table of those that are.

    OUT/study.json                   what was asked for
    OUT/cohorts/NAME                 the virtual cohorts, prepared
    OUT/cells/COLUMN/ROW/seedN       a run and cell.json, its result
    OUT/table8.md .tex .csv .json .html

A cell whose cell.json exists is not computed again; a training that was killed goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syndiff.io.atomic import read_json
from syndiff.io.locks import only_writer
from syndiff.io.resumed import same_options
from syndiff.preparation.manifest import read_manifest
from syndiff.reporting import SILENT, Reporter
from syndiff.studies import plan
from syndiff.studies.cells import RESULT, Cell, run_cell
from syndiff.studies.cohorts import prepared_cohort
from syndiff.studies.definitions import Column, Study, cohort_named, study_named
from syndiff.studies.plan import Options
from syndiff.studies.table import write_table
from syndiff.tasks import Workers, run_tasks


@dataclass(frozen=True)
class Finished:
    """How a study ended.

    Attributes:
        table: the Markdown file.
        cells: number of all cells.
        computed: number of those computed now.
        problems: cell → why it has no result.
    """

    table: Path
    cells: int
    computed: int
    problems: dict[str, str]


def study(
    name: str,
    out: Path,
    *,
    data: Path | None = None,
    options: Options | None = None,
    workers: int = 1,
    report: Reporter = SILENT,
) -> Finished:
    """Compute a table of the paper, or go on with it.

    Args:
        name: of the study, such as "table8".
        out: folder for everything; the same call continues what is in it.
        data: prepared data in place of the virtual cohorts.
        options: budget, seeds, sizes.
        workers: cells at a time, each in a process.
        report: told the phases and the number of cells.

    Returns:
        The table's file and what has no result.

    Raises:
        UserError: an option or the data cannot be used, or OUT holds something else or is being
            written to.
        KeyboardInterrupt: somebody stopped it; the same call goes on.
    """
    chosen, options, out = study_named(name), options or Options(), Path(out)
    if options.tiny:
        options = plan.tiny(options)
    people = Workers(workers)
    plan.check(chosen, options, workers)
    modalities = set(read_manifest(data).content["modalities"]) if data else None
    columns = plan.columns_of(chosen, options, modalities)
    asked = {"study": name, "data": str(data) if data else None, **options.record()}
    with only_writer(out):
        same_options(out / "study.json", asked, "a study")
        cells = _cells(chosen, columns, options, out, data, report)
        left = [cell for cell in cells if not (cell.folder / RESULT).exists()]
        try:
            problems = _compute(left, len(cells), people, report)
        finally:  # stopped or not, what is finished can be read
            results = [_result(cell) for cell in cells if (cell.folder / RESULT).exists()]
            table = write_table(chosen, columns, options, results, len(cells), out, data)
    return Finished(table, len(cells), len(left) - len(problems), problems)


def _cells(
    study: Study,
    columns: Sequence[Column],
    options: Options,
    out: Path,
    data: Path | None,
    report: Reporter,
) -> list[Cell]:
    """All cells, seed by seed, with their data: a stopped study has whole tables of few seeds."""
    found: dict[str, Path | None] = {"": None}
    told = SILENT if options.tiny else report  # too few people for what preparation looks for
    for name in dict.fromkeys(column.cohort for column in columns if column.cohort):
        if data is None:
            prepared_cohort(cohort_named(name), out / "cohorts", options, told)
        found[name] = data or out / "cohorts" / name
    return [
        Cell(
            study.kind, row, column, seed, options,
            out / "cells" / column.name / row.folder / f"seed{seed}", found[column.cohort],
        )
        for seed in range(options.seeds)
        for column in columns
        for row in plan.rows_of(study, options)
    ]  # fmt: skip


def _compute(
    cells: Sequence[Cell], total: int, workers: Workers, report: Reporter
) -> dict[str, str]:
    """Compute cells; cell → why it has no result."""
    problems, done = dict[str, str](), total - len(cells)
    report.phase("computing cells")
    report.progress(done, total)
    for cell, problem in _ended(cells, workers, report):
        done += 1
        if problem:
            problems[cell.title] = problem
            report.warn(f"{cell.title}: {problem}")
        report.progress(done, total, cell.title)
    return problems


def _ended(
    cells: Sequence[Cell], workers: Workers, report: Reporter
) -> Iterator[tuple[Cell, str]]:
    """The cells with their problems, as they end."""
    if workers.alone:
        for cell in cells:
            report.phase(cell.title)
            yield cell, run_cell(cell)
        return
    calls = {number: (cell,) for number, cell in enumerate(cells)}
    for done in run_tasks(run_cell, calls, workers):
        yield cells[done.item], done.problem or done.result


def _result(cell: Cell) -> dict[str, Any]:
    return dict(
        read_json(cell.folder / RESULT, "result of a cell", "delete it: it is computed again")
    )
