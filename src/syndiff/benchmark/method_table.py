"""The methods compared: parameters and operations of a translation, counted, not run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from syndiff.benchmark.counting import count
from syndiff.benchmark.workloads import BenchmarkSetup, OurTranslation
from syndiff.objectives.method import Method
from syndiff.objectives.methods import METHODS
from syndiff.training.presets import preset
from syndiff.translators.small_steps import ChainTranslator

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Line:
    """One line of `syndiff methods`.

    Attributes:
        method: the method.
        parameters: weights of all networks that are trained.
        translator_parameters: weights of the networks that a translation needs.
        gflop: floating-point operations of one translated slice, in 10⁹.
        sampling_steps: reverse steps of a translation; 0 where there is no chain.
    """

    method: Method
    parameters: int
    translator_parameters: int
    gflop: float
    sampling_steps: int


def describe_methods(name: str = "paper", size: int = 256) -> list[Line]:
    """Every method with a preset's networks, for slices of size × size pixels."""
    return [_describe(method, name, size) for method in METHODS.values()]


class _OneStep(OurTranslation):
    """A translation whose chain, where it can be respaced, is cut to one step."""

    def __init__(self, setup: BenchmarkSetup, device: Any) -> None:
        super().__init__(setup, device)
        self.steps, self.counted_steps = self.translator.sampling_steps, 0
        if isinstance(self.translator, ChainTranslator):
            self.counted_steps = 1


def _describe(method: Method, name: str, size: int) -> Line:
    setup = BenchmarkSetup(method.name, preset(name, method.name), size, 1, "32")
    built: list[_OneStep] = []

    def build() -> _OneStep:
        built.append(_OneStep(setup, CPU))
        return built[0]

    (counts,) = count(build, [0], warm=False)
    workload = built[0]
    return Line(
        method,
        _parameters(setup.objective(torch.device("meta"))),
        _parameters(workload.translator),
        counts.flop
        * (workload.steps / workload.counted_steps if workload.counted_steps else 1)
        / 1e9,
        workload.steps,
    )


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
