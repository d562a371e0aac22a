"""How long-running functions report phases, progress and warnings.

Every long-running function takes `report: Reporter = SILENT`. The command line, a service or a
notebook passes its own reporter. Results are returned, never reported.
"""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Receives reports of long-running work. Its methods return at once and never raise."""

    def phase(self, name: str) -> None:
        """A new part of the work begins: "reading", "registering", "translating"."""

    def progress(self, done: int, total: int, detail: str = "") -> None:
        """`done` of `total` units of this phase are finished; `detail` names the current one."""

    def warn(self, message: str) -> None:
        """Something may spoil the result; `message` is one line of text."""


class Silent:
    """A reporter that discards everything."""

    def phase(self, name: str) -> None:
        pass

    def progress(self, done: int, total: int, detail: str = "") -> None:
        pass

    def warn(self, message: str) -> None:
        pass


SILENT = Silent()


class Remembering:
    """A reporter that keeps the warnings and forwards everything to another reporter.

    Args:
        report: the other reporter.

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
