"""The table of a study: our figures, the paper's beside them, as five files."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from syndiff import __version__
from syndiff.evaluation import tables
from syndiff.evaluation.tables import Cell, Table
from syndiff.io.atomic import write_json, write_text
from syndiff.page.html import filled
from syndiff.studies.definitions import Column, Measure, Row, Study, cohort_named
from syndiff.studies.plan import Options, people_of

COPY = "copy of the source"
NOTHING = "–"
MISSING = "not built"
Results = Sequence[Mapping[str, Any]]


def write_table(
    study: Study,
    columns: Sequence[Column],
    options: Options,
    results: Results,
    cells: int,
    out: Path,
    data: Path | None,
) -> Path:
    """Write OUT/table8.md, .tex, .csv, .json and .html.

    Args:
        study: which.
        columns: those that are computed.
        options: how.
        results: the contents of the finished cells' files.
        cells: number of all cells.
        out: folder.
        data: prepared data in place of the virtual cohorts.

    Returns:
        The Markdown file.
    """
    notes = _notes(study, columns, options, len(results), cells, data)
    table = make_table(study, columns, results, notes)
    heading = f"Table {study.table}: {study.title}"
    write_text(out / f"{study.name}.md", f"# {heading}\n\n{tables.markdown(table)}")
    write_text(out / f"{study.name}.tex", tables.latex(table))
    write_text(out / f"{study.name}.csv", csv_text(study, columns, results))
    write_text(
        out / f"{study.name}.html",
        filled("syndiff.studies", "study.html.j2", heading=heading, table=table),
    )
    content = {
        "study": study.name,
        "table": study.table,
        "title": study.title,
        "syndiff_version": __version__,
        "options": options.record(),
        "seeds": options.seeds,
        "cells": cells,
        "finished": len(results),
        "notes": notes,
        "results": list(results),
        "paper": {row: list(texts) for row, texts in study.paper.items()},
    }
    write_json(out / f"{study.name}.json", content)
    return out / f"{study.name}.md"


def make_table(
    study: Study, columns: Sequence[Column], results: Results, notes: Sequence[str]
) -> Table:
    """Rows as in the paper; for each column and measure our figure and the paper's.

    Args:
        study, columns, results: see `write_table`.
        notes: sentences below the table.
    """
    titles: list[str] = []
    rows: dict[str, list[Cell]] = {row.name: [] for row in study.rows}
    if study.kind == "translation":
        rows[COPY] = []
    for column in columns:
        means = _means(study, column, results)
        for number, measure in enumerate(study.measures):
            task = f"{column.title} " if column.target else ""
            titles += [f"{task}{measure.title}", "paper"]
            ranked = {n: v[measure.name][0] for n, v in means.items() if measure.name in v}
            best = _best(ranked, measure)
            for name, cells in rows.items():
                text = _text(measure, means.get(name, {}).get(measure.name))
                if measure.name == "fid":
                    text = MISSING if name in means else NOTHING
                cells.append(Cell(text, name in best, ""))
                printed = study.printed(name, column)[number].replace("±", " ± ")
                cells.append(Cell(printed or NOTHING, False, ""))
    return Table(tuple(titles), {name: tuple(cells) for name, cells in rows.items()}, tuple(notes))


def _best(ranked: Mapping[str, float], measure: Measure) -> set[str]:
    """The rows with the best value; several where they are one training."""
    if len(ranked) < 2:
        return set()
    value = (max if measure.better == "higher" else min)(ranked.values())
    return {name for name, found in ranked.items() if found == value}


def _means(
    study: Study, column: Column, results: Results
) -> dict[str, dict[str, tuple[float, float | None]]]:
    """Row → measure → mean over the seeds, and the mean of the deviations over people."""
    found: dict[str, dict[str, tuple[float, float | None]]] = {}
    for row in study.rows:
        own = _values(study, row, column, results)
        if own:
            found[row.name] = _mean(own, study.measures)
    copies = [r["copy"] for r in results if r["column"] == column.name and "copy" in r]
    if copies:  # the same in every cell of a column
        found[COPY] = _mean(copies[:1], study.measures)
    return found


def _values(study: Study, row: Row, column: Column, results: Results) -> list[Mapping[str, Any]]:
    """The values of a row's cells, one per seed."""
    name = study.trained_as(row).name
    return [r["values"] for r in results if (r["row"], r["column"]) == (name, column.name)]


def _mean(
    values: Sequence[Mapping[str, Any]], measures: Sequence[Measure]
) -> dict[str, tuple[float, float | None]]:
    found: dict[str, tuple[float, float | None]] = {}
    for m in measures:
        known = [v for v in values if v.get(m.name) is not None]
        if not known:
            continue
        spreads = [v[f"{m.name}_std"] for v in known if v.get("people", 0) > 1]
        spread = statistics.fmean(spreads) if spreads else None
        found[m.name] = (statistics.fmean(v[m.name] for v in known), spread)
    return found


def _text(measure: Measure, value: tuple[float, float | None] | None) -> str:
    if value is None:
        return NOTHING
    mean, spread = value
    return measure.shown(mean) + (f" ± {measure.shown(spread)}" if spread is not None else "")


def csv_text(study: Study, columns: Sequence[Column], results: Results) -> str:
    """Every figure of every seed, unrounded, with the paper's text: one line per measure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["row", "cohort", "source", "target", "measure", "seed", "value", "std_people", "paper"]
    )
    for row in study.rows:
        name = study.trained_as(row).name
        for column in columns:
            printed = study.printed(row.name, column)
            for found in results:
                if (found["row"], found["column"]) != (name, column.name):
                    continue
                values = found["values"]
                for m, paper in zip(study.measures, printed, strict=True):
                    writer.writerow([
                        row.name, column.cohort, column.source, column.target, m.name,
                        found["seed"], values[m.name], values.get(f"{m.name}_std"), paper,
                    ])  # fmt: skip
    return text.getvalue()


def _notes(
    study: Study,
    columns: Sequence[Column],
    options: Options,
    finished: int,
    cells: int,
    data: Path | None,
) -> list[str]:
    """The sentences below the table."""
    notes = [_data_note(study, columns, options, data)]
    if study.kind == "cost":
        notes.append(
            "Seconds are those of this machine, one cross-section at a time, new weights, the "
            "whole chain of a diffusion. Memory is that of a training step: the most that a GPU "
            "held, or without a GPU counted from the sizes of its tensors."
        )
    else:
        notes.append(
            f"Each cell was trained for {options.budget.words} with the preset {options.preset}, "
            f"slices of {options.size}×{options.size} pixels, {options.seeds} "
            f"seed{'s' if options.seeds > 1 else ''}; chains that can be cut short took "
            f"{options.sampling_steps or 'all'} steps."
        )
    if study.kind == "translation":
        notes.append(
            "Mean over seeds of the mean over test people, by the profile "
            f"{options.profile} ± standard deviation over people. Bold: the best of a column; "
            f"'{COPY}' is no method, but what doing nothing would reach."
        )
    if study.kind == "unconditional":
        notes.append(
            "FID is not built yet, so this table has no figures of ours. What would be measured "
            "is in each cell's folder samples."
        )
    if any(study.trained_as(row) is not row for row in study.rows):
        notes.append("Rows with the same settings are one training.")
    if options.tiny:
        notes.append(
            "Warning: a tiny study: two rows of one column, networks of a few weights after two "
            "steps. The figures mean nothing."
        )
    if finished < cells:
        notes.append(f"Warning: {finished} of {cells} cells are finished.")
    return notes


def _data_note(
    study: Study, columns: Sequence[Column], options: Options, data: Path | None
) -> str:
    """That our figures and the paper's are of different data."""
    if study.kind == "cost":
        return (
            f"The paper's figures (Table {study.table}) are of 256×256 pixels on an RTX 3090, "
            f"ours of {options.size}×{options.size} pixels on this machine with the networks of "
            f"the preset {options.preset}: compare ratios between rows, not the figures."
        )
    cohorts = [cohort_named(name) for name in dict.fromkeys(c.cohort for c in columns)]
    if data:
        ours = "prepared data that were given"
    else:
        ours = "; ".join(
            f"{c.words} ({', '.join(f'{n} {s}' for s, n in people_of(options, c.people).items())})"
            for c in cohorts
        )
    theirs = " and ".join(dict.fromkeys(c.stands_for for c in cohorts))
    return (
        f"The data differ: the paper's figures (Table {study.table}) are of {theirs}, ours of "
        f"{ours}. Compare the order of the rows, not the figures."
    )
