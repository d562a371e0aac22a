"""Hyper-parameters by name: changed one at a time, or read back from plain data.

Hyper-parameters are frozen dataclasses of numbers, strings and tuples of whole numbers. The sizes
of a network have a dataclass of their own, so a name may be dotted: "generator.channels". An
earlier name of a hyper-parameter is accepted too (`Method.renamed`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any

from syndiff.errors import OptionError
from syndiff.networks.denoisers import DENOISERS
from syndiff.objectives.method import Method


def changed(settings: Any, name: str, value: Any, method: Method) -> Any:
    """The hyper-parameters with one of them set.

    Args:
        settings: hyper-parameters of the method.
        name: name of the hyper-parameter, dotted if it belongs to a network, or an earlier name.
        value: new value; text is read as the type of the present value.
        method: the method of the hyper-parameters.

    Raises:
        OptionError: there is no such hyper-parameter, or the value does not fit.
    """
    name = method.renamed.get(name, name)
    if name not in (known := names(settings)):
        raise OptionError(f"{method.name} has no {name}", _nearest(name, known))
    return _put(settings, name.split("."), value, name)


def from_plain(content: Mapping[str, Any], method: Method) -> Any:
    """A method's hyper-parameters as JSON or YAML holds them, in today's or an earlier layout.

    What is missing has the value that it had when nothing else could be chosen.

    Raises:
        OptionError: an unknown hyper-parameter, or a value that does not fit.
    """
    settings = method.settings()
    for name, value in {**method.before, **flat(content)}.items():
        settings = changed(settings, name, value, method)
    return settings


def names(settings: Any) -> list[str]:
    """All names, dotted; the name of a network comes before the names of its sizes."""
    found = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name == "name":  # of a network, which is chosen as a whole
            continue
        found.append(field.name)
        if is_dataclass(value):
            found += [f"{field.name}.{inner}" for inner in names(value)]
    return found


def flat(content: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """{"generator": {"name": …, "blocks": 1}} → {"generator": name, "generator.blocks": 1}."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            rest = dict(value)
            if "name" in rest:  # first: it says which network has the other values
                found[f"{before}{key}"] = rest.pop("name")
            found |= flat(rest, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = value
    return found


def _nearest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"perhaps {close[0]}" if close else f"one of {', '.join(known)}"


def _put(settings: Any, path: list[str], value: Any, name: str) -> Any:
    first, *rest = path
    present = getattr(settings, first)
    if rest:
        return replace(settings, **{first: _put(present, rest, value, name)})
    try:
        new = _network(present, value) if is_dataclass(present) else read_like(present, value)
    except (ValueError, TypeError) as error:
        raise OptionError(f"{name}={value}", _example(present, name)) from error
    return replace(settings, **{first: new})


def _network(present: Any, value: Any) -> Any:
    """Another kind of network, by its name, with its own default sizes."""
    if value == getattr(present, "name", None):
        return present
    if type(present) not in {kind.settings for kind in DENOISERS.values()}:
        raise ValueError(value)
    if value not in DENOISERS:
        raise ValueError(value)
    return DENOISERS[value].settings()


def _example(present: Any, name: str) -> str:
    if is_dataclass(present):
        kinds = {kind.settings for kind in DENOISERS.values()}
        known = list(DENOISERS) if type(present) in kinds else [getattr(present, "name", "")]
        kind = f"one of {', '.join(known)}, or " if known != [""] else ""
        return f"{kind}a value of its own, such as {name}.{fields(present)[0].name}"
    return "numbers, such as 1,2,2" if isinstance(present, tuple) else f"such as {present}"


def read_like(present: Any, value: Any) -> Any:
    """A value as the type of the present one, from text or from plain data.

    Raises:
        ValueError: it does not fit.
    """
    if isinstance(present, bool):
        words = {"true": True, "1": True, "false": False, "0": False}
        text = str(value).lower()
        if text not in words:
            raise ValueError(value)
        return words[text]
    if isinstance(present, tuple):
        parts = value.split(",") if isinstance(value, str) else list(value)
        return tuple(_number(present, part) for part in parts if str(part).strip())
    if isinstance(present, str):
        return str(value)
    if isinstance(value, bool):
        raise ValueError(value)
    new = type(present)(value)
    if not isinstance(value, str) and new != value:  # 2.5 for a whole number
        raise ValueError(value)
    return new


def _number(like: tuple[Any, ...], part: Any) -> Any:
    return (float if any(isinstance(x, float) for x in like) else int)(part)
