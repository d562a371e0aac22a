"""What every command does before it begins: its values make sense, and it is quiet if asked to.

All of it is checked before a command imports anything slow.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand

from syndiff.cli.patience import while_loading
from syndiff.errors import OptionError

_hushed = {"": False}  # of the command that runs
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


class Command(TyperCommand):
    """A command that refuses empty and boundless values."""

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
    """An application all of whose commands are of this kind, and have --quiet."""

    def command(self, name: str | None = None, **options: Any) -> Callable[..., Any]:
        register = super().command(name, **{"cls": Command, **options})

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            register(_with_quiet(function))
            return function

        return decorate


Quiet = Annotated[bool, typer.Option("--quiet", help="No progress: warnings and errors only.")]


def _with_quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a command with one more option."""
    hints = get_type_hints(function, include_extras=True)
    signature = inspect.signature(function)
    own = [p.replace(annotation=hints[p.name]) for p in signature.parameters.values()]
    more = inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False)

    @wraps(function)
    def quietly(*arguments: Any, quiet: bool = False, **values: Any) -> Any:
        _hushed[""] = quiet
        return function(*arguments, **values)

    quietly.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*own, more.replace(annotation=Quiet)]
    )
    quietly.__annotations__ = hints | {"quiet": Quiet}
    del quietly.__wrapped__
    return quietly


def is_quiet() -> bool:
    """Whether the command that runs was given --quiet."""
    return _hushed[""]
