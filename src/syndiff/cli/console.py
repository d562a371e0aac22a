"""Progress bars, log lines and warnings of the command line; all on stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

from syndiff.cli.app import option_of
from syndiff.cli.command import is_quiet, is_rank_zero, warned
from syndiff.cli.patience import loaded
from syndiff.errors import one_line, spelled
from syndiff.reporting import Reporter

FIRST_S = 2.0  # what is done sooner says nothing on its way
EVERY_S = 8.0  # between two lines of a log


def warn(message: str) -> None:
    typer.echo(f"warning: {_in_words(message)}", err=True)


def _in_words(message: str) -> str:
    """A warning as the command line spells it."""
    words = one_line(spelled(message, option_of))
    warned(words)
    return words


class Warnings:
    """A reporter that prints only warnings, for --quiet."""

    def phase(self, name: str) -> None:
        pass

    def progress(self, done: int, total: int, detail: str = "") -> None:
        pass

    def warn(self, message: str) -> None:
        warn(message)


class Lines(Warnings):
    """A reporter for pipes and logs: a plain line now and then, none for what is quickly done.

    Args:
        what: the work, with which each line begins.
        clock: seconds; another one in tests.
    """

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._clock = what, clock
        self._phase, self._state = "", ""
        self._since = clock()  # the last that was heard of the work
        self._next = clock() + FIRST_S

    def phase(self, name: str) -> None:
        self._phase = name
        self._heard("")

    def progress(self, done: int, total: int, detail: str = "") -> None:
        self._heard(f"{done}/{total} {detail}" if total else detail)

    def beat(self) -> None:
        """Say what goes on, if nothing has been said for long; by a clock beside the work."""
        if self._clock() >= self._next:
            silent = self._clock() - self._since
            self._say(f"{self._state} ({silent:.0f} s)" if silent >= 1 else self._state)

    def _heard(self, state: str) -> None:
        self._state, self._since = state, self._clock()
        if self._since >= self._next:
            self._say(state)

    def _say(self, state: str) -> None:
        self._next = self._clock() + EVERY_S
        words = ": ".join(part for part in (self._what, self._phase) if part)
        typer.echo(one_line(f"{words} {state}"), err=True)


@contextmanager
def beating(lines: Lines) -> Iterator[Lines]:
    """Inside, the lines come also while the work is silent."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(1.0):
            lines.beat()

    thread = threading.Thread(target=beat, daemon=True, name="progress")
    thread.start()
    try:
        yield lines
    finally:
        done.set()
        thread.join()


class Bar(Warnings):
    """A reporter for terminals: one line that moves, as wide as the terminal is."""

    def __init__(self, what: str, bar: Any) -> None:
        self._what, self._bar = what, bar
        self._phase = ""
        self._task = bar.add_task(what, total=None)

    def phase(self, name: str) -> None:
        self._phase = name  # its own time remaining, from here on
        self._bar.reset(self._task, total=None, description=self._words(""))

    def progress(self, done: int, total: int, detail: str = "") -> None:
        total_or_none = total or None
        self._bar.update(
            self._task, completed=done, total=total_or_none, description=self._words(detail)
        )

    def warn(self, message: str) -> None:
        text = f"warning: {_in_words(message)}"
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _words(self, detail: str) -> str:
        from rich.markup import escape

        words = ": ".join(part for part in (self._what, self._phase) if part)
        return escape(one_line(f"{words} {detail}"))


@contextmanager
def console_reporter(what: str) -> Iterator[Reporter]:
    """Who tells the person at the command line how the work called `what` goes.

    A bar in a terminal (without colours where NO_COLOR is set), plain lines elsewhere, warnings
    alone with --quiet and in further processes of a run.
    """
    loaded()
    if is_quiet() or not is_rank_zero():
        yield Warnings()
    elif not sys.stderr.isatty():
        with beating(Lines(what)) as lines:
            yield lines
    else:
        with _progress() as bar:
            yield Bar(what, bar)


def _progress() -> Any:
    """Rich's bar on stderr; the words give way where the terminal is narrow."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed
    from rich.progress import TimeRemainingColumn as TimeRemaining
    from rich.table import Column

    words = TextColumn(
        "{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
    )
    console = Console(stderr=True)
    columns = [words, MofNCompleteColumn(), Elapsed(), TimeRemaining(compact=True)]
    if console.width >= 60:
        columns.insert(1, BarColumn(bar_width=20))
    return Progress(*columns, console=console, expand=True)
