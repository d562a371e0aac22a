"""The one LightningModule: updates the discriminators and generators of any objective.

Order of a step, as in the official code: the discriminators first, then the generators against
the updated discriminators. Both see the fakes of the same forward pass.

Where memory is short, a batch is processed in parts (`accumulate`), and the generators' blocks
keep only their inputs (`recompute`). The gradients stay the same.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from syndiff.errors import ModelError, OptionError
from syndiff.networks.blocks import recompute_blocks
from syndiff.objectives.base import Batch, Draw, Fakes, Objective
from syndiff.training.guard import DivergedError, Guard
from syndiff.training.leaving import Leaving
from syndiff.training.presets import TrainSettings
from syndiff.training.processes import GradientExchange, gathered, pooled_means

Made = tuple[Batch, Fakes, Draw]  # a part of a batch, and what the generators made of it


class TranslationModule(L.LightningModule):
    """Trains an objective.

    Attributes:
        minutes: of training so far, over all invocations; told after each step.
        step: batches seen so far, over all invocations.
        ema: moving average of the generators; the generators themselves if it is switched off.
        sums, counted: sum and number of the values of each loss term of this process since
            `take_means` was last called; the sums are on the device.
        not_recomputed: generators in which `recompute` saves no memory.

    Raises:
        OptionError: `recompute` is set and no generator has a block that can be recomputed.
    """

    not_recomputed: tuple[str, ...] = ()

    def __init__(self, objective: Objective, settings: TrainSettings, total_steps: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.objective, self.settings, self.total_steps = objective, settings, total_steps
        self.step, self.minutes = 0, 0.0
        objective.second_phase = None if objective.first_phase else 0
        self.ema = (
            copy.deepcopy(objective.generators).requires_grad_(False)
            if settings.ema_decay
            else objective.generators
        )
        if settings.recompute:
            self._recompute()
        self.sums: dict[str, Tensor] = {}
        self.counted: dict[str, int] = {}
        self.guard = Guard(("discriminators", "generators"))
        self.exchange = GradientExchange()
        self.leaving = Leaving()

    def _recompute(self) -> None:
        """Switch on activation checkpointing in the generators.

        Raises:
            OptionError: no generator has a block that can be recomputed.
        """
        blocks = {name: recompute_blocks(g) for name, g in self.objective.generators.items()}
        self.not_recomputed = tuple(name for name, count in blocks.items() if not count)
        if not any(blocks.values()):
            raise OptionError(
                f"`recompute` with {', '.join(blocks)}, none of whose blocks can be recomputed",
                "generators with blocks that derive from Recomputable",
            )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        s, objective = self.settings, self.objective
        groups = [
            (objective.discriminators, s.discriminator_lr),
            (objective.generators, s.generator_lr),
        ]
        return [  # as a group, which may be empty: some methods have no discriminators
            torch.optim.Adam(
                [{"params": list(group.parameters())}], lr, betas=s.adam_betas, fused=True
            )
            for group, lr in groups
        ]

    def on_train_start(self) -> None:
        self.exchange.attach(self.trainer.strategy.model)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, index: int) -> Batch:
        return batch.to(device)

    def training_step(self, batch: Batch, index: int) -> None:
        self._begin_phase()
        self._set_rates()
        discriminators, _ = self._optimizers()
        networks = self.objective.discriminators
        with self.leaving.step(networks, discriminators.optimizer, self.objective):
            self.leaving.begin()
            if self.settings.accumulate == 1:
                self._whole_step(batch)
            else:
                self._accumulated_step(batch)
        if self.leaving.left:
            return
        self.step += 1
        self._update_ema()

    def _whole_step(self, batch: Batch) -> None:
        """Both updates on one forward pass of the generators."""
        discriminators, generators = self._optimizers()
        draw = self._draw()
        made = [(batch, self.objective.generate(batch, draw), draw)]
        self._update(discriminators, "discriminators", self._discriminator_losses(made))
        with frozen(self.objective.discriminators):
            self._update(generators, "generators", self._generator_losses(made))

    def _accumulated_step(self, batch: Batch) -> None:
        """The same gradients with one part of the batch in memory at a time.

        The generators run twice: the graphs of all parts together would not fit in memory.
        """
        discriminators, generators = self._optimizers()
        parts = batch.parts(self.settings.accumulate)
        if len(self.objective.discriminators):
            made = self._made(parts, gradients=False)
            self._update(discriminators, "discriminators", self._discriminator_losses(made))
        made = self._made(parts, gradients=True)
        with frozen(self.objective.discriminators):
            self._update(generators, "generators", self._generator_losses(made))

    def _draw(self, part: int = 0, parts: int = 1) -> Draw:
        """The random numbers of a part: its rows of those of the global batch."""
        rank, world = self.global_rank * parts + part, self.trainer.world_size * parts
        return Draw(self.settings.seed, self.step, self.device, rank, world)

    def _made(self, parts: Sequence[Batch], gradients: bool) -> Iterator[Made]:
        """Each part in order, with its fakes and its random numbers."""
        for number, part in enumerate(parts):
            draw = self._draw(number, len(parts))
            with torch.set_grad_enabled(gradients):
                fakes = self.objective.generate(part, draw)
            yield part, fakes, draw

    def _discriminator_losses(self, made: Iterable[Made]) -> Iterator[dict[str, Tensor]]:
        for part, fakes, draw in made:
            yield self.objective.discriminator_losses(part, fakes.detached(), draw)

    def _generator_losses(self, made: Iterable[Made]) -> Iterator[dict[str, Tensor]]:
        for part, fakes, draw in made:
            yield self.objective.generator_losses(part, fakes, draw)

    def _optimizers(self) -> list[Any]:
        """The optimizers of the discriminators and of the generators, wrapped by Lightning."""
        return list(self.optimizers())

    def _update(self, optimizer: Any, group: str, losses: Iterable[Mapping[str, Tensor]]) -> None:
        """One step of an optimizer on the sum of its loss terms.

        Args:
            optimizer: optimizer of the group.
            group: "discriminators" or "generators".
            losses: the terms of each part of the batch; the step takes their mean.
        """
        optimizer.zero_grad(set_to_none=True)
        parameters = list(getattr(self.objective, group).parameters())
        found: list[dict[str, Tensor]] = []
        parts = self.settings.accumulate
        with self.exchange.only(parameters):
            for number, terms in enumerate(losses, start=1):
                if not terms:
                    return
                with self._exchanging(number == parts):
                    self.manual_backward(torch.stack(list(terms.values())).sum() / parts)
                found.append({name: value.detach() for name, value in terms.items()})
        if group == "generators":
            self.leaving.no_more()
        # A fused optimizer skips its step, on the device, where `found_inf` is 1.
        optimizer.optimizer.found_inf = self.guard.check(group, parameters, self.step)
        optimizer.step()
        self._count_terms(group, found)

    def _count_terms(self, group: str, found: Iterable[Mapping[str, Tensor]]) -> None:
        """Add loss terms to the running sums, up to the first step that was not finite."""
        stopped = self.guard.stopped_before(self.step)
        for terms in found:
            for name, value in terms.items():
                self._count(f"{group}/{name}", torch.where(stopped, 0.0, value))

    def _exchanging(self, last: bool) -> AbstractContextManager[Any]:
        """Several processes exchange gradients once per update, after the last part."""
        if last or self.trainer.world_size == 1:
            return nullcontext()
        return self.trainer.strategy.block_backward_sync()  # type: ignore[attr-defined]

    def _count(self, name: str, value: Tensor) -> None:
        """Add to the running sums on the device; only reading them synchronises."""
        self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.counted[name] = self.counted.get(name, 0) + 1

    def take_means(self) -> dict[str, float]:
        """Mean of each term since the last call, over all processes. Every process must call it.

        Raises:
            DivergedError: a term or a gradient was not finite.
        """
        step, groups = self.guard.read()
        values = torch.stack([v.float() for v in self.sums.values()]).tolist() if self.sums else []
        sums = dict(zip(self.sums, values, strict=True))
        means = pooled_means(gathered((sums, self.counted)))
        self.sums, self.counted = {}, {}
        bad = [name for name, value in means.items() if not math.isfinite(value)]
        if bad or groups:
            gradients = [f"the gradient of the {group}" for group in groups]
            raise DivergedError(min(step, self.step), bad or gradients)
        return means

    def rate(self, base: float) -> float:
        """The learning rate at this step: constant, a line to 0, or a cosine to `final_lr`.

        Each phase of a run has a cosine of its own.
        """
        part = self._progress()
        if self.settings.linear_decay_epochs:
            falling = min(1.0, self.settings.linear_decay_epochs / self.settings.epochs)
            return base * min(1.0, (1 - part) / falling)
        final, first = self.settings.final_lr, self.objective.first_phase
        if final is None:
            return base
        if first:
            last = self.objective.in_last_phase(self.step)
            part = max(0.0, part - first) / (1 - first) if last else part / first
        return final + (base - final) * (1 + math.cos(math.pi * part)) / 2

    def _progress(self) -> float:
        """The share of the run that has passed, by steps, or by minutes where they end it."""
        part = self.step / max(1, self.total_steps)
        if self.settings.decay_minutes:
            part = max(part, self.minutes / self.settings.decay_minutes)
        return min(1.0, part)

    def _begin_phase(self) -> None:
        """Note the step at which the second phase begins."""
        objective = self.objective
        if objective.second_phase is None and self._progress() >= objective.first_phase:
            objective.second_phase = self.step

    def _set_rates(self) -> None:
        bases = self.settings.discriminator_lr, self.settings.generator_lr
        for optimizer, base in zip(self._optimizers(), bases, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = self.rate(base)

    @torch.no_grad()
    def _update_ema(self) -> None:
        decay = self.settings.ema_decay
        if not decay:
            return
        if self.settings.ema_warmup:  # else a phase's first weights would dominate the average
            step = self.step - (self.objective.second_phase or 0)
            decay = min(decay, (1 + step) / (self.settings.ema_warmup + step))
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
            "second_phase": self.objective.second_phase,
            "kept": dict(self.objective.kept),
            "optimizers": [o.optimizer.state_dict() for o in optimizers],
        }

    def load_networks(self, state: Mapping[str, Any]) -> None:
        """Load the networks of `state`. The optimizers exist only once training starts.

        Raises:
            ModelError: the state holds networks of another structure.
        """
        self.step = int(state["step"])
        try:
            self.objective.generators.load_state_dict(state["generators"])
            self.objective.discriminators.load_state_dict(state["discriminators"])
            self.ema.load_state_dict(state["ema"])
            self.objective.second_phase = state.get("second_phase", 0)
            self.objective.kept = {k: v.to(self.device) for k, v in state.get("kept", {}).items()}
        except RuntimeError as error:
            raise ModelError(
                f"the checkpoint at step {self.step} holds other networks than this run's",
                remedy="continue from the run's own checkpoint, or start a new run",
            ) from error

    def load_optimizers(self, state: Mapping[str, Any]) -> None:
        """Load the optimizers of `state`.

        Raises:
            ModelError: the state holds other optimizers.
        """
        try:
            for optimizer, content in zip(self._optimizers(), state["optimizers"], strict=True):
                optimizer.optimizer.load_state_dict(content)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(
                "the checkpoint holds other optimizers than this run's",
                remedy="continue from the run's own checkpoint, or start a new run",
            ) from error


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Gradients flow through the module but not into its parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
