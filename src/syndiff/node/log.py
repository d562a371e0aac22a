"""The node's log: one line with the time for each thing that happens, and no identifiers."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from syndiff.errors import one_line

Write = Callable[[str], None]


class Log:
    """Writes lines; several threads may call it.

    Args:
        write: takes a line, without its end.
        only_warnings: say nothing of what goes well.
    """

    def __init__(self, write: Write, only_warnings: bool = False) -> None:
        self._write, self._only_warnings = write, only_warnings
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """What went well."""
        if not self._only_warnings:
            self._line(text)

    def warn(self, text: str) -> None:
        """What somebody should look at."""
        self._line(f"warning: {text}")

    def _line(self, text: str) -> None:
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        with self._lock, suppress(OSError, ValueError):  # nobody reads any more: work goes on
            self._write(f"{now} {one_line(text)}")


class Study:
    """A reporter for the work on one study: its warnings go to the log, each once."""

    def __init__(self, log: Log, key: str) -> None:
        self._log, self._key = log, key
        self._said: set[str] = set()

    def phase(self, name: str) -> None:
        pass

    def progress(self, done: int, total: int, detail: str = "") -> None:
        pass

    def warn(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            self._log.warn(f"study {self._key}: {message}")


def silence_libraries() -> None:
    """No words of pynetdicom and pydicom: they quote tags, which may name a patient."""
    for name in ("pynetdicom", "pydicom"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False
    warnings.filterwarnings("ignore", module=r"(pynetdicom|pydicom)(\..*)?")
