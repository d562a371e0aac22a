"""Slices of the training scans as one indexable sequence, without nearly constant slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import DataError
from syndiff.preparation.manifest import Scan
from syndiff.reporting import SILENT, Reporter

MIN_RANGE = 0.05  # of [0, 1]; a slice whose values span less is nearly constant

Stack = tuple[Scan, ...]  # scans of one subject on one grid: slice i of each shows one place


@dataclass(frozen=True)
class Slices:
    """Slices of several subjects over memory-mapped files.

    Attributes:
        volumes: per subject, one array (n, h, w) for each modality.
        subjects: names of the subjects.
        kind: the modalities, "T1" or "T1+PD".
        chosen: (subject, slice) of each slice that is used; all slices if empty.
        skipped: number of slices that are not used.
        persons: name of each subject's person; empty if every subject is a person.
    """

    volumes: tuple[tuple[NDArray[np.float32], ...], ...]
    subjects: tuple[str, ...] = ()
    kind: str = ""
    chosen: tuple[tuple[int, int], ...] = ()
    skipped: int = 0
    persons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.chosen:
            every = tuple((v, i) for v, of in enumerate(self.volumes) for i in range(len(of[0])))
            object.__setattr__(self, "chosen", every)

    @classmethod
    def of(cls, stacks: Sequence[Stack]) -> Slices:
        """Every slice of the scans."""
        return cls(
            tuple(tuple(scan.load() for scan in stack) for stack in stacks),
            tuple(stack[0].subject for stack in stacks),
            "+".join(scan.modality for scan in stacks[0]),
            persons=tuple(stack[0].person for stack in stacks),
        )

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def people(self) -> int:
        """How many people have a slice here; the visits of one count once."""
        held = {volume for volume, _ in self.chosen}
        return len({self.persons[v] for v in held} if self.persons else held)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """(c, h, w) in [0, 1], a channel for each modality."""
        volume, place = self.chosen[index]
        return np.stack([array[place] for array in self.volumes[volume]])

    def name(self, index: int) -> str:
        """Subject, modality and place in the prepared file, counted from 0."""
        volume, place = self.chosen[index]
        return f"{self.subjects[volume]} {self.kind} slice {place}"


def sound_slices(stacks: Sequence[Stack], report: Reporter = SILENT) -> Slices:
    """The slices of the scans without those that are nearly constant in some modality.

    On such a slice normalisation divides by almost nothing, and there is nothing to learn.

    Args:
        stacks: the scans of each subject.
        report: warned of how many were skipped.

    Raises:
        DataError: values are not finite or leave [0, 1], or no slice remains.
    """
    whole = Slices.of(stacks)
    kind = whole.kind
    chosen = []
    for v, arrays in enumerate(whole.volumes):
        lows, highs = (
            np.stack([f(array, axis=(1, 2)) for array in arrays]) for f in (np.min, np.max)
        )  # c n
        wrong = np.flatnonzero(~((lows > -1e-3) & (highs < 1 + 1e-3)).all(axis=0))
        if len(wrong):
            raise DataError(
                f"{whole.subjects[v]} {kind} slice {wrong[0]} holds values that are not finite "
                "or leave [0, 1]",
                remedy="look at the scan, then prepare the data again",
            )
        chosen += [(v, int(i)) for i in np.flatnonzero((highs - lows).min(axis=0) >= MIN_RANGE)]
    if not chosen:
        raise DataError(
            f"all {len(whole)} {kind} training slices are nearly constant",
            f"values that range over {MIN_RANGE:g} or more of [0, 1]",
            "look at the scans, then prepare the data again",
        )
    skipped = len(whole) - len(chosen)
    if skipped:
        report.warn(f"skipped {skipped} of {len(whole)} {kind} slices that are nearly constant")
    return replace(whole, chosen=tuple(chosen), skipped=skipped)
