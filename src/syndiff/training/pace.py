"""How long a training step takes on this machine: a few real steps on made-up slices."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from syndiff.memory import freed_memory
from syndiff.objectives.base import Batch
from syndiff.objectives.methods import method_of
from syndiff.preparation.manifest import Manifest
from syndiff.training.lone_step import StepWithoutTrainer
from syndiff.training.presets import TrainSettings

SMALLEST = 64  # pixels; smaller images do not tell what larger ones take
MOST_STEPS = 50


@dataclass(frozen=True)
class Pace:
    """What was measured.

    Attributes:
        seconds_per_slice: of a step, for each slice of its batch.
        size: rows and columns of the slices that were timed.
        steps: that were timed.
    """

    seconds_per_slice: float
    size: int
    steps: int

    def step_seconds(self, batch_size: int, size: int) -> float:
        """Of a step of so many slices of `size`×`size` pixels, in proportion to the pixels."""
        return self.seconds_per_slice * batch_size * (size / self.size) ** 2


def measure_pace(
    settings: TrainSettings,
    size: int,
    *,
    seconds: float,
    device: torch.device,
    precision: str = "32",
    sources: int = 1,
) -> Pace:
    """Time steps of a batch of one; of a run with two phases, the mean step.

    Where a step at the full size would take longer than there is time, smaller slices are timed.

    Args:
        settings: of the training.
        size: rows and columns of a slice.
        seconds: that the measurement may take, about; the first step at each size, which is
            slower, is not counted.
        device, precision: where and how.
        sources: source modalities.
    """
    lone = _Lone(replace(settings, batch_size=1, accumulate=1), device, precision, sources)
    objective = lone.module.objective
    share = objective.first_phase
    objective.second_phase = 0
    last = _timed(lone, size, seconds if not share else 2 / 3 * seconds)
    if not share:
        return last
    objective.second_phase = None
    first = _timed(lone, last.size, seconds / 3)
    mean = share * first.step_seconds(1, last.size) + (1 - share) * last.seconds_per_slice
    return Pace(mean, last.size, last.steps + first.steps)


def epoch_steps(manifest: Manifest, modalities: Sequence[str], settings: TrainSettings) -> int:
    """Steps of a pass over the training slices of the longer modality."""
    slices = [sum(s.count for s in manifest.scans("train", m)) for m in modalities]
    return max(1, -(-max(slices) // settings.batch_size))


def _timed(lone: _Lone, size: int, seconds: float) -> Pace:
    """The pace of the phase that the objective is in."""
    end = time.monotonic() + seconds
    tried = min(SMALLEST, size)
    first = lone.step(tried)  # allocations and kernels come first
    if first > seconds / 2:
        return Pace(first, tried, 1)
    found = Pace(lone.step(tried), tried, 1)
    left = end - time.monotonic()
    sizes = [size, *(s for s in (256, 128) if s < size)]
    timed = next((s for s in sizes if 3 * found.step_seconds(1, s) < left), tried)
    if timed > tried:
        lone.step(timed)
    taken = [lone.step(timed)]
    while time.monotonic() + taken[-1] < end and len(taken) < MOST_STEPS:
        taken.append(lone.step(timed))
    return Pace(statistics.median(taken), timed, len(taken))


class _Lone:
    """Steps of a training that nobody keeps."""

    def __init__(
        self, settings: TrainSettings, device: torch.device, precision: str, sources: int
    ) -> None:
        with torch.random.fork_rng(), device:
            objective = method_of(settings.objective).build(
                settings.objective, sources, settings.pairing == "paired"
            )
        self.module = StepWithoutTrainer(objective, settings, 1_000_000)
        self.module.place, self.precision, self.sources = device, precision, sources

    def step(self, size: int) -> float:
        """Seconds of one step on noise of that size."""
        device = self.module.place
        draw = torch.Generator().manual_seed(0)
        images = [
            torch.rand((1, c, size, size), generator=draw).mul_(2).sub_(1).to(device)
            for c in (self.sources, 1)
        ]
        mixed = torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")
        _wait(device)
        begun = time.monotonic()
        with freed_memory(kept=True), mixed:
            self.module.training_step(Batch(*images), 0)
        _wait(device)
        return time.monotonic() - begun


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
