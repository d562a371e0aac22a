"""How a training looks on the command line: a live bar in a terminal, else lines now and then."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from syndiff.cli.command import is_quiet, is_rank_zero
from syndiff.cli.console import warn

QUIET = ("training", "validating", "saving")  # phases that the lines of the steps stand for


class Lines:
    """A line for each phase, every hundred steps, and every validation; all on stderr."""

    def __init__(self, every: int = 100) -> None:
        self.every, self.shown = every, -every
        self.scores: dict[str, float] = {}

    def phase(self, name: str) -> None:
        if name not in QUIET:
            typer.echo(name, err=True)

    def progress(self, done: int, total: int, detail: str = "") -> None:
        pass

    def warn(self, message: str) -> None:
        warn(message)

    def step(self, state: Any) -> None:
        if state.step - self.shown >= self.every or state.scores != self.scores:
            self.shown, self.scores = state.step, state.scores
            typer.echo(f"step {state.step}/{state.total}  {state.line()}", err=True)


class Quiet(Lines):
    """Prints only warnings."""

    def phase(self, name: str) -> None:
        pass

    def step(self, state: Any) -> None:
        pass


class Bar(Lines):
    """The same as a bar that names the phase."""

    def __init__(self, bar: Any) -> None:
        super().__init__()
        self.bar, self.task, self.line = bar, bar.add_task("starting", total=None), ""

    def phase(self, name: str) -> None:
        if name.startswith("training on"):  # stays on the screen
            self.bar.console.print(name, markup=False, highlight=False)
        shown = self.line if name == "training" else f"{name} …"
        self.bar.update(self.task, description=shown)

    def step(self, state: Any) -> None:
        self.line = state.line()
        self.bar.update(self.task, completed=state.step, total=state.total, description=self.line)


@contextmanager
def training_console() -> Iterator[Lines]:
    """The reporter of a training; with --quiet it tells warnings alone."""
    if is_quiet():
        yield Quiet()
        return
    if not sys.stderr.isatty() or not is_rank_zero():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=8), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield Bar(bar)
