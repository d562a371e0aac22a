"""A training step by itself: what is measured before there is a run, and in benchmarks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from syndiff.training.module import TranslationModule


class OptimizerHandle:
    """An optimizer as Lightning hands it to the module."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer, self.param_groups = optimizer, optimizer.param_groups
        self.zero_grad, self.step = optimizer.zero_grad, optimizer.step


class StepWithoutTrainer(TranslationModule):
    """The training module's own step, without a Trainer and a DataLoader around it."""

    trainer = SimpleNamespace(world_size=1)  # type: ignore[assignment]
    place = torch.device("cpu")

    @property
    def device(self) -> torch.device:
        return self.place

    def _optimizers(self) -> list[Any]:
        if not hasattr(self, "handles"):
            self.handles = [
                OptimizerHandle(optimizer) for optimizer in self.configure_optimizers()
            ]
        return self.handles

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        loss.backward()
