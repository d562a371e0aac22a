"""Fill in a template; what is put into it is escaped, and nothing may be missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any


def filled(
    package: str, name: str, filters: Mapping[str, Callable[..., str]] | None = None, **values: Any
) -> str:
    """A page as HTML text.

    Args:
        package: the package in which the template lies, e.g. "syndiff.evaluation".
        name: the template's file name.
        filters: further functions for the template, by name.
        values: what the template shows.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(filters or {})
    template = files(package).joinpath(name).read_text(encoding="utf-8")
    return environment.from_string(template).render(**values)
