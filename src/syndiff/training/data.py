"""Batches of slices, each a function of the seed and the step alone.

Samples are counted over the whole run: step s of batch size b shows the positions s·b … s·b + b-1.
The position alone determines the sample, so a run that resumes at step s sees the same batches as
an uninterrupted run, without any stored state.

unpaired  source and target each in their own order: position p of one is in its pass p // n over
          its n slices, and every pass has its own permutation
paired    one such order over the paired slices; source and target are the same slice. Without
          source modalities the target's slices are drawn so, and a source has no channels
mixed     a pass over the paired slices and the longer side of the unpaired ones, in one order
          that says of each position which of the two it shows
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from syndiff.objectives.base import Batch
from syndiff.preparation.manifest import Manifest
from syndiff.reporting import SILENT, Reporter
from syndiff.training.slice_files import Slices, sound_slices
from syndiff.training.subjects import lone_scans, mixed_scans, paired_scans, training_scans
from syndiff.training.views import SliceStore, View

PAIRINGS = ("unpaired", "paired", "mixed", "aligned")
MAX_SHIFT = 3  # pixels, of the augmentation
# Keys of the random streams; the unpaired source and target have the keys 0 and 1.
PAIRED, MIXED = 2, 3
ORDER, AUGMENT = 0, 1


@dataclass(frozen=True)
class Sample:
    """The sample at one position.

    Attributes:
        views: views of source and target, or one view of both if `paired`.
        names: subject, modality and slice of each view.
        paired: whether source and target are the same slice of the same person.
    """

    views: tuple[View, ...]
    names: tuple[str, ...]
    paired: bool


class Batches(Dataset, ABC):
    """A data set whose item `step` is the batch of that step.

    Args:
        batch_size: samples per batch of this process.
        seed: seed of order and augmentation.
        augment: mirror and shift at random.
        rank, world: rank of this process and number of processes; each rank takes its rows of the
            global batch.
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
    def stores(self) -> tuple[SliceStore, ...]:
        """All slices from which samples are drawn."""

    @abstractmethod
    def sample(self, position: int) -> Sample:
        """The sample at a position."""

    @abstractmethod
    def show(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        """Source and target of the samples, (b, ca, h, w) and (b, 1, h, w) in [-1, 1]."""

    def keep_on(self, device: torch.device, room: int) -> bool:
        """Keep all slices on a device from now on, if they fit into `room` bytes.

        The batches stay the same. A GPU then waits neither for files nor for transfers. A CPU
        gains nothing, because the operating system caches files that were read.

        Returns:
            Whether the slices are kept.
        """
        fits = sum(store.bytes for store in self.stores) <= room
        if fits:
            for store in self.stores:
                store.keep(device)
        return fits

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, a pass over the slices."""
        return max(1, -(-self.positions // (self.batch_size * self.world)))

    def __getitem__(self, step: int) -> Batch:
        first = step * self.batch_size * self.world + self.rank * self.batch_size
        samples = [self.sample(first + i) for i in range(self.batch_size)]
        source, target = self.show(samples)
        return Batch(source, target, torch.tensor([sample.paired for sample in samples]))

    def record(self) -> dict[str, Any]:
        """Numbers of subjects and slices that are drawn from, and of skipped slices."""
        parts = [store.slices for store in self.stores]
        return {
            "training_subjects": len({s for part in parts for s in part.subjects}),
            "slices": sum(len(part) for part in parts),
            "slices_skipped": sum(part.skipped for part in parts),
            "drawn_from": [
                {"modality": part.kind, "slices": len(part), "people": part.people}
                for part in parts
            ],
        }

    def describe(self) -> str:
        """What source and target are drawn from, in words."""
        return ", ".join(
            f"{len(part)} {part.kind} slices of {part.people} "
            f"{'person' if part.people == 1 else 'people'}"
            for part in (store.slices for store in self.stores)
        )

    def names(self, step: int) -> list[str]:
        """The slices of the global batch of a step, in order."""
        total = self.batch_size * self.world
        return [n for i in range(total) for n in self.sample(step * total + i).names]

    def permuted(self, key: int, position: int, count: int) -> int:
        """Index of the item, one of `count`, at a position; every pass shows each item once."""
        epoch, place = divmod(position, count)
        return int(_order(self.seed, key, epoch, count)[place])

    def view(self, index: int, key: int, position: int) -> View:
        """A slice, mirrored and shifted by a few pixels at random if that is asked for."""
        if not self.augment:
            return View(index)
        rng = np.random.default_rng([self.seed, key, AUGMENT, position])
        mirrored = bool(rng.random() < 0.5)
        return View(index, mirrored, *rng.integers(-MAX_SHIFT, MAX_SHIFT + 1, size=2).tolist())


@lru_cache(maxsize=8)
def _order(seed: int, key: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The permutation of `count` items in one pass."""
    return np.random.default_rng([seed, key, ORDER, epoch]).permutation(count)


class UnpairedBatches(Batches):
    """Source and target are drawn independently.

    Args:
        source, target: slices of either.
        batch_size, seed, augment, rank, world: see `Batches`.
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
        self.sides = (SliceStore(source), SliceStore(target))

    @property
    def positions(self) -> int:
        """The slices of the longer side."""
        return max(len(side.slices) for side in self.sides)

    @property
    def stores(self) -> tuple[SliceStore, ...]:
        return self.sides

    def sample(self, position: int) -> Sample:
        views, names = [], []
        for key, side in enumerate(self.sides):
            index = self.permuted(key, position, len(side.slices))
            views.append(self.view(index, key, position))
            names.append(side.slices.name(index))
        return Sample(tuple(views), tuple(names), paired=False)

    def show(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        source, target = (
            side.show([sample.views[key] for sample in samples])
            for key, side in enumerate(self.sides)
        )
        return source, target


class PairedBatches(Batches):
    """Source and target are the same slice of the same person, augmented alike.

    Args:
        slices: channels of the sources and, last, of the target.
        known: whether methods are told that these are pairs.
        batch_size, seed, augment, rank, world: see `Batches`.
    """

    def __init__(
        self,
        slices: Slices,
        batch_size: int,
        seed: int,
        augment: bool,
        rank: int = 0,
        world: int = 1,
        known: bool = True,
    ) -> None:
        super().__init__(batch_size, seed, augment, rank, world)
        self.store, self.known = SliceStore(slices), known

    @property
    def positions(self) -> int:
        return len(self.store.slices)

    @property
    def stores(self) -> tuple[SliceStore, ...]:
        return (self.store,)

    def sample(self, position: int) -> Sample:
        index = self.permuted(PAIRED, position, self.positions)
        view = self.view(index, PAIRED, position)
        return Sample((view,), (self.store.slices.name(index),), paired=self.known)

    def show(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        images = self.store.show([sample.views[0] for sample in samples])  # b ca+1 h w
        return images[:, :-1].contiguous(), images[:, -1:].contiguous()


class MixedBatches(Batches):
    """Paired and unpaired samples in proportion to their numbers, or in given shares."""

    def __init__(
        self, unpaired: UnpairedBatches, paired: PairedBatches, share: float = 0.0
    ) -> None:
        u = unpaired
        super().__init__(u.batch_size, u.seed, u.augment, u.rank, u.world)
        self.unpaired, self.paired = unpaired, paired
        weighted = round(unpaired.positions * share / (1 - share))
        self.pairs = max(1, weighted) if share else paired.positions  # in a pass

    @property
    def positions(self) -> int:
        return self.pairs + self.unpaired.positions

    @property
    def stores(self) -> tuple[SliceStore, ...]:
        return self.unpaired.stores + self.paired.stores

    def sample(self, position: int) -> Sample:
        pairs = self.pairs
        drawn, epoch = self.permuted(MIXED, position, self.positions), position // self.positions
        if drawn < pairs:
            return self.paired.sample(epoch * pairs + drawn)
        return self.unpaired.sample(epoch * self.unpaired.positions + drawn - pairs)

    def show(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        shown, rows = [], []
        for paired, batches in ((False, self.unpaired), (True, self.paired)):
            some = [i for i, sample in enumerate(samples) if sample.paired == paired]
            if some:
                shown.append(batches.show([samples[i] for i in some]))
                rows += some
        source, target = (torch.cat(images) for images in zip(*shown, strict=True))
        back = torch.tensor(rows).argsort()  # to the order of the samples
        back = back.to(source.device, non_blocking=True)
        return source[back], target[back]


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
    pairs_of: Manifest | None = None,
    pair_share: float = 0.0,
    report: Reporter = SILENT,
) -> Batches:
    """The batches of a run.

    Args:
        manifest: manifest of the prepared data.
        sources, target: modalities; without sources only the target is drawn.
        pairing: "unpaired", "paired" or "mixed".
        shared: every unpaired subject serves both sides.
        batch_size, seed, augment, rank, world: see `Batches`.
        pairs_of: another prepared folder that the pairs of mixed training come from.
        pair_share: share of pairs among the samples of mixed training; 0: by their number.
        report: warned of what may spoil the result.

    Raises:
        DataError: the data do not hold what the pairing needs.
    """
    drawing = (batch_size, seed, augment, rank, world)
    if not sources:
        return PairedBatches(sound_slices(lone_scans(manifest, target), report), *drawing)
    if pairing in ("paired", "aligned"):
        pairs = paired_scans(manifest, sources, target, report)
        known = pairing == "paired"
        return PairedBatches(sound_slices(pairs, report), *drawing, known=known)
    if pairing == "mixed":
        if pairs_of is None:
            sides, pairs = mixed_scans(manifest, sources, target, shared, report)
        else:
            sides = training_scans(manifest, sources, target, shared, report)
            pairs = paired_scans(pairs_of, sources, target, report)
    else:
        sides, pairs = training_scans(manifest, sources, target, shared, report), []
    source_slices, target_slices = (sound_slices(side, report) for side in sides)
    unpaired = UnpairedBatches(source_slices, target_slices, *drawing)
    if not pairs:
        return unpaired
    paired = PairedBatches(sound_slices(pairs, report), *drawing)
    return MixedBatches(unpaired, paired, pair_share)


class Steps(Sampler):
    """The step indices of this invocation, from where the run stands to its end."""

    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop = start, stop

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.stop))

    def __len__(self) -> int:
        return max(0, self.stop - self.start)
