"""RUN/history.csv, one line per validation, and RUN/curves.png, the same as plots."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import RootModel, model_validator

from syndiff.anatomy.check import WARN_PX
from syndiff.errors import UserError
from syndiff.io.atomic import read_text, whole_file, write_text
from syndiff.io.checked import checked

FILE, PICTURE = "history.csv", "curves.png"
PANELS = {
    "psnr_db": "PSNR (dB)",
    "source_offset_px": "offset to source (px)",
    "foreground_dice": "foreground Dice",
    "way_back_error": "way back, error ÷ mean",
}
REMEDY = "move it away: a run goes on without it"
BESIDE = {"copy": "--", "histogram": ":"}  # baselines, and how their lines are drawn
COLOURS = ("#0072b2", "#d55e00")


class Line(RootModel[dict[str, str]]):
    """One line: the step, and numbers or nothing."""

    @model_validator(mode="after")
    def _numbers(self) -> Line:
        if not re.fullmatch("[0-9]{1,18}", self.root.get("step", "")):
            raise ValueError("a line with the number of a step")
        for value in self.root.values():
            if value and not math.isfinite(float(value)):
                raise ValueError("finite numbers")
        return self


def append(run: Path, step: int, minutes: float, scores: Mapping[str, float]) -> None:
    """Add a line. A score that could not be measured is left empty; new columns come last."""
    values = {"step": f"{step}", "minutes": f"{minutes:.2f}"}
    values |= {k: f"{v:.4f}" if math.isfinite(v) else "" for k, v in scores.items()}
    _write(run, [*read(run), values])


def trim(run: Path, step: int) -> None:
    """Drop the lines after a step, because a resumed run repeats those steps."""
    rows = read(run)
    kept = [row for row in rows if int(row["step"]) <= step]
    if kept != rows:
        _write(run, kept)


def _write(run: Path, rows: list[dict[str, str]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(run / FILE, text.getvalue())


def read(run: Path) -> list[dict[str, str]]:
    """The lines of a run's history; empty before the first validation."""
    path = run / FILE
    if not path.exists():
        return []
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path, "history", REMEDY), newline="")))
    except csv.Error as error:
        raise UserError(f"the history {path} is no table ({error})", remedy=REMEDY) from error
    for number, row in enumerate(rows, start=2):
        checked(Line, row, f"line {number} of {path}", REMEDY)
    return rows


def draw(run: Path) -> None:
    """Write `curves.png`; nothing is written where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:  # a host that only trains needs no plots
        return
    rows = read(run)
    panels = {
        label: curves for name, label in PANELS.items() if (curves := _curves(rows, f"/{name}"))
    }
    if not panels:
        return
    figure = Figure(figsize=(3.4 * len(panels), 3.0), layout="constrained")
    for axes, (label, curves) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        if label == PANELS["psnr_db"]:
            _plot_baselines(axes, rows)
        _plot(axes, label, curves)
    with whole_file(run / PICTURE) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _plot(axes: Any, label: str, curves: Mapping[str, list[tuple[int, float]]]) -> None:
    """One score over the steps, a line for each direction."""
    for (direction, points), colour in zip(curves.items(), COLOURS * len(curves), strict=False):
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, "o-", ms=3, lw=1.6, color=colour, label=direction)
    if label == PANELS["source_offset_px"]:
        axes.axhline(WARN_PX, color="#b3261e", ls="--", lw=1)
        axes.set_ylim(bottom=0)
    axes.set(title=label, xlabel="step")
    axes.grid(color="#dde3e8", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def _plot_baselines(axes: Any, rows: list[dict[str, str]]) -> None:
    """A level line for each baseline of each direction, in the direction's colour."""
    for name, style in BESIDE.items():
        curves = _curves(rows, f"/{name}_psnr_db")
        for (direction, points), colour in zip(curves.items(), COLOURS, strict=False):
            label = f"{name}, {direction}"
            axes.axhline(points[-1][1], color=colour, ls=style, lw=1, label=label)


def _curves(rows: list[dict[str, str]], ending: str) -> dict[str, list[tuple[int, float]]]:
    """Direction → (step, value) of the score whose columns end so."""
    columns = [name for name in (rows[0] if rows else ()) if name.endswith(ending)]
    curves = {
        column.removesuffix(ending).replace("_to_", " → "): [
            (int(row["step"]), float(row[column])) for row in rows if row[column]
        ]
        for column in columns
    }
    return {direction: points for direction, points in curves.items() if points}
