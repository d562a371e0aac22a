"""Tasks for other processes: what works, what fails, and what takes its process along."""

from __future__ import annotations

import os
from pathlib import Path


def task(what: str, folder: Path) -> str:
    """Return "what", raise an error, or kill the process at the first try."""
    if what == "fails":
        raise RuntimeError("always")
    if what == "dies once" and not (folder / "died").exists():
        (folder / "died").touch()
        os._exit(1)
    return what
