"""What every command does before it begins and when it ends.

Its values make sense, which is checked before anything slow is imported; it is quiet if asked to;
it tells its outcome, to people or to programs.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand

from syndiff.cli.outcome import Outcome, stdout_for_json, tell, tell_as_json
from syndiff.cli.pages import name_units, write_examples, write_options
from syndiff.cli.patience import while_loading
from syndiff.cli.values import check_values
from syndiff.errors import OptionError

_running: dict[str, str] = {}  # field → spelling, of the command that runs
LARGEST = 2**63 - 1  # of a whole number that torch and numpy take

# The most that makes sense, by the option's name; its own `max` holds where it has one.
MOST: dict[str, int] = {
    "accumulate": 65_536,
    "batch_size": 65_536,
    "count": 1_000_000,
    "lesions": 10_000,
    "max_minutes": 5_000_000,  # ten years
    "max_slices": 1_000_000,
    "max_steps": 1_000_000_000,
    "nodes": 65_536,
    "num_timesteps": 100_000,
    "repeats": 1_000_000,
    "samples": 10_000,
    "sampling_steps": 100_000,
    "size": 4096,
    "slices": 65_536,
    "subjects": 100_000,
    "validate_every": 1_000_000_000,
    "warmup": 1_000_000,
    "workers": 4096,
}


@dataclass
class _Call:
    """How the command that runs was called, and what it has warned of."""

    quiet: bool = False
    as_json: bool = False
    warnings: list[str] = field(default_factory=list)


_call = _Call()


class Command(TyperCommand):
    """A command that refuses values that cannot work, and explains itself with examples."""

    def __init__(self, name: str | None, **options: Any) -> None:
        super().__init__(name, **options)
        name_units(str(name), self.params)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        super().format_help_text(ctx, formatter)
        write_examples(str(self.name), formatter)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        write_options(self, ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse empty values before they are converted: an empty path is the working folder."""
        _running.clear()
        _running.update({p.name: spelling(p) for p in self.params})
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        for name, value in given.items():
            values = value if isinstance(value, list | tuple) else [value]
            if any(isinstance(v, str) and not v.strip() for v in values):
                raise OptionError(
                    f"an empty {_running[name]}",
                    "a value",
                    "perhaps a variable of the shell is not set",
                )
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        for name, value in ctx.params.items():
            check_number(name, value)
        check_values(str(self.name), ctx.params)
        if ctx.params.get("quiet"):
            return super().invoke(ctx)
        with while_loading(str(ctx.info_name)):
            return super().invoke(ctx)


def spelling(parameter: Any) -> str:
    """How the command line spells a parameter: an argument in capitals, an option with dashes."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name).upper()
    return str(max(parameter.opts, key=len))


def running_spelling(field: str) -> str | None:
    """The spelling in the command that runs; two commands may have DATA and --data."""
    return _running.get(field)


def check_number(name: str, value: Any) -> None:
    """Refuse numbers without a bound.

    Raises:
        OptionError: the number is not finite, or larger than anything that makes sense.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    most = MOST.get(name, LARGEST)
    if isinstance(value, float) and not math.isfinite(value):
        raise OptionError(f"`{name}` {value}", "a finite number")
    if abs(value) > most:
        raise OptionError(f"`{name}` {value}", f"at most {most}")


class Application(typer.Typer):
    """An application all of whose commands are of this kind, and have --quiet and --json."""

    def command(self, name: str | None = None, **options: Any) -> Callable[..., Any]:
        register = super().command(name, **{"cls": Command, **options})

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            register(_telling(name or function.__name__, function))
            return function

        return decorate


Quiet = Annotated[
    bool, typer.Option("--quiet", help="No progress and no hints: the result and warnings only.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="The result as one JSON object, alone on standard output.")
]
EVERYWHERE = {"quiet": Quiet, "as_json": AsJson}


def _telling(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a command with two more options; it tells the outcome that it returns."""
    hints = get_type_hints(function, include_extras=True)
    signature = inspect.signature(function)
    own = [p.replace(annotation=hints[p.name]) for p in signature.parameters.values()]
    more = [
        inspect.Parameter(added, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for added, kind in EVERYWHERE.items()
    ]

    @wraps(function)
    def telling(*arguments: Any, quiet: bool = False, as_json: bool = False, **values: Any) -> int:
        _call.quiet, _call.as_json, _call.warnings = quiet, as_json, []
        if as_json:
            with stdout_for_json():
                outcome = function(*arguments, **values)
        else:
            outcome = function(*arguments, **values)
        return _told(name, outcome)

    telling.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*own, *more]
    )
    telling.__annotations__ = hints | EVERYWHERE
    del telling.__wrapped__
    return telling


def _told(name: str, outcome: Outcome | None) -> int:
    """The exit code of a command; further processes of a run say nothing."""
    outcome = outcome or Outcome()
    if is_rank_zero():
        if _call.as_json:
            tell_as_json(name, outcome, _call.warnings)
        else:
            tell(outcome, quiet=_call.quiet)
    return outcome.code


def is_given(context: Any, name: str) -> bool:
    """Whether somebody typed an option of the command that runs."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def is_quiet() -> bool:
    """Whether the command that runs was given --quiet."""
    return _call.quiet


def warned(message: str) -> None:
    """Remember a warning for the outcome as JSON."""
    _call.warnings.append(message)


def is_rank_zero() -> bool:
    """Whether this is rank 0 of a run on several devices, as its starter says."""
    ranks = (os.environ.get(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    return next((rank for rank in ranks if rank is not None), "0") == "0"
