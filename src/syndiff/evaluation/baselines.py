"""Baselines without a network, which a trained model must beat.

copy        the unchanged source.
histogram   the source mapped by one monotone curve, which gives the training sources the histogram
            of the training targets. The curve is the same for every subject. It needs no pairs and
            does not use the test subject's reference.
regression  the source mapped by one curve: the mean target intensity of each source intensity in
            the training subjects' pairs (`syndiff compare`). It needs pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import DataError

BASELINES = ("copy", "histogram", "regression")
BINS = 4096  # of the histograms over [0, 1]
REGRESSION_BINS = 256
LEVELS = 1001  # quantiles that define the curve
Slices = NDArray[np.float32]
Mask = NDArray[np.bool_]
FindForeground = Callable[[Slices], Mask]


def copy(slices: Slices) -> Slices:
    """The source itself, (n, h, w)."""
    return slices


@dataclass(frozen=True)
class IntensityMap:
    """A curve from source intensities to target intensities in the foreground.

    Attributes:
        source_levels, target_levels: (k,) points of the curve; for `histogram` equal quantiles
            of the two training histograms.
        foreground: finds the head in a stack of source slices, (n, h, w) → bool (n, h, w).
    """

    source_levels: NDArray[np.float64]
    target_levels: NDArray[np.float64]
    foreground: FindForeground

    def __call__(self, slices: Slices) -> Slices:
        """Map the foreground of (n, h, w) source slices; the background stays as it is."""
        mapped = np.interp(slices, self.source_levels, self.target_levels).astype(np.float32)
        return np.where(self.foreground(slices), np.clip(mapped, 0, 1), slices)


def fit_histogram(
    sources: Iterable[Slices],
    targets: Iterable[Slices],
    *,
    source_foreground: FindForeground,
    target_foreground: FindForeground,
) -> IntensityMap:
    """Learn the curve from training stacks, which need not belong together.

    Args:
        sources, targets: stacks (n, h, w) in [0, 1], taken one at a time.
        source_foreground, target_foreground: find the head in a stack.

    Raises:
        DataError: one side has no foreground at all.
    """
    return IntensityMap(
        _quantiles(sources, source_foreground, "source"),
        _quantiles(targets, target_foreground, "target"),
        source_foreground,
    )


def fit_regression(
    pairs: Iterable[tuple[Slices, Slices]], *, source_foreground: FindForeground
) -> IntensityMap:
    """Learn the mean target intensity of each source intensity from training pairs.

    Args:
        pairs: source and target stacks (n, h, w) in [0, 1] of one subject each.
        source_foreground: finds the head in a stack of sources.

    Raises:
        DataError: there is no pair with tissue.
    """
    counts, sums = np.zeros(REGRESSION_BINS), np.zeros(REGRESSION_BINS)
    for source, target in pairs:
        inside = source_foreground(source)
        at = np.minimum((source[inside] * REGRESSION_BINS).astype(int), REGRESSION_BINS - 1)
        counts += np.bincount(at, minlength=REGRESSION_BINS)
        sums += np.bincount(at, weights=target[inside], minlength=REGRESSION_BINS)
    held = counts > 0
    if not held.any():
        raise DataError("no training pairs with tissue for the regression baseline")
    centres = (np.arange(REGRESSION_BINS) + 0.5) / REGRESSION_BINS
    return IntensityMap(centres[held], sums[held] / counts[held], source_foreground)


def _quantiles(
    stacks: Iterable[Slices], foreground: FindForeground, what: str
) -> NDArray[np.float64]:
    """LEVELS equally spaced quantiles of the foreground, from a histogram: little memory."""
    counts = np.zeros(BINS, dtype=np.int64)
    for stack in stacks:
        counts += np.histogram(stack[foreground(stack)], bins=BINS, range=(0.0, 1.0))[0]
    if not counts.sum():
        raise DataError(f"no {what} training slices with tissue for the histogram baseline")
    cumulative = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    # Equal values (saturated or constant regions) make steps; a hair of slope makes them
    # invertible, and np.interp then needs no special case.
    cumulative += np.linspace(0, 1e-9, BINS + 1)
    return np.interp(np.linspace(0, 1, LEVELS), cumulative, np.linspace(0, 1, BINS + 1))
