"""The command that shows everything: demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from syndiff.cli.app import Seed, app
from syndiff.cli.command import is_quiet


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder for everything the demonstration makes.")],
    minutes: Annotated[float, typer.Option(min=0.1, help="Minutes of training.")] = 4.0,
    subjects: Annotated[int, typer.Option(min=4, help="Virtual subjects.")] = 12,
    seed: Seed = 0,
) -> None:
    """Virtual cohort → prepare → train → translate → evaluate → report, in one command."""
    from syndiff.demo import run

    run(
        out,
        minutes=minutes,
        subjects=subjects,
        seed=seed,
        say=(lambda line: None) if is_quiet() else typer.echo,
    )
