"""What a person watching the command line sees: bars, lines for logs, warnings; all on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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


@contextmanager
def training_progress() -> Iterator[Callable[[Any], None]]:
    """Losses, PSNR and time left: a live bar in a terminal, else a line now and then."""
    if not sys.stderr.isatty() or not _is_first():
        yield _training_lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=8), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=None)

        def report(progress: Any) -> None:
            bar.update(
                task, completed=progress.step, total=progress.total, description=progress.line()
            )

        yield report


def _is_first() -> bool:
    """Whether this is the first process of a run on several devices, as its starter says."""
    ranks = (os.environ.get(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    return next((rank for rank in ranks if rank is not None), "0") == "0"


def _training_lines(every: int = 100) -> Callable[[Any], None]:
    """Report for logs: a line every hundred steps, and one for every validation."""
    seen: dict[str, Any] = {"scores": {}, "step": -every}

    def report(progress: Any) -> None:
        if progress.step - seen["step"] >= every or progress.scores != seen["scores"]:
            seen.update(scores=progress.scores, step=progress.step)
            typer.echo(f"step {progress.step}/{progress.total}  {progress.line()}", err=True)

    return report
