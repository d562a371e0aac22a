"""The application that every command registers with, and the options that several share."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from syndiff import __version__
from syndiff.cli import values
from syndiff.cli.command import Application, running_spelling, spelling
from syndiff.cli.completion import devices, folders_of_models
from syndiff.cli.pages import Commands, first_steps
from syndiff.errors import OptionError

app = Application(
    name="syndiff",
    help="Translate a medical image of one modality into another, trained on unpaired scans.",
    epilog="Synthetic images are not for diagnosis. Words: syndiff help TERM.",
    cls=Commands,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Model = Annotated[
    Path,
    typer.Argument(
        help="Translator folder, or a shipped one's name ('syndiff models').",
        autocompletion=folders_of_models,
    ),
]
Modalities = Annotated[
    str, typer.Option(help="Modalities, separated by commas; the first is the reference grid.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of every random number.")]
Device = Annotated[
    str,
    typer.Option(
        help="auto (the GPU if there is one), cpu, cuda, cuda:1 …", autocompletion=devices
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Slices at a time; bounds the memory.")]
Precision = Annotated[
    values.Precisions,
    typer.Option(help="Bits per number; bf16 (mixed): faster where the processor has it."),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile", help="Compile the networks first: minutes; may pay on a GPU, not on a CPU."
    ),
]

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing files that syndiff did not make.")
]
ReplaceResults = Annotated[
    bool, typer.Option("--overwrite", help="Replace files in OUT that are no results of ours.")
]
Anonymous = Annotated[
    bool, typer.Option(help="Write no path, file name or command line into the results.")
]
Split = Annotated[values.Split, typer.Option(help="Subjects to score: test, val or train.")]
SourceOfModels = Annotated[str, typer.Option(help="Source modality; default: the models'.")]
TargetOfModels = Annotated[str, typer.Option(help="Target modality; default: the models'.")]
PROFILE = typer.Option(
    help="How to compare: subject (inside the head or body, per subject), paper, github, "
    "selfrdb, synthrad2023, synthrad2025, brasyn or fixed (docs/evaluation.md)."
)
Way = Annotated[
    values.Sampling,
    typer.Option(
        "--sampling",
        help="chain (the paper), expectation (mean of --samples chains) or regression "
        "(the first step's estimate: fastest).",
    ),
]
Samples = Annotated[int, typer.Option(min=1, help="Chains of an expectation.")]
SamplingSteps = Annotated[
    int,
    typer.Option(min=0, help="Reverse steps of ddpm, unit_ddpm, SynDiff's l1 projector; 0: all."),
]


@app.callback(invoke_without_command=True)
def _alone(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.")
    ] = False,
) -> None:
    if version:
        typer.echo(f"syndiff {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(first_steps(context.command.commands))  # type: ignore[attr-defined]


def listed(text: str) -> list[str]:
    """ "T1, T2" → ["T1", "T2"]."""
    return [part.strip() for part in text.split(",") if part.strip()]


def number(option: str, text: str) -> float:
    """A number that an option holds where it may hold a word, too."""
    try:
        return float(text)
    except ValueError as error:
        raise OptionError(f"{option} {text}", "a number in mm, or auto") from error


def numbers(option: str, text: str, count: int | None = None) -> list[float]:
    """ "1 2,4" → [1.0, 2.0, 4.0]; `count` is how many there must be."""
    try:
        found = [float(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise OptionError(f"{option} {text}", "numbers, separated by commas") from error
    if not all(math.isfinite(value) for value in found):
        raise OptionError(f"{option} {text}", "finite numbers")
    if count is not None and len(found) != count:
        raise OptionError(f"{option} {text}", f"{count} numbers, separated by commas")
    return found


def whole_numbers(option: str, text: str) -> list[int]:
    """ "1 2,4" → [1, 2, 4]; fractions are refused."""
    try:
        return [int(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise OptionError(f"{option} {text}", "whole numbers, separated by commas") from error


@cache
def _spellings() -> dict[str, str]:
    """Argument of a library function → how some command spells it."""
    found: dict[str, str] = {}
    for command in typer.main.get_command(app).commands.values():  # type: ignore[attr-defined]
        for parameter in command.params:
            found.setdefault(parameter.name, spelling(parameter))
    return found


def option_of(field: str) -> str:
    """The option or argument that sets a field: "batch_size" → "--batch-size"."""
    return running_spelling(field) or _spellings().get(field, f"--{field.replace('_', '-')}")
