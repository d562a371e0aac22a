"""What long work tells whoever waits for it: phases, progress, warnings.

Every function that works for long takes `report: Reporter = SILENT`. The command line, a service
or a notebook brings its own reporter. Results never travel this way; they are returned.
"""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Told what is going on; its methods return at once and never raise."""

    def phase(self, name: str) -> None:
        """A new part of the work begins: "reading", "registering", "translating"."""

    def progress(self, done: int, total: int, detail: str = "") -> None:
        """`done` of `total` units of this phase are finished; `detail` names the present one."""

    def warn(self, message: str) -> None:
        """Something may spoil the result; one line, in words."""


class Silent:
    """A reporter that nobody listens to."""

    def phase(self, name: str) -> None:
        pass

    def progress(self, done: int, total: int, detail: str = "") -> None:
        pass

    def warn(self, message: str) -> None:
        pass


SILENT = Silent()


class Remembering:
    """Keeps the warnings and passes everything on.

    Attributes:
        warnings: every warning so far, in order.
    """

    def __init__(self, report: Reporter = SILENT) -> None:
        self.warnings: list[str] = []
        self._report = report

    def phase(self, name: str) -> None:
        self._report.phase(name)

    def progress(self, done: int, total: int, detail: str = "") -> None:
        self._report.progress(done, total, detail)

    def warn(self, message: str) -> None:
        self.warnings.append(message)
        self._report.warn(message)
