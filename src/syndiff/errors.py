"""Errors that a person can act on: what was found, what was expected, what to do.

The command line prints them as one line and exits with code 2; from Python they are ordinary
exceptions. Anything else that reaches the user as a traceback is a defect of ours.

A message names an argument or field in backticks: "`batch_size` 0". A caller in Python or by HTTP
reads it as it stands; the command line spells it as its option, "--batch-size 0".
"""

from __future__ import annotations

import re
from collections.abc import Callable


class UserError(Exception):
    """Something that the user can mend.

    Args:
        found: what was found, naming the file or option.
        expected: what was expected instead, if that is not evident.
        remedy: what to do, if there is something to do.
    """

    def __init__(self, found: str, expected: str = "", remedy: str = "") -> None:
        self.found, self.expected, self.remedy = found, expected, remedy
        parts = [found]
        if expected:
            parts.append(f"expected {expected}")
        if remedy:
            parts.append(remedy)
        super().__init__("; ".join(one_line(part) for part in parts))

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:  # picklable across worker processes
        return type(self), (self.found, self.expected, self.remedy)


class VolumeError(UserError):
    """A scan that cannot be used: unreadable, wrong shape, not finite, blank, without a grid."""


class GeometryError(UserError):
    """Grids that do not belong together."""


class DataError(UserError):
    """A data folder or manifest that cannot be used."""


class ModelError(UserError):
    """A translator or checkpoint that cannot be used."""


class OptionError(UserError):
    """An option's value, or a combination of options, that makes no sense."""


def one_line(text: str) -> str:
    """A text as one line: blanks and line breaks are single blanks, control characters escaped.

    File names may hold line breaks, commands to the terminal and bytes that are no text.
    """
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def spelled(message: str, spelling: Callable[[str], str]) -> str:
    """A message whose `fields` in backticks are spelled another way, e.g. as options."""
    return re.sub(r"`(\w+)`", lambda field: spelling(field[1]), message)
