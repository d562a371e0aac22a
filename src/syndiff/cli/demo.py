"""The command that shows everything: demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from syndiff.cli.app import Seed, app
from syndiff.cli.command import is_quiet
from syndiff.cli.outcome import Outcome, scores


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder for everything the demonstration makes.")],
    minutes: Annotated[float, typer.Option(min=0.1, help="Minutes of training.")] = 4.0,
    subjects: Annotated[int, typer.Option(min=4, help="Virtual subjects.")] = 12,
    seed: Seed = 0,
) -> Outcome:
    """Virtual cohort → prepare → train → translate → evaluate → report, in one command."""
    from syndiff.demo import run

    results = run(
        out,
        minutes=minutes,
        subjects=subjects,
        seed=seed,
        say=(lambda line: None) if is_quiet() else typer.echo,
    )
    return Outcome(
        written={
            "report": out / "report.html",
            "translators": sorted((out / "run" / "translators").glob("*")),
        },
        figures={"models": scores(results)},
        next=["prepare", "YOUR_SCANS", "data"],
    )
