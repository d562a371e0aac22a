"""The command that explains words and commands: help."""

from __future__ import annotations

from typing import Annotated

import typer

from syndiff.cli.app import app
from syndiff.cli.glossary import find, terms
from syndiff.cli.outcome import Outcome


def _offered(incomplete: str) -> list[str]:
    names = [name for term in terms() for name in term.names]
    return [name for name in names if name.startswith(incomplete)]


@app.command("help", context_settings={"ignore_unknown_options": True})
def help_(
    context: typer.Context,
    term: Annotated[
        list[str] | None,
        typer.Argument(
            help="A word of syndiff, or a command; none: all words.", autocompletion=_offered
        ),
    ] = None,
) -> Outcome:
    """Say what a word means: offset, preset, chain, way back, …; or how a command is used."""
    asked = " ".join(term or ())
    if not asked:
        names = [found.name for found in terms()]
        return Outcome(lines=_columns(names), figures={"terms": names}, next=["help", "offset"])
    assert context.parent is not None  # the application
    command = context.parent.command.commands.get(asked)  # type: ignore[attr-defined]
    if command is not None:
        with typer.Context(command, info_name=asked, parent=context.parent) as of_command:
            return Outcome(lines=[command.get_help(of_command)])
    found = find(asked)
    return Outcome(
        lines=found.lines(),
        figures={"term": found.name, "says": found.says, "see": list(found.see)},
        next=["help", found.see[0]] if found.see else [],
    )


def _columns(names: list[str], wide: int = 24, count: int = 3) -> list[str]:
    """Names side by side, in the order of columns."""
    height = -(-len(names) // count)
    rows = [names[start::height] for start in range(height)]
    return ["".join(f"{name:{wide}}" for name in row).rstrip() for row in rows]
