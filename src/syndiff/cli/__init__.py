"""The command line: one function per command, each importing its room only when it runs.

Errors that the user can mend end in one line and exit code 2; Ctrl-C in exit code 130.
"""

from __future__ import annotations

import sys

import typer

# isort: off
# Importing them registers their commands; their order here is that of `syndiff --help`.
from syndiff.cli import data, training, translation, models, demo, benchmark

# isort: on
from syndiff.cli.app import app, option_of
from syndiff.errors import UserError, spelled
from syndiff.memory import keep_freed

__all__ = ["app", "benchmark", "data", "demo", "main", "models", "training", "translation"]


def main() -> None:
    """Entry point: every mendable error is one line and exit code 2."""
    keep_freed()
    try:
        app()
    except UserError as error:
        typer.echo(f"error: {spelled(str(error), option_of)}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
