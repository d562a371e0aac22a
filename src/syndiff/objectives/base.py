"""What every method gives to training: networks, one forward pass, two sets of losses.

A method is an `Objective`. The training module knows nothing else about it: it calls `generate`
once per step, steps the discriminators on `discriminator_losses`, then the generators on
`generator_losses`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from syndiff.translators import Translator

# (m, o): each modality and the other one. Every loss is a sum over both pairs.
DIRECTIONS = (("source", "target"), ("target", "source"))


@dataclass(frozen=True)
class Batch:
    """Slices of both modalities.

    Attributes:
        source: (b, ca, h, w) in [-1, 1]; ca > 1 with several source modalities,
            0 without any.
        target: (b, cb, h, w) in [-1, 1].
        paired: (b,) bool, whether source and target of sample i show the same slice of the same
            person; otherwise they are unrelated. By default no sample is paired. The mask stays
            in the host's memory, so that a method can branch on it without waiting for the device.
    """

    source: Tensor
    target: Tensor
    paired: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))

    def __post_init__(self) -> None:
        if not len(self.paired):
            object.__setattr__(self, "paired", torch.zeros(len(self.source), dtype=torch.bool))

    def __getitem__(self, modality: str) -> Tensor:
        return {"source": self.source, "target": self.target}[modality]

    def to(self, device: torch.device) -> Batch:
        """The images on a device."""
        source, target = (x.to(device, non_blocking=True) for x in (self.source, self.target))
        return Batch(source, target, self.paired)

    def parts(self, count: int) -> list[Batch]:
        """Split this batch into `count` batches of equal size.

        Raises:
            ValueError: the number of samples is not a multiple of `count`.
        """
        if len(self.source) % count:
            raise ValueError(f"{len(self.source)} samples in {count} parts")
        each = (x.chunk(count) for x in (self.source, self.target, self.paired))
        return [Batch(*part) for part in zip(*each, strict=True)] if count > 1 else [self]

    def acquired(self, modality: str, otherwise: Tensor) -> Tensor:
        """The acquired images of the paired samples and `otherwise` for all other samples.

        Args:
            modality: "source" or "target".
            otherwise: (b, c, h, w).
        """
        if not self.paired.any():
            return otherwise
        paired = self.paired.to(otherwise.device, non_blocking=True)
        return torch.where(paired[:, None, None, None], self[modality], otherwise)


class Draw:
    """The random numbers of one training step, a function of seed and step alone.

    With several processes the numbers are drawn for the global batch and each rank takes its own
    rows, so that the number of processes does not change them.

    Args:
        seed, step: of the run, and the training step.
        device: where the numbers are drawn and kept.
        rank, world: rank of this process, and number of processes.
    """

    def __init__(
        self,
        seed: int,
        step: int,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.step, self.rank, self.world = step, rank, world
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device)
        self.generator.manual_seed((seed * 1_000_003 + step) & 0x7FFF_FFFF_FFFF_FFFF)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal values; the first axis is the batch of this process."""
        whole = (shape[0] * self.world, *shape[1:])
        return self._own_rows(torch.randn(whole, generator=self.generator, device=self.device))

    def integers(self, high: int, size: int) -> Tensor:
        """`size` uniform integers from 0 to `high` - 1."""
        whole = (size * self.world,)
        values = torch.randint(high, whole, generator=self.generator, device=self.device)
        return self._own_rows(values)

    def _own_rows(self, values: Tensor) -> Tensor:
        size = len(values) // self.world
        return values[self.rank * size : (self.rank + 1) * size]


@dataclass
class Fakes:
    """Outputs of the generators in one step, by name and modality.

    The losses of generators and discriminators use the same outputs.

    `detached()` is the view for the discriminators: the same values without a graph.
    """

    values: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> dict[str, Tensor]:
        return self.values.setdefault(name, {})

    def detached(self) -> Fakes:
        return Fakes(
            {
                name: {modality: tensor.detach() for modality, tensor in images.items()}
                for name, images in self.values.items()
            }
        )


class Objective(nn.Module, ABC):
    """A method: generators and discriminators, and the losses that either group minimises.

    Attributes:
        generators: stepped by the generators' optimizer and averaged by EMA.
        discriminators: stepped by the discriminators' optimizer; empty where there are none.
        makes: the target modalities of the method's translators, the requested one first.
        steps_per_epoch: steps of an epoch, set by training; a method may change what it trains
            after some epochs.
        spacing_mm: pixel size, set by training.
        first_phase: share of the run that its first phase takes; 0: the run has one phase.
        second_phase: the step at which the last phase began, part of a checkpoint; None before
            it, which training sets. An objective outside of a run is in its last phase.
        phases: names of both, for messages.
        kept: what a method remembers from step to step, by name; part of a checkpoint.
    """

    generators: nn.ModuleDict
    discriminators: nn.ModuleDict
    makes: tuple[str, ...] = ("target", "source")
    steps_per_epoch: int = 1
    spacing_mm: float = 1.0
    first_phase: float = 0.0
    second_phase: int | None = 0
    phases: tuple[str, ...] = ()
    kept: Mapping[str, Tensor] = MappingProxyType({})

    def is_final(self, step: int) -> bool:
        """Whether the translators after so many steps are what the run is for."""
        return not step or self.in_last_phase(step - 1)

    def in_last_phase(self, step: int) -> bool:
        """Whether this step belongs to the run's last phase."""
        return not self.first_phase or (
            self.second_phase is not None and step >= self.second_phase
        )

    @abstractmethod
    def generate(self, batch: Batch, draw: Draw) -> Fakes:
        """The one forward pass of the generators in a step."""

    @abstractmethod
    def discriminator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        """Named terms whose sum the discriminators minimise; `fakes` are detached."""

    @abstractmethod
    def generator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        """Named terms whose sum the generators minimise; the discriminators are frozen."""

    def at_chance(self) -> dict[str, float]:
        """Adversarial terms of the discriminators, and what they are at chance.

        That is where real and made images look alike to a discriminator. Empty where a method
        has no such terms, or does not say.
        """
        return {}

    @abstractmethod
    def translator(
        self, generators: nn.ModuleDict, to: str, card: Mapping[str, Any]
    ) -> Translator:
        """The translator towards modality `to` ("source" or "target").

        Args:
            generators: this objective's generators or their moving average. They are not copied.
            to: the modality that the translator makes, one of `makes`.
            card: metadata of the translator besides its network (modalities, grid, intensity).
        """
