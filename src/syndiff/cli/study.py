"""The command that computes the paper's tables: study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from syndiff.cli import values
from syndiff.cli.app import app
from syndiff.cli.console import console_reporter
from syndiff.cli.outcome import Outcome
from syndiff.errors import OptionError

LIST = "list"


@app.command()
def study(
    name: Annotated[
        str, typer.Argument(help="table2 to table10; or list: what each needs and takes.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the study; the same command goes on with it.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Prepared data; default: virtual people, made here.")
    ] = None,
    budget: Annotated[
        str, typer.Option(help="Of each training: 10m (equal time) or 3000steps (equal steps).")
    ] = "3000steps",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each cell.")] = 3,
    size: Annotated[int, typer.Option(min=32, help="Rows and columns of the slices.")] = 64,
    preset: Annotated[
        values.Preset, typer.Option(help="Networks and rates; not github.")
    ] = "small",
    profile: Annotated[values.Profile, typer.Option(help="How to compare.")] = "paper",
    sampling_steps: Annotated[
        int, typer.Option(min=0, help="Of chains that can be cut short; 0: all.")
    ] = 50,
    workers: Annotated[int, typer.Option(min=1, help="Cells at a time.")] = 1,
    device: Annotated[values.StudyDevice, typer.Option(help="Where to compute.")] = "auto",
    tiny: Annotated[
        bool,
        typer.Option("--tiny", help="In seconds, to see that it works; the figures mean nothing."),
    ] = False,
) -> Outcome:
    """Compute a table of the paper on virtual people or DATA, beside the paper's own figures."""
    from syndiff.studies import plan

    if name == LIST:
        return Outcome(lines=plan.listed(), next=["study", "table8", "--out", "study8", "--tiny"])
    from syndiff.studies.definitions import study_named

    study_named(name)
    if out is None:
        raise OptionError("no `out`", "a folder for the study")
    options = plan.Options(
        budget=plan.Budget.parse(budget),
        seeds=seeds,
        size=size,
        preset=preset,
        profile=profile,
        sampling_steps=sampling_steps,
        tiny=tiny,
        device=device,
    )
    plan.check(study_named(name), options if not tiny else plan.tiny(options), workers)
    from syndiff.studies.run import study as run

    with console_reporter(name) as report:
        found = run(name, out, data=data, options=options, workers=workers, report=report)
    failed = len(found.problems)
    lines = [f"{found.computed} of {found.cells} cells computed now: {found.table}"]
    if failed:
        lines.append(f"{failed} cells have no result; the same command tries them again")
    return Outcome(
        lines=lines,
        written={"table": found.table, "study": out},
        figures={"cells": found.cells, "computed": found.computed, "problems": found.problems},
        code=1 if failed else 0,
    )
