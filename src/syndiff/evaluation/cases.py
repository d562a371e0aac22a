"""The prepared data as evaluation needs it: test subjects with pairs, and training stacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from syndiff.preparation.manifest import Manifest, Scan

from syndiff.errors import DataError, OptionError
from syndiff.evaluation.baselines import HistogramMap, fit_histogram
from syndiff.evaluation.scoring import Case, Slices
from syndiff.preparation.intensity import IntensityScale, foreground_mask


def check_modalities(manifest: Manifest, modalities: Sequence[str]) -> None:
    """Raise OptionError unless the data hold each of the modalities."""
    for modality in modalities:
        if modality not in manifest.modalities:
            held = ", ".join(manifest.modalities)
            raise OptionError(f"the data hold no modality {modality!r}", f"one of {held}")


def paired_cases(
    manifest: Manifest, split: str, sources: Sequence[str], target: str
) -> list[Case]:
    """The subjects of `split` that have every source and the target, by name.

    Raises:
        DataError: there is none.
    """
    stacks = [{s.subject: s for s in manifest.scans(split, m)} for m in (*sources, target)]
    paired = set(stacks[0]).intersection(*stacks[1:])
    for source in sources:
        paired &= set(manifest.paired_subjects(split, source, target))
    if not paired:
        raise DataError(
            f"no subject of the {split} split has both {' and '.join(sources)} and {target}",
            "at least one",
            "prepare the data with such subjects in that split (--split, --modalities)",
        )
    return [_case([scans[subject] for scans in stacks]) for subject in sorted(paired)]


def histogram_baseline(manifest: Manifest, source: str, target: str) -> HistogramMap:
    """The histogram map from the training subjects' sources to their targets (see baselines)."""
    return fit_histogram(
        _stacks(manifest.scans("train", source)),
        _stacks(manifest.scans("train", target)),
        source_foreground=_foreground(manifest.scale(source)),
        target_foreground=_foreground(manifest.scale(target)),
    )


def _case(scans: Sequence[Scan]) -> Case:
    """One subject's sources and, last, its target: read when asked for."""
    indices = scans[-1].slice_indices
    if any(scan.slice_indices != indices for scan in scans):
        raise DataError(
            f"{scans[0].subject} has different slices in its modalities",
            remedy="prepare the data again with registration on",
        )
    paths = [scan.slices_path for scan in scans]

    def load() -> tuple[Slices, Slices]:
        *sources, target = (_read(path) for path in paths)
        return (sources[0] if len(sources) == 1 else np.stack(sources, axis=1)), target

    return Case(scans[0].subject, tuple(int(i) for i in indices), load)


def _stacks(scans: Sequence[Scan]) -> Iterator[Slices]:
    return (_read(scan.slices_path) for scan in scans)


def _read(path: Path) -> Slices:
    """A stack (n, h, w) float32."""
    try:
        return np.asarray(np.load(path), dtype=np.float32)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({error})", remedy="prepare the data again"
        ) from error


def _foreground(scale: IntensityScale) -> Callable[[Slices], NDArray[np.bool_]]:
    """Finds the head in prepared slices, by the rule that preparation used on the volumes."""

    def find(slices: Slices) -> NDArray[np.bool_]:
        return foreground_mask(scale.restore(slices), scale.unit)

    return find
