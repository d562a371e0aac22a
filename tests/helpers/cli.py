"""The command line, called as a shell calls it."""

from __future__ import annotations

import sys

import pytest

from syndiff import cli


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run `syndiff` with these arguments in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["syndiff", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)
