"""Unpaired batches of slices, each a function of the seed and the step alone.

The two modalities are drawn independently, each in its own order: position p of a modality is in
its pass p // n over its n slices, and every pass has its own permutation. So a run that resumes at
step s sees the very batches that an uninterrupted one sees, without any stored state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from syndiff.errors import DataError
from syndiff.objectives.base import Batch
from syndiff.preparation.manifest import Manifest, Scan

MAX_SHIFT = 3  # pixels, of the augmentation


@dataclass(frozen=True)
class Slices:
    """All slices of one modality as one indexable sequence over memory-mapped files."""

    arrays: tuple[NDArray[np.float32], ...]

    @classmethod
    def of(cls, scans: Sequence[Scan]) -> Slices:
        return cls(tuple(np.load(scan.slices_path, mmap_mode="r") for scan in scans))

    def __len__(self) -> int:
        return sum(len(array) for array in self.arrays)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """(h, w) in [0, 1]."""
        for array in self.arrays:
            if index < len(array):
                return array[index]
            index -= len(array)
        raise IndexError(index)


def training_scans(
    manifest: Manifest,
    source: str,
    target: str,
    shared: bool,
    warn: Callable[[str], None] | None = None,
) -> tuple[list[Scan], list[Scan]]:
    """The training scans of either modality; unless `shared`, no subject gives both.

    Subjects that have both modalities are dealt out in turn, the modality with fewer first.
    """
    by_source = {scan.subject: scan for scan in manifest.scans("train", source)}
    by_target = {scan.subject: scan for scan in manifest.scans("train", target)}
    for modality, scans in ((source, by_source), (target, by_target)):
        if not scans:
            raise DataError(
                f"no training subject has {modality} in {manifest.folder}",
                "at least one",
                "prepare the data with more subjects or another --split",
            )
    if not shared:
        chosen_source = [s for s in sorted(by_source) if s not in by_target]
        chosen_target = [s for s in sorted(by_target) if s not in by_source]
        for subject in sorted(set(by_source) & set(by_target)):
            fewer = len(chosen_source) <= len(chosen_target)
            (chosen_source if fewer else chosen_target).append(subject)
        if chosen_source and chosen_target:
            return (
                [by_source[s] for s in sorted(chosen_source)],
                [by_target[s] for s in sorted(chosen_target)],
            )
        if warn:
            warn(
                "too few training subjects to divide between the modalities: "
                "each serves both, drawn independently"
            )
    return [by_source[s] for s in sorted(by_source)], [by_target[s] for s in sorted(by_target)]


class UnpairedBatches(Dataset):
    """Item `step` is the batch of that step.

    Args:
        source, target: the slices of either modality.
        batch_size: of this process.
        seed: of order and augmentation.
        augment: mirror and shift at random.
        rank, world: this process and their number; each takes its rows of the global batch.
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
        self.modalities = {"source": source, "target": target}
        self.batch_size, self.seed, self.augment = batch_size, seed, augment
        self.rank, self.world = rank, world

    @property
    def steps_per_epoch(self) -> int:
        """Steps in a pass over the longer modality."""
        longest = max(len(slices) for slices in self.modalities.values())
        return max(1, -(-longest // (self.batch_size * self.world)))

    def __getitem__(self, step: int) -> Batch:
        return Batch(**{name: self._images(name, step) for name in self.modalities})

    def _images(self, name: str, step: int) -> Tensor:
        """(b, 1, h, w) in [-1, 1]."""
        slices, total = self.modalities[name], self.batch_size * self.world
        first = step * total + self.rank * self.batch_size
        images = [self._image(slices, name, first + i) for i in range(self.batch_size)]
        return torch.from_numpy(np.stack(images)[:, None] * np.float32(2) - np.float32(1))

    def _image(self, slices: Slices, name: str, position: int) -> NDArray[np.float32]:
        epoch, place = divmod(position, len(slices))
        key = [self.seed, list(self.modalities).index(name)]
        order = np.random.default_rng([*key, 0, epoch]).permutation(len(slices))
        image = slices[int(order[place])]
        if not self.augment:
            return np.asarray(image)
        rng = np.random.default_rng([*key, 1, position])
        if rng.random() < 0.5:
            image = image[:, ::-1]
        return shift(image, *rng.integers(-MAX_SHIFT, MAX_SHIFT + 1, size=2).tolist())


def shift(image: NDArray[np.float32], dy: int, dx: int) -> NDArray[np.float32]:
    """Move an image by whole pixels, air (0) coming in from outside; (h, w)."""
    h, w = image.shape
    moved = np.zeros_like(image)
    moved[max(dy, 0) : h + min(dy, 0), max(dx, 0) : w + min(dx, 0)] = image[
        max(-dy, 0) : h + min(-dy, 0), max(-dx, 0) : w + min(-dx, 0)
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
