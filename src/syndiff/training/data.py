"""Batches of slices, each a function of the seed and the step alone.

Samples are counted over the whole run: step s of batch size b shows the positions s·b … s·b + b-1.
A position says what is shown there, so a run that resumes at step s sees the very batches that an
uninterrupted one sees, without any stored state.

unpaired  source and target each in their own order: position p of one is in its pass p // n over
          its n slices, and every pass has its own permutation
paired    one such order over the paired slices; source and target are the same slice. Without
          source modalities the target's slices are drawn so, and a source has no channels
mixed     a pass over the paired slices and the longer side of the unpaired ones, in one order
          that says of each position which of the two it shows
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from syndiff.objectives.base import Batch
from syndiff.preparation.manifest import Manifest
from syndiff.training.slices import Slices, sound_slices
from syndiff.training.subjects import lone_scans, mixed_scans, paired_scans, training_scans

PAIRINGS = ("unpaired", "paired", "mixed")
MAX_SHIFT = 3  # pixels, of the augmentation
# What a random number is for; the unpaired source and target are 0 and 1.
PAIRED, MIXED = 2, 3
ORDER, AUGMENT = 0, 1


@dataclass(frozen=True)
class Sample:
    """What one position shows.

    Attributes:
        source: (ca, h, w) in [0, 1].
        target: (1, h, w) in [0, 1].
        names: subject, modality and slice of either, or of both at once.
        paired: source and target are one slice of one person.
    """

    source: NDArray[np.float32]
    target: NDArray[np.float32]
    names: tuple[str, ...]
    paired: bool


class Batches(Dataset, ABC):
    """Item `step` is the batch of that step.

    Args:
        batch_size: of this process.
        seed: of order and augmentation.
        augment: mirror and shift at random.
        rank, world: this process and their number; each takes its rows of the global batch.
    """

    def __init__(
        self, batch_size: int, seed: int, augment: bool, rank: int = 0, world: int = 1
    ) -> None:
        self.batch_size, self.seed, self.augment = batch_size, seed, augment
        self.rank, self.world = rank, world

    @property
    @abstractmethod
    def positions(self) -> int:
        """Positions in a pass over the slices."""

    @property
    @abstractmethod
    def parts(self) -> tuple[Slices, ...]:
        """All slices that are drawn from."""

    @abstractmethod
    def sample(self, position: int) -> Sample:
        """What a position shows."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps in a pass."""
        return max(1, -(-self.positions // (self.batch_size * self.world)))

    def __getitem__(self, step: int) -> Batch:
        first = step * self.batch_size * self.world + self.rank * self.batch_size
        samples = [self.sample(first + i) for i in range(self.batch_size)]
        return Batch(
            _tensor([sample.source for sample in samples]),
            _tensor([sample.target for sample in samples]),
            torch.tensor([sample.paired for sample in samples]),
        )

    def record(self) -> dict[str, int]:
        """How many subjects and slices there are to draw from, and how many were skipped."""
        return {
            "training_subjects": len({s for part in self.parts for s in part.subjects}),
            "slices": sum(len(part) for part in self.parts),
            "slices_skipped": sum(part.skipped for part in self.parts),
        }

    def names(self, step: int) -> list[str]:
        """The slices of the global batch of a step, in order."""
        total = self.batch_size * self.world
        return [n for i in range(total) for n in self.sample(step * total + i).names]

    def permuted(self, key: int, position: int, count: int) -> int:
        """Which of `count` things a position shows, if every pass shows each once."""
        epoch, place = divmod(position, count)
        order = np.random.default_rng([self.seed, key, ORDER, epoch]).permutation(count)
        return int(order[place])

    def augmented(
        self, image: NDArray[np.float32], key: int, position: int
    ) -> NDArray[np.float32]:
        """Mirror left and right and shift by a few pixels, all channels alike; (c, h, w)."""
        if not self.augment:
            return image
        rng = np.random.default_rng([self.seed, key, AUGMENT, position])
        if rng.random() < 0.5:
            image = image[:, :, ::-1]
        return shift(image, *rng.integers(-MAX_SHIFT, MAX_SHIFT + 1, size=2).tolist())


class UnpairedBatches(Batches):
    """Source and target are drawn independently.

    Args:
        source, target: the slices of either.
        others: see `Batches`.
    """

    def __init__(
        self,
        source: Slices,
        target: Slices,
        batch_size: int,
        seed: int,
        augment: bool,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(batch_size, seed, augment, rank, world)
        self.sides = (source, target)

    @property
    def positions(self) -> int:
        """The slices of the longer side."""
        return max(len(slices) for slices in self.sides)

    @property
    def parts(self) -> tuple[Slices, ...]:
        return self.sides

    def sample(self, position: int) -> Sample:
        images, names = [], []
        for key, slices in enumerate(self.sides):
            index = self.permuted(key, position, len(slices))
            images.append(self.augmented(slices[index], key, position))
            names.append(slices.name(index))
        return Sample(images[0], images[1], tuple(names), paired=False)


class PairedBatches(Batches):
    """Source and target are one slice of one person, moved alike.

    Args:
        slices: the sources' channels and, last, the target's.
        others: see `Batches`.
    """

    def __init__(
        self,
        slices: Slices,
        batch_size: int,
        seed: int,
        augment: bool,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(batch_size, seed, augment, rank, world)
        self.slices = slices

    @property
    def positions(self) -> int:
        return len(self.slices)

    @property
    def parts(self) -> tuple[Slices, ...]:
        return (self.slices,)

    def sample(self, position: int) -> Sample:
        index = self.permuted(PAIRED, position, len(self.slices))
        image = self.augmented(self.slices[index], PAIRED, position)  # ca+1 h w
        return Sample(image[:-1], image[-1:], (self.slices.name(index),), paired=True)


class MixedBatches(Batches):
    """Paired and unpaired samples in proportion to their numbers."""

    def __init__(self, unpaired: UnpairedBatches, paired: PairedBatches) -> None:
        u = unpaired
        super().__init__(u.batch_size, u.seed, u.augment, u.rank, u.world)
        self.unpaired, self.paired = unpaired, paired

    @property
    def positions(self) -> int:
        return self.paired.positions + self.unpaired.positions

    @property
    def parts(self) -> tuple[Slices, ...]:
        return self.unpaired.parts + self.paired.parts

    def sample(self, position: int) -> Sample:
        pairs = self.paired.positions
        drawn, epoch = self.permuted(MIXED, position, self.positions), position // self.positions
        if drawn < pairs:
            return self.paired.sample(epoch * pairs + drawn)
        return self.unpaired.sample(epoch * self.unpaired.positions + drawn - pairs)


def training_batches(
    manifest: Manifest,
    sources: Sequence[str],
    target: str,
    *,
    pairing: str,
    shared: bool,
    batch_size: int,
    seed: int,
    augment: bool,
    rank: int = 0,
    world: int = 1,
    warn: Callable[[str], None] = lambda message: None,
) -> Batches:
    """The batches of a run.

    Args:
        manifest: of the prepared data.
        sources, target: modalities; without sources only the target is drawn.
        pairing: "unpaired", "paired" or "mixed".
        shared: every unpaired subject serves both sides.
        batch_size, seed, augment, rank, world: see `Batches`.
        warn: told, in words, what may spoil the result.

    Raises:
        DataError: the data do not hold what the pairing needs.
    """
    drawing = (batch_size, seed, augment, rank, world)
    if not sources:
        return PairedBatches(sound_slices(lone_scans(manifest, target), warn), *drawing)
    if pairing == "paired":
        pairs = paired_scans(manifest, sources, target, warn)
        return PairedBatches(sound_slices(pairs, warn), *drawing)
    if pairing == "mixed":
        sides, pairs = mixed_scans(manifest, sources, target, shared, warn)
    else:
        sides, pairs = training_scans(manifest, sources, target, shared, warn), []
    source_slices, target_slices = (sound_slices(side, warn) for side in sides)
    unpaired = UnpairedBatches(source_slices, target_slices, *drawing)
    if not pairs:
        return unpaired
    return MixedBatches(unpaired, PairedBatches(sound_slices(pairs, warn), *drawing))


def _tensor(images: Sequence[NDArray[np.float32]]) -> Tensor:
    """(b, c, h, w) in [-1, 1]."""
    return torch.from_numpy(np.stack(images) * np.float32(2) - np.float32(1))


def shift(image: NDArray[np.float32], dy: int, dx: int) -> NDArray[np.float32]:
    """Move an image by whole pixels, air (0) coming in from outside; (…, h, w)."""
    h, w = image.shape[-2:]
    moved = np.zeros_like(image)
    moved[..., max(dy, 0) : h + min(dy, 0), max(dx, 0) : w + min(dx, 0)] = image[
        ..., max(-dy, 0) : h + min(-dy, 0), max(-dx, 0) : w + min(-dx, 0)
    ]
    return moved


class Steps(Sampler):
    """The step indices of this invocation, from where the run stands to its end."""

    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop = start, stop

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.stop))

    def __len__(self) -> int:
        return max(0, self.stop - self.start)
