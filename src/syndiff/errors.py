"""Errors that a user can correct: what was found, what was expected, what to do.

The command line prints such an error as one line and exits with code 2. In Python it is an
ordinary exception. Any other traceback that reaches the user is a defect of this package.

A message names an argument or field in backticks: "`batch_size` 0". A caller in Python or over
HTTP reads the name unchanged. The command line spells it as its option, "--batch-size 0".
"""

from __future__ import annotations

import re
from collections.abc import Callable


class UserError(Exception):
    """An error that the user can correct.

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
    """Images whose grids (shape or affine) do not match."""


class DataError(UserError):
    """A data folder or manifest that cannot be used."""


class ModelError(UserError):
    """A translator or checkpoint that cannot be used."""


class OptionError(UserError):
    """An option's value, or a combination of options, that is not valid."""


def one_line(text: str) -> str:
    """A text as one line: white space becomes single blanks, control characters are escaped.

    File names may hold line breaks, terminal escape codes and bytes that are not text.
    """
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def spelled(message: str, spelling: Callable[[str], str]) -> str:
    """A message whose field names in backticks are spelled otherwise, e.g. as options.

    Args:
        message: text of a `UserError`.
        spelling: field name → its replacement, without backticks.
    """
    return re.sub(r"`(\w+)`", lambda field: spelling(field[1]), message)
