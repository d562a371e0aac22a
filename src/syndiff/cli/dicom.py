"""The command series, and the options of every command that reads DICOM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syndiff.cli.app import app
from syndiff.cli.console import console_reporter
from syndiff.cli.outcome import Outcome

if TYPE_CHECKING:
    from syndiff.dicom.series import Series

ChosenSeries = Annotated[
    str,
    typer.Option(
        "--series",
        help="Of a DICOM folder: number ('syndiff series'), UID or part of the description; also "
        "takes derived series and localisers.",
    ),
]
RegularGrid = Annotated[
    bool,
    typer.Option(
        "--regular-grid",
        help="DICOM: resample missing or unevenly spaced slices and gantry tilt.",
    ),
]
HuOffset = Annotated[
    float,
    typer.Option(help="DICOM: number added to a CT; -1024 for files that store HU + 1024."),
]


@app.command("series")
def series_(
    folder: Annotated[Path, typer.Argument(help="Folder with DICOM files, or a .zip of one.")],
) -> Outcome:
    """List the DICOM series of a folder: what each is, and why one cannot be used."""
    from syndiff.dicom.series import series_of

    with console_reporter("files") as report:
        found = series_of(folder, report)
    rows = [HEADINGS, *(_row(series) for series in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append(_printable("  ".join([*cells, row[-1]])))
    named = [word.replace(" ", "_") for word in HEADINGS]
    usable = [series for series in found if not series.reason]
    chosen = ["--series", str(usable[0].number)] if usable else []
    return Outcome(
        lines=lines,
        figures={"series": [dict(zip(named, row, strict=True)) for row in rows[1:]]},
        next=["translate", "MODEL", folder, "OUT", *chosen] if usable else [],
    )


HEADINGS = (
    "no", "series", "type", "matrix", "spacing mm", "slices", "plane", "taken for", "description",
    "not used because",
)  # fmt: skip


def _printable(text: str) -> str:
    """A row without line breaks or control characters; its columns keep their blanks."""
    return "".join(c if c.isprintable() else "?" for c in text).rstrip()


def _row(series: Series) -> tuple[str, ...]:
    from syndiff.dicom.geometry import plane_of

    header, stack = series.header, series.stack
    what = [str(series.number), header.number, header.modality]
    if stack is None:
        where = ["", "", "", ""]
    else:
        first = stack.frames[0]
        (rows, columns), (row_mm, column_mm) = first.shape, first.spacing_mm
        spacing = f"{column_mm:.3g} x {row_mm:.3g} x {stack.step_mm:.3g}"
        where = [f"{columns} x {rows}", spacing, str(len(stack.frames)), plane_of(first)]
    title = f"{header.description} ({series.label})" if series.label else header.description
    synthetic = ["synthetic"] if header.synthetic else []
    reason = "; ".join([*([series.reason] if series.reason else []), *synthetic])
    return (*what, *where, series.taken_for or "?", title[:40], reason)
