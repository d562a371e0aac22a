"""A line while a command loads its libraries, which takes tens of seconds on a busy machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import typer

EVERY_S = 8.0
_loaded = threading.Event()


@contextmanager
def while_loading(name: str, every_s: float = EVERY_S) -> Iterator[None]:
    """Say now and then that the command still loads, until `loaded` is called or it ends."""
    _loaded.clear()

    def tell() -> None:
        waited = 0.0
        while not _loaded.wait(every_s):
            waited += every_s
            typer.echo(f"{name}: loading ({waited:.0f} s)", err=True)

    thread = threading.Thread(target=tell, daemon=True, name="loading")
    thread.start()
    try:
        yield
    finally:
        _loaded.set()
        thread.join()


def loaded() -> None:
    """From here on others tell how the work goes."""
    _loaded.set()
