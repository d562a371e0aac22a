"""How a training looks on the command line: a live bar in a terminal, else lines, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from syndiff.cli import console
from syndiff.cli.command import is_quiet, is_rank_zero
from syndiff.cli.patience import loaded
from syndiff.errors import one_line

LASTING = ("training on", "memory:")  # phases that stay on the screen


class Lines(console.Lines):
    """Plain lines: what lasts, every validation, and how far the work is every few seconds."""

    def __init__(self, **how: Any) -> None:
        super().__init__("", **how)
        self.scores: dict[str, float] = {}

    def phase(self, name: str) -> None:
        if name.startswith(LASTING):
            typer.echo(one_line(name), err=True)
            self._phase, self._state, self._next = name, "", self._clock() + console.EVERY_S
        else:
            super().phase(name)

    def step(self, state: Any) -> None:
        if state.scores != self.scores:
            self.scores, self._next = state.scores, 0.0
        self.progress(state.step, state.total, state.line())


class Quiet(console.Warnings):
    """Prints only warnings."""

    def step(self, state: Any) -> None:
        pass


class Bar(console.Bar):
    """The same as a bar that names the phase."""

    def phase(self, name: str) -> None:
        if name.startswith(LASTING):
            self._bar.console.print(name, markup=False, highlight=False)
        super().phase(name)

    def step(self, state: Any) -> None:
        self.progress(state.step, state.total, state.line())


@contextmanager
def training_console() -> Iterator[Any]:
    """The reporter of a training; with --quiet it tells warnings alone."""
    loaded()
    if is_quiet() or not is_rank_zero():
        yield Quiet()
    elif not sys.stderr.isatty():
        with console.beating(Lines()) as lines:
            yield lines
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        columns = (BarColumn(bar_width=8), MofNCompleteColumn(), Elapsed())
        words = TextColumn("{task.description}")
        with Progress(*columns, words, console=Console(stderr=True)) as bar:
            yield Bar("", bar)
