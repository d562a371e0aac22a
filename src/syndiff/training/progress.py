"""What a run reports to the user while it trains."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol, cast

from syndiff.evaluation.baselines import BASELINES as SHOWN
from syndiff.reporting import Reporter


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        step, total: batches seen, and when training ends.
        losses: mean of each term since the last report, by "generators/…" or "discriminators/…".
        scores: of the last validation, by "T1_to_T2/psnr_db" …
        seconds_left: estimated, validations and export included; None before there is an
            estimate.
        balance: in a word, whether discriminators and generators learn from each other.
    """

    step: int
    total: int
    losses: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    seconds_left: float | None = None
    balance: str = ""

    def line(self) -> str:
        """Losses of both groups of networks, the last scores of each direction, the time left."""
        groups = {"D": "discriminators/", "G": "generators/"} if self.losses else {}
        parts = [
            f"{letter} {sum(v for k, v in self.losses.items() if k.startswith(prefix)):.2f}"
            for letter, prefix in groups.items()
        ]
        if self.balance:
            parts.append(self.balance)
        for direction in dict.fromkeys(name.partition("/")[0] for name in self.scores):
            psnr = self.scores.get(f"{direction}/psnr_db")
            offset = self.scores.get(f"{direction}/source_offset_px", math.nan)
            beside = [
                f"{name} {self.scores[key]:.2f}"
                for name in SHOWN
                if (key := f"{direction}/{name}_psnr_db") in self.scores
            ]
            known = f" ({', '.join(beside)})" if beside else ""
            parts.append(direction if psnr is None else f"{direction} {psnr:.2f} dB{known}")
            parts.append(f"offset {offset:.2f} px" if math.isfinite(offset) else "offset unknown")
        if self.seconds_left is not None:
            minutes, seconds = divmod(round(self.seconds_left), 60)
            parts.append(f"{minutes}:{seconds:02d} left")
        return "  ".join(parts)


class TrainingReporter(Reporter, Protocol):
    """A reporter that can show more of a run than a count."""

    def step(self, state: Progress) -> None:
        """Called every few steps."""


class _Counting:
    """Adapts a plain reporter: a training step is reported as progress of its phase."""

    def __init__(self, report: Reporter) -> None:
        self.phase, self.progress, self.warn = report.phase, report.progress, report.warn

    def step(self, state: Progress) -> None:
        self.progress(state.step, state.total, state.line())


def for_training(report: Reporter) -> TrainingReporter:
    """The reporter itself if it has `step`, else an adapter that reports steps as progress."""
    return cast(TrainingReporter, report) if hasattr(report, "step") else _Counting(report)
