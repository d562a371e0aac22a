"""A table of methods and metrics as Markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from syndiff.evaluation.metrics import METRICS, Metric
from syndiff.evaluation.report import columns
from syndiff.evaluation.statistics import Comparison

LATEX = {
    "\\": r"\textbackslash{}", "_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "$": r"\$",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "–": "--", "×": r"$\times$", "÷": r"$\div$", "≥": r"$\geq$", "−": "$-$",
    "→": r"$\rightarrow$", "λ": r"$\lambda$", "φ": r"$\phi$", "θ": r"$\theta$", "ℓ": r"$\ell$",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A value as it is shown: mean and deviation, whether it is the best, its significance."""

    text: str
    best: bool
    mark: str


@dataclass(frozen=True)
class Table:
    """Methods in rows, metrics in columns.

    Attributes:
        titles: of the columns, with units and arrows.
        rows: method → its cells.
        notes: sentences below the table.
    """

    titles: tuple[str, ...]
    rows: dict[str, tuple[Cell, ...]]
    notes: tuple[str, ...]


def make_table(
    results: Mapping[str, Any],
    names: Sequence[str],
    comparisons: Sequence[Comparison],
    notes: Sequence[str],
) -> Table:
    """The table of an evaluation's results: means over people ± their standard deviation.

    Args:
        results: the content of `metrics.json`.
        names: of the metrics, in the order of the columns.
        comparisons: whose significance is marked.
        notes: sentences below the table.
    """
    models = results["models"]
    marks = {(c.method, c.metric): c.mark for c in comparisons}
    shown = {c["metric"].name: c for c in columns(results["unit"])}
    best = {
        name: METRICS[name].best({m: e["person_means"][name] for m, e in models.items()})
        for name in names
    }
    rows = {
        model: tuple(
            Cell(
                _text(shown[name]["metric"], entry["person_means"], shown[name]["key"]),
                best[name] == model,
                marks.get((model, name), ""),
            )
            for name in names
        )
        for model, entry in models.items()
    }
    return Table(tuple(_title(shown[name]["metric"]) for name in names), rows, tuple(notes))


def markdown(table: Table) -> str:
    """The table as GitHub Markdown; the best of each column is bold."""
    lines = [
        "| method | " + " | ".join(table.titles) + " |",
        "|---" * (1 + len(table.titles)) + "|",
    ]
    for name, cells in table.rows.items():
        shown = [(f"**{c.text}**" if c.best else c.text) + _starred(c.mark) for c in cells]
        lines.append("| " + " | ".join([name.replace("|", r"\|"), *shown]) + " |")
    return "\n".join([*lines, "", *(f"{_starred(note)}\n" for note in table.notes)])


def latex(table: Table) -> str:
    """The table as LaTeX with the package booktabs; the best of each column is bold."""
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{tabular}{l" + "c" * len(table.titles) + "}",
        r"\toprule",
        " & ".join(["Method", *map(_escaped, table.titles)]) + r" \\",
        r"\midrule",
    ]
    for name, cells in table.rows.items():
        shown = [
            (rf"\textbf{{{_escaped(c.text)}}}" if c.best else _escaped(c.text))
            + (f"$^{{{c.mark}}}$" if c.mark else "")
            for c in cells
        ]
        lines.append(" & ".join([_escaped(name), *shown]) + r" \\")
    notes = [f"% {_escaped(note)}" for note in table.notes]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *notes, ""])


def csv_text(
    results: Mapping[str, Any], names: Sequence[str], comparisons: Sequence[Comparison]
) -> str:
    """Every number of the table as CSV, unrounded: one row per method and metric."""
    held = {(c.method, c.metric): c for c in comparisons}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([
        "method", "metric", "person_mean", "person_std", "slice_mean", "slice_std", "against",
        "difference", "low", "high", "p", "p_holm", "rank_biserial",
    ])  # fmt: skip
    for model, entry in results["models"].items():
        for name in names:
            means = [
                entry[kind][key]
                for kind in ("person_means", "slice_means")
                for key in (name, f"{name}_std")
            ]
            c = held.get((model, name))
            low, high = (c.interval or (None, None)) if c else (None, None)
            found = (c.against, c.difference, low, high, c.p, c.p_holm, c.effect) if c else ()
            tested = [*found] or [""] * 7
            writer.writerow([model, name, *means, *tested])
    return text.getvalue()


def _text(metric: Metric, means: Mapping[str, Any], key: str) -> str:
    """ "24.31 ± 0.52", or the mean alone of one person."""
    mean = metric.shown(means[key])
    return mean if means["people"] < 2 else f"{mean} ± {metric.shown(means[f'{key}_std'])}"


def _title(metric: Metric) -> str:
    arrow = "higher" if metric.better == "higher" else "lower"
    return f"{metric.title} ({f'{metric.unit}, ' if metric.unit else ''}{arrow} is better)"


def _starred(text: str) -> str:
    """Stars that Markdown does not take for emphasis."""
    return text.replace("*", r"\*")


def _escaped(text: str) -> str:
    return re.sub("|".join(map(re.escape, LATEX)), lambda found: LATEX[found[0]], text)
