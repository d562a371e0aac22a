"""Time and memory of calls, interleaved so that other load on the machine affects all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch


@dataclass
class Measured:
    """Time and memory of the repeats of one call.

    Attributes:
        seconds: duration of each repeat.
        peak_bytes: maximum of the GPU's memory that one repeat needed beyond the memory held
            before; 0 on a CPU, whose allocator keeps no record.
        failure: why nothing was measured, e.g. too little memory.
    """

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    failure: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Distance between the quartiles of the repeats; 0 of a single one."""
        if len(self.seconds) < 2:
            return 0.0
        first, _, third = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return third - first


@dataclass(frozen=True)
class Call:
    """A function to be measured, and how often."""

    run: Callable[[], object]
    warmup: int
    repeats: int


def measure(calls: Sequence[Call], device: torch.device) -> list[Measured]:
    """Warm up, then time the calls, interleaved: one repeat of each, then the next.

    Args:
        calls: functions to measure. One that runs out of memory is not called again.
        device: synchronised before and after each repeat.

    Returns:
        The measurements of each call.
    """
    found = [Measured() for _ in calls]
    for warming in (True, False):
        rounds = max((c.warmup if warming else c.repeats for c in calls), default=0)
        for number in range(rounds):
            for call, measured in zip(calls, found, strict=True):
                if number < (call.warmup if warming else call.repeats) and not measured.failure:
                    _once(call, measured, device, keep=not warming)
    return found


def _once(call: Call, measured: Measured, device: torch.device, keep: bool) -> None:
    before = _start(device)
    begun = time.perf_counter()
    try:
        call.run()
        _wait(device)
    except torch.OutOfMemoryError:
        measured.failure = "out of memory"
        torch.cuda.empty_cache()
        return
    if keep:
        measured.seconds.append(time.perf_counter() - begun)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) - before
        measured.peak_bytes = max(measured.peak_bytes, peak)


def _start(device: torch.device) -> int:
    """Bytes held on the device once it is idle."""
    _wait(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    return held_bytes(device)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def held_bytes(device: torch.device) -> int:
    """Bytes that tensors hold on a GPU; 0 for a CPU, whose allocator keeps no record."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
