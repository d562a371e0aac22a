"""Mean and standard deviation of several samples of one volume, beside the result.

Sample k is the volume that the same translation makes with the seed + k; the result is sample 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import OptionError
from syndiff.io.formats import stem_of
from syndiff.translators import Translator

STATISTICS = ("mean", "std")  # std: the sample standard deviation, with N - 1


def seeds_of(seed: int, samples: int) -> list[int]:
    """The seeds of the samples, the result's own first."""
    return [seed + k for k in range(samples)]


def beside(output: str | Path) -> dict[str, Path]:
    """The files of the statistics: T2.nii.gz → T2_mean.nii.gz and T2_std.nii.gz."""
    output = Path(output)
    stem = stem_of(output)
    return {s: output.with_name(f"{stem}_{s}{output.name[len(stem) :]}") for s in STATISTICS}


def require_noise(translator: Translator, samples: int) -> None:
    """Make sure that samples of this translator differ.

    Raises:
        OptionError: the translator draws no noise.
    """
    if samples and not translator.stochastic:
        raise OptionError(
            f"`samples` with {translator.name}, which has no noise: all samples are equal",
            "a method with noise (`syndiff methods` lists them)",
            "leave it out",
        )


class Moments:
    """Mean and standard deviation of samples, slice batch by slice batch (Welford's updates).

    Attributes:
        mean, std: (z, y, x) float32 in output units; outside the translated slices the value of
            air and 0.
    """

    def __init__(self, shape: Sequence[int], air: float) -> None:
        self.mean = np.full(shape, air, np.float32)
        self.std = np.zeros(shape, np.float32)

    def see(
        self, places: NDArray[np.integer], samples: Sequence[NDArray[np.floating[Any]]]
    ) -> None:
        """Take every sample of some slices.

        Args:
            places: (n,) indices of the slices.
            samples: at least two, (n, y, x) each.
        """
        mean = np.zeros(samples[0].shape)
        squares = np.zeros(samples[0].shape)
        for count, sample in enumerate(samples, 1):
            step = sample - mean
            mean += step / count
            squares += step * (sample - mean)
        self.mean[places] = mean
        self.std[places] = np.sqrt(squares / (len(samples) - 1))
