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
    """The training module's own step, without a Trainer and a DataLoader around it.

    It belongs to the run's last phase, unless `objective.second_phase` is set to None.
    """

    trainer = SimpleNamespace(world_size=1)  # type: ignore[assignment]
    place = torch.device("cpu")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.objective.second_phase = 0

    def _begin_phase(self) -> None:
        """Steps alone have no run that could pass on to another phase."""

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
