"""The one LightningModule: alternates the players of any objective on one forward.

Order of a step, as in the official code: discriminators first, then the generators against the
updated discriminators; both see the fakes of the same forward.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from syndiff.objectives.base import Batch, Draw, Objective
from syndiff.training.guard import DivergedError, Guard
from syndiff.training.presets import TrainSettings
from syndiff.training.processes import gathered, pooled_means


class TranslationModule(L.LightningModule):
    """Trains an objective.

    Attributes:
        step: batches seen so far, over all invocations.
        ema: moving average of the generators; the generators themselves if it is switched off.
        sums, counted: of each loss term of this process since `take_means`; on the device.
    """

    def __init__(self, objective: Objective, settings: TrainSettings, total_steps: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.objective, self.settings, self.total_steps = objective, settings, total_steps
        self.step = 0
        self.ema = (
            copy.deepcopy(objective.generators).requires_grad_(False)
            if settings.ema_decay
            else objective.generators
        )
        self.sums: dict[str, Tensor] = {}
        self.counted: dict[str, int] = {}
        self.guard = Guard(("discriminators", "generators"))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        s, players = self.settings, self.objective
        groups = [
            (players.discriminators, s.discriminator_lr),
            (players.generators, s.generator_lr),
        ]
        return [  # as a group, which may be empty: some methods have no discriminators
            torch.optim.Adam(
                [{"params": list(group.parameters())}], lr, betas=s.adam_betas, fused=True
            )
            for group, lr in groups
        ]

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, index: int) -> Batch:
        return batch.to(device)

    def training_step(self, batch: Batch, index: int) -> None:
        discriminators, generators = self._optimizers()
        for optimizer, base in (
            (discriminators, self.settings.discriminator_lr),
            (generators, self.settings.generator_lr),
        ):
            self._set_rate(optimizer, base)
        draw = Draw(
            self.settings.seed, self.step, self.device, self.global_rank, self.trainer.world_size
        )
        fakes = self.objective.generate(batch, draw)

        terms = self.objective.discriminator_losses(batch, fakes.detached(), draw)
        self._descend(discriminators, terms, "discriminators")
        with frozen(self.objective.discriminators):
            terms = self.objective.generator_losses(batch, fakes, draw)
            self._descend(generators, terms, "generators")

        self.step += 1
        self._update_ema()

    def _optimizers(self) -> list[Any]:
        """The discriminators' and the generators', wrapped by Lightning."""
        return list(self.optimizers())

    def _descend(self, optimizer: Any, terms: Mapping[str, Tensor], player: str) -> None:
        """One step of one player on the sum of its terms."""
        if not terms:
            return
        total = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        self.manual_backward(total)
        parameters = getattr(self.objective, player).parameters()
        # A fused optimizer leaves weights and moments alone where this is 1, on the device.
        optimizer.optimizer.found_inf = self.guard.check(player, parameters, self.step)
        optimizer.step()
        stopped = self.guard.stopped_before(self.step)  # only the first bad step's terms tell
        for name, value in terms.items():
            self._count(f"{player}/{name}", torch.where(stopped, 0.0, value.detach()))

    def _count(self, name: str, value: Tensor) -> None:
        """Add to the running sums on the device: reading them is what costs a synchronisation."""
        self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.counted[name] = self.counted.get(name, 0) + 1

    def take_means(self) -> dict[str, float]:
        """Mean of each term since the last call, over all processes; each must call it.

        Raises:
            DivergedError: a term or a gradient was not finite.
        """
        step, players = self.guard.read()
        values = torch.stack([v.float() for v in self.sums.values()]).tolist() if self.sums else []
        sums = dict(zip(self.sums, values, strict=True))
        means = pooled_means(gathered((sums, self.counted)))
        self.sums, self.counted = {}, {}
        bad = [name for name, value in means.items() if not math.isfinite(value)]
        if bad or players:
            gradients = [f"the gradient of the {player}" for player in players]
            raise DivergedError(min(step, self.step), bad or gradients)
        return means

    def rate(self, base: float) -> float:
        """The learning rate at this step: constant, a line to 0, or a cosine to `final_lr`."""
        part = min(1.0, self.step / max(1, self.total_steps))
        if self.settings.linear_decay_epochs:
            falling = min(1.0, self.settings.linear_decay_epochs / self.settings.epochs)
            return base * min(1.0, (1 - part) / falling)
        final = self.settings.final_lr
        if final is None:
            return base
        return final + (base - final) * (1 + math.cos(math.pi * part)) / 2

    def _set_rate(self, optimizer: Any, base: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = self.rate(base)

    @torch.no_grad()
    def _update_ema(self) -> None:
        decay = self.settings.ema_decay
        if not decay:
            return
        if self.settings.ema_warmup:  # otherwise the start's noise would stay for long
            decay = min(decay, (1 + self.step) / (self.settings.ema_warmup + self.step))
        torch._foreach_lerp_(
            list(self.ema.parameters()), list(self.objective.generators.parameters()), 1 - decay
        )

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs to equal an uninterrupted one."""
        optimizers = self._optimizers()
        return {
            "step": self.step,
            "generators": self.objective.generators.state_dict(),
            "discriminators": self.objective.discriminators.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": [o.optimizer.state_dict() for o in optimizers],
        }

    def load_networks(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state` but for the optimizers, which exist only once training starts."""
        self.step = int(state["step"])
        self.objective.generators.load_state_dict(state["generators"])
        self.objective.discriminators.load_state_dict(state["discriminators"])
        self.ema.load_state_dict(state["ema"])

    def load_optimizers(self, state: Mapping[str, Any]) -> None:
        for optimizer, content in zip(self._optimizers(), state["optimizers"], strict=True):
            optimizer.optimizer.load_state_dict(content)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Gradients flow through the module but not into its parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
