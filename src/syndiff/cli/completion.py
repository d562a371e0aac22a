"""What the tab key offers beside commands, options and named values, which typer knows.

The shell asks syndiff itself (`syndiff --install-completion`), so nothing slow may be imported.
Where nothing is offered, the shell completes the names of files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

from syndiff.cli.values import Shipped

MOST = 200  # paths in one answer


def folders_of_models(incomplete: str) -> list[str]:
    """Shipped translators by name, and folders: those of translators without a slash."""
    names = [name for name in get_args(Shipped) if name.startswith(incomplete)]
    return names + _folders(incomplete)


def named_models(incomplete: str) -> list[str]:
    """The same behind NAME=."""
    name, mark, path = incomplete.partition("=")
    return [f"{name}={found}" for found in folders_of_models(path)] if mark else []


def devices(incomplete: str) -> list[str]:
    return [name for name in ("auto", "cpu", "cuda", "cuda:0") if name.startswith(incomplete)]


def _folders(incomplete: str) -> list[str]:
    """What a folder's path may become that is not yet complete; one to go into ends in a slash."""
    before, start = os.path.split(incomplete)
    folder = Path(os.path.expanduser(before or "."))
    found = []
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError:
        return []
    for entry in entries:
        hidden = entry.name.startswith(".") and not start.startswith(".")
        if entry.name.startswith(start) and not hidden and entry.is_dir():
            is_model = os.path.isfile(os.path.join(entry.path, "config.json"))
            found.append(os.path.join(before, entry.name) + ("" if is_model else "/"))
    return found[:MOST]
