"""The data of an evaluation: test subjects with pairs, and training slices for the baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import DataError, OptionError
from syndiff.evaluation.baselines import IntensityMap, fit_histogram, fit_regression
from syndiff.evaluation.scoring import Case, Slices
from syndiff.preparation.intensity import IntensityScale, foreground_mask
from syndiff.preparation.manifest import Manifest, Scan


def check_modalities(manifest: Manifest, modalities: Sequence[str]) -> None:
    """Raise OptionError unless the data hold each of the modalities."""
    for modality in modalities:
        if modality not in manifest.modalities:
            held = ", ".join(manifest.modalities)
            raise OptionError(f"the data hold no modality {modality!r}", f"one of {held}")


def paired_cases(
    manifest: Manifest, split: str, sources: Sequence[str], target: str
) -> list[Case]:
    """The subjects of `split` that have every source and the target, sorted by name.

    Raises:
        DataError: there is no such subject.
    """
    stacks = [{s.subject: s for s in manifest.scans(split, m)} for m in (*sources, target)]
    paired = set(stacks[0]).intersection(*stacks[1:])
    for source in sources:
        paired &= set(manifest.paired_subjects(split, source, target))
    if not paired:
        raise DataError(
            f"no subject of the {split} split has {', '.join(sources)} and {target} on one grid",
            "at least one",
            "prepare the data with such subjects in that split, registered (the default)",
        )
    return [_case([scans[subject] for scans in stacks]) for subject in sorted(paired)]


def histogram_baseline(manifest: Manifest, source: str, target: str) -> IntensityMap:
    """The histogram map from the training subjects' sources to their targets (see baselines)."""
    return fit_histogram(
        (scan.load() for scan in manifest.scans("train", source)),
        (scan.load() for scan in manifest.scans("train", target)),
        source_foreground=head_finder(manifest.scale(source)),
        target_foreground=head_finder(manifest.scale(target)),
    )


def regression_baseline(manifest: Manifest, source: str, target: str) -> IntensityMap | None:
    """The regression from the training subjects' pairs (see baselines); None without pairs."""
    people = manifest.paired_subjects("train", source, target)
    if not people:
        return None
    stacks = [{s.subject: s for s in manifest.scans("train", m)} for m in (source, target)]
    return fit_regression(
        ((np.array(stacks[0][p].load()), np.array(stacks[1][p].load())) for p in people),
        source_foreground=head_finder(manifest.scale(source)),
    )


def convert(slices: Slices, have: IntensityScale, want: IntensityScale) -> Slices:
    """Convert normalised slices from one cohort's intensity scale to another's, within [0, 1].

    A translator expects the intensity scale of its training cohort. The scale of other data may
    differ by a few per cent.

    Args:
        slices: (n, h, w) in [0, 1] of the scale `have`.
        have, want: the two intensity scales.
    """
    if (have.rule, have.scale, have.window) == (want.rule, want.scale, want.window):
        return slices
    return want.normalise(have.restore(slices), have.training_mean)


def _case(scans: Sequence[Scan]) -> Case:
    """One subject's sources and, last, its target: read into memory when asked for."""

    def load() -> tuple[Slices, Slices]:
        *sources, target = (np.array(scan.load()) for scan in scans)
        return (sources[0] if len(sources) == 1 else np.stack(sources, axis=1)), target

    return Case(scans[0].subject, scans[-1].slice_indices, load, scans[0].person)


def head_finder(scale: IntensityScale) -> Callable[[Slices], NDArray[np.bool_]]:
    """Finds the head in prepared slices, by the rule that preparation used on the volumes."""

    def find(slices: Slices) -> NDArray[np.bool_]:
        return foreground_mask(scale.restore(slices), scale.unit, scale.tissue_above)

    return find
