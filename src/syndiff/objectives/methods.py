"""The methods that can be trained, by name: SynDiff and the seven that its paper compares with.

Each method's file ends with its own entry, METHOD. To add a method, write its objective
(docs/extending.md says how) and name its module here.
"""

from __future__ import annotations

from typing import Any

from syndiff.errors import OptionError
from syndiff.objectives import attgan, cyclegan, ddpm, munit, sagan, syndiff, unit, unit_ddpm
from syndiff.objectives.method import Method

METHODS: dict[str, Method] = {
    module.METHOD.name: module.METHOD
    for module in (syndiff, cyclegan, unit, munit, attgan, sagan, ddpm, unit_ddpm)
}


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        OptionError: no method has that name.
    """
    if name not in METHODS:
        raise OptionError(f"the method {name!r}", f"one of {', '.join(METHODS)}")
    return METHODS[name]


def method_of(settings: Any) -> Method:
    """The method to which these hyper-parameters belong."""
    return next(m for m in METHODS.values() if type(settings) is m.settings)
