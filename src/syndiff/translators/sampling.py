"""Ways to sample an image from a stochastic translator, by name.

chain        one run of the reverse process, as in the paper; as sharp as an acquired image
expectation  the mean of several chains, run as one batch; closer on average, and smoother
regression   the first step's estimate of x_0 alone; costs one step (Rassmann et al., YODA, 2025,
             report that it matches full chains)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from syndiff.errors import OptionError
from syndiff.translators.base import SliceNoise, Translator
from syndiff.translators.explicit import Noise

WAYS = ("chain", "expectation", "regression")
MOST_SAMPLES = 1024


@dataclass(frozen=True)
class Sampling:
    """How a translator is run.

    Attributes:
        way: one of `WAYS`.
        samples: number of chains whose mean an expectation is.
        steps: reverse steps of a chain that can be respaced (DDPM, UNIT-DDPM); 0: its own number.

    Raises:
        OptionError: a value is out of its range.
    """

    way: str = "chain"
    samples: int = 8
    steps: int = 0

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise OptionError(f"`sampling` {self.way}", f"one of {', '.join(WAYS)}")
        if not 1 <= self.samples <= MOST_SAMPLES:
            raise OptionError(f"`samples` {self.samples}", f"1 to {MOST_SAMPLES}")
        if self.steps < 0:
            raise OptionError(f"`sampling_steps` {self.steps}", "0 (the translator's own) or more")

    @property
    def images(self) -> int:
        """Number of images that are computed for one slice."""
        return self.samples if self.way == "expectation" else 1

    def run(
        self,
        translator: Translator,
        source: Tensor,
        seed: int,
        indices: Sequence[int],
        shared: bool,
    ) -> Tensor:
        """Translate a batch.

        Args:
            translator: what to run.
            source: (b, ca, h, w) in [-1, 1].
            seed, indices, shared: of the noise, see `SliceNoise`. Chain k of an expectation is
                what `chain` makes with the seed + k.

        Returns:
            (b, 1, h, w) in [-1, 1].

        Raises:
            OptionError: the translator has no such estimate (`regression`), or its chain cannot
                take this number of steps.
        """
        noises = [SliceNoise(seed + k, indices, shared, source.device) for k in range(self.images)]
        if self.way == "regression":
            translator.chain_steps(self.steps)
            return translator.estimate(source, noises[0])
        if len(noises) == 1 or not translator.stochastic:
            return cast(Tensor, translator(source, noises[0], self.steps))
        together = source.repeat(len(noises), 1, 1, 1)  # n·b ca h w
        images = translator(together, _Stacked(noises), self.steps)
        images = images.unflatten(0, (len(noises), len(source)))
        return cast(Tensor, images.clamp(-1, 1).mean(0))


CHAIN = Sampling()


@dataclass(frozen=True)
class _Stacked:
    """The noise of several batches, one after the other along the batch axis."""

    noises: Sequence[Noise]

    def normal(self, *shape: int) -> Tensor:
        return torch.cat([noise.normal(*shape) for noise in self.noises])
