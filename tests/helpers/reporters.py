"""Reporters that keep what they are told."""

from __future__ import annotations

from collections.abc import Callable

from syndiff.reporting import Remembering
from syndiff.training.progress import Progress


class Watching(Remembering):
    """Keeps warnings, and hands every reported step on.

    Args:
        on_step: told each state.
    """

    def __init__(self, on_step: Callable[[Progress], object] = lambda state: None) -> None:
        super().__init__()
        self.on_step = on_step

    def step(self, state: Progress) -> None:
        self.on_step(state)
