"""The minutes that a run was given: validation, saving and export lie within them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MARGIN = 1.15  # a machine is slower now and then
FOLLOW = 0.2  # how fast the mean duration of a step follows what is measured


class Budget:
    """How long the parts of a run take, and whether there is time for another step.

    Args:
        seconds: given; None for no limit.
        begun: when they began, by the clock.
        clock: seconds.

    Attributes:
        durations: seconds of a "step", "validating", "saving", "exporting", as far as known.
    """

    def __init__(
        self,
        seconds: float | None,
        begun: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds, self.clock = seconds, clock
        self.begun = clock() if begun is None else begun
        self.durations: dict[str, float] = {}
        self._mark = clock()

    @property
    def elapsed(self) -> float:
        return self.clock() - self.begun

    @property
    def left(self) -> float:
        """Seconds that are left, perhaps below 0; infinite without a limit."""
        return float("inf") if self.seconds is None else self.seconds - self.elapsed

    @property
    def closing(self) -> float:
        """What the end of the run takes: the last validation, saving, export."""
        parts = ("validating", "saving", "exporting")
        return MARGIN * sum(self.durations.get(part, 0.0) for part in parts)

    def over(self) -> bool:
        """Whether another step would leave too little for the end."""
        return self.left < MARGIN * self.durations.get("step", 0.0) + self.closing

    def can_validate(self) -> bool:
        """Whether a last validation fits."""
        return self.left >= self.durations.get("validating", 0.0)

    def pause(self) -> None:
        """What was done since the last step is not part of the next one."""
        self._mark = self.clock()

    def step(self) -> None:
        """A step is done."""
        now = self.clock()
        taken, known = now - self._mark, self.durations.get("step")
        self.durations["step"] = taken if known is None else known + FOLLOW * (taken - known)
        self._mark = now

    def expect(self, part: str, seconds: float) -> None:
        """A part of the end will take so long; what is measured later replaces it."""
        self.durations.setdefault(part, seconds)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Measure a part."""
        begun = self.clock()
        try:
            yield
        finally:
            self.durations[part] = self.clock() - begun
            self.pause()

    def remaining(self, steps: int, validations: int) -> float:
        """Seconds until a run with so much left to do is at its end, or out of time."""
        each = sum(self.durations.get(part, 0.0) for part in ("validating", "saving"))
        work = steps * self.durations.get("step", 0.0) + validations * each
        return max(0.0, min(work + self.durations.get("exporting", 0.0), self.left))
