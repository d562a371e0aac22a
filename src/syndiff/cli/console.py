"""What a person watching the command line sees: bars, lines for logs, warnings; all on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer


def warn(message: str) -> None:
    typer.echo(f"warning: {message}", err=True)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[..., None]]:
    """A bar for (done, total[, detail]); silent where nobody watches."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    from rich.console import Console

    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what)

        def update(done: int, total: int, detail: str = "") -> None:
            bar.update(task, completed=done, total=total, description=f"{what} {detail}".strip())

        yield update


class ConsoleReporter:
    """A `Reporter` for people: a bar where somebody watches, and warnings, both on stderr."""

    def __init__(self, update: Callable[..., None]) -> None:
        self._update = update

    def phase(self, name: str) -> None:
        pass  # the bar's description says it already

    def progress(self, done: int, total: int, detail: str = "") -> None:
        self._update(done, total, detail)

    def warn(self, message: str) -> None:
        warn(message)


@contextmanager
def console_reporter(what: str) -> Iterator[ConsoleReporter]:
    """A reporter whose bar says `what` is being done."""
    with progress_bar(what) as update:
        yield ConsoleReporter(update)
