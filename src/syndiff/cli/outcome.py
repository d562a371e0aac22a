"""What a command has done: lines for people, one JSON object for programs."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from syndiff import __version__
from syndiff.errors import one_line


@dataclass(frozen=True)
class Outcome:
    """What a command returns; it is told once, when the command ends.

    Attributes:
        lines: for people, on stdout.
        written: what was written, by a word: {"report": Path("out/report.html")}.
        figures: what was found: plain values, lists and dictionaries of them.
        next: the words of the command that one would type next, after "syndiff".
        code: exit code.
    """

    lines: Sequence[str] = ()
    written: Mapping[str, Path | Sequence[Path]] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    next: Sequence[str | Path] = ()
    code: int = 0

    @property
    def next_command(self) -> str:
        """As it would be typed; empty if there is none."""
        return shlex.join(["syndiff", *map(str, self.next)]) if self.next else ""


def tell(outcome: Outcome, *, quiet: bool) -> None:
    """Lines on stdout; the last one names the next command, unless it is to be quiet."""
    for line in outcome.lines:
        typer.echo(line)
    if outcome.next and not quiet:
        typer.echo(f"next: {one_line(outcome.next_command)}")


def tell_as_json(command: str, outcome: Outcome, warnings: Sequence[str]) -> None:
    """One object on one line of stdout."""
    content = {
        "command": command,
        "syndiff": __version__,
        "written": outcome.written,
        "figures": outcome.figures,
        "warnings": list(warnings),
        "next": outcome.next_command,
        "exit_code": outcome.code,
    }
    typer.echo(json.dumps(plain(content), allow_nan=False))


def plain(value: Any) -> Any:
    """Values as JSON has them: paths are text, numbers that are not finite are null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(v) for v in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "item"):  # a number of numpy
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


@contextmanager
def stdout_for_json() -> Iterator[None]:
    """Whatever else would be printed meanwhile goes to stderr."""
    with redirect_stdout(sys.stderr):
        yield


def scores(results: Mapping[str, Any]) -> dict[str, Any]:
    """What an evaluation found, by model: means over people, offset, verdict."""
    return {
        name: {
            **entry["person_means"],
            "offset_px": entry.get("offset_px"),
            **({"verdict": entry["verdict"]["sentence"]} if "verdict" in entry else {}),
        }
        for name, entry in results["models"].items()
    }


def unused(path: Path) -> Path:
    """The path if there is nothing, else one with a number: data, data_2, …"""
    number, found = 2, path
    while found.exists():
        found, number = path.with_name(f"{path.name}_{number}"), number + 1
    return found
