"""Supervised training of a one-pass translator on pairs that are drawn from virtual heads.

Nothing is stored but tissues: each step renders new slices. A run can be stopped at any time and
goes on from its last checkpoint; which slices a step draws follows from the seed and the step. The
learning rate follows the clock, and warms up anew after a stop: a run that went on is not the same
bit for bit as one that was never stopped.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from syndiff.phantom.head_slices import Head, draw_pair

Say = Callable[[str], None]
Draw = Callable[[np.random.Generator, Sequence[Head], int], tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class VirtualTraining:
    """How a run is trained.

    Attributes:
        minutes: from the run's beginning (not counting what is resumed) to its last step.
        decay_from: share of `minutes` after which the learning rate falls to nothing.
        average: decay of the moving average of weights, a step.
        structure: weight of 1 − SSIM beside the mean absolute difference.
        bright: of each target, the value in [0, 1] above which differences count three times
            (lesions in FLAIR, of which there are few); 1 where there is no such value.
        checkpoint_minutes: between checkpoints.
    """

    minutes: float
    seed: int = 0
    batch_size: int = 4
    size: int = 128
    learning_rate: float = 2e-3
    decay_from: float = 0.5
    average: float = 0.999
    structure: float = 0.1
    bright: tuple[float, ...] = (1.0,)
    checkpoint_minutes: float = 4.0
    mixed: bool = True


def train(
    network: nn.Module,
    heads: Sequence[Head],
    out: Path,
    how: VirtualTraining,
    *,
    resume: Path | None = None,
    draw: Draw = draw_pair,
    say: Say = print,
) -> None:
    """Train a network and keep `last.pt` (everything) and `average.pt` (weights) in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    mean = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.Adam(network.parameters(), how.learning_rate, betas=(0.9, 0.99))
    step, spent = 0, 0.0
    if resume is not None:
        state = torch.load(resume, weights_only=True)
        network.load_state_dict(state["network"])
        mean.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
        spent = state["minutes"] if resume.parent == out else 0.0
    begun = time.monotonic() - 60 * spent
    first, running, saved = step, float("nan"), spent
    while (minutes := (time.monotonic() - begun) / 60) < how.minutes:
        rate = _rate(how, minutes / how.minutes, step - first)
        for group in optimizer.param_groups:
            group["lr"] = rate
        source, target = _batch(how, heads, step, draw)
        with torch.autocast("cpu", torch.bfloat16, enabled=how.mixed):
            made = network(source)
        loss = loss_of(made.float(), target, how.structure, how.bright)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        _average(mean, network, min(how.average, step / (step + 20)))
        value = float(loss.detach())
        running = value if math.isnan(running) else 0.99 * running + 0.01 * value
        if step % 100 == 0:
            say(f"step {step} minutes {minutes:.1f} rate {rate:.1e} loss {running:.5f}")
        if minutes - saved > how.checkpoint_minutes:
            _save(out, network, mean, optimizer, step, minutes)
            saved = minutes
    _save(out, network, mean, optimizer, step, how.minutes)


def loss_of(
    made: Tensor, target: Tensor, structure: float, bright: Sequence[float] = (1.0,)
) -> Tensor:
    """Mean absolute difference, air counting a quarter, plus the weighted 1 − SSIM."""
    weight = torch.where(target > -0.98, 1.0, 0.25)
    limits = torch.tensor(bright).view(1, -1, 1, 1) * 2 - 1
    weight = torch.where(target > limits, 3.0, weight)
    difference = ((made - target).abs() * weight).mean()
    return difference + structure * (1 - _ssim(made, target))


def _ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean SSIM over windows of 7×7 with a range of 1.5 of the 2 of the images."""

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 7, 1)

    a, b = a + 1, b + 1
    c1, c2 = (0.01 * 1.5) ** 2, (0.03 * 1.5) ** 2
    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    numerator = (2 * ma * mb + c1) * (2 * cov + c2)
    return (numerator / ((ma * ma + mb * mb + c1) * (va + vb + c2))).mean()


def _rate(how: VirtualTraining, part: float, step: int) -> float:
    """The learning rate: a short rise, then constant, then half a cosine down."""
    rise = min(1.0, (step + 1) / 200)
    fall = max(0.0, (part - how.decay_from) / max(1e-6, 1 - how.decay_from))
    return how.learning_rate * rise * (0.5 * (1 + math.cos(math.pi * min(1.0, fall))) + 0.005)


def _batch(
    how: VirtualTraining, heads: Sequence[Head], step: int, draw: Draw
) -> tuple[Tensor, Tensor]:
    """Sources (b, 1, h, w) and targets (b, t, h, w) of one step, in [-1, 1]."""
    rng = np.random.default_rng((how.seed, step))
    pairs = [draw(rng, heads, how.size) for _ in range(how.batch_size)]
    both = torch.from_numpy(np.array(pairs, dtype=np.float32)) * 2 - 1  # b 1+t h w
    source, target = both[:, :1], both[:, 1:]
    return source.contiguous(memory_format=torch.channels_last), target.contiguous()


@torch.no_grad()
def _average(mean: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the averaged weights and statistics towards the network's."""
    pairs = [
        (a, b)
        for a, b in zip(mean.state_dict().values(), network.state_dict().values(), strict=True)
        if a.is_floating_point()
    ]
    torch._foreach_lerp_([a for a, _ in pairs], [b for _, b in pairs], 1 - decay)


def _save(
    out: Path,
    network: nn.Module,
    mean: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    minutes: float,
) -> None:
    """Write the run's state, whole or not at all."""
    state = {
        "network": network.state_dict(), "average": mean.state_dict(),
        "optimizer": optimizer.state_dict(), "step": step, "minutes": minutes,
    }  # fmt: skip
    for name, content in (("last.pt", state), ("average.pt", mean.state_dict())):
        temporary = out / f".{name}"
        torch.save(content, temporary)
        temporary.replace(out / name)
