"""Registered slices of real scans, mixed among the virtual pairs of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.phantom.head_slices import Head, Image, smooth_noise

Draw = Callable[[np.random.Generator, Sequence[Head], int], tuple[Image, ...]]


@dataclass(frozen=True)
class MixedPairs:
    """Draws virtual slices, or in a share of the draws real ones, turned, scaled and bent.

    Attributes:
        slices: (n, 1 + targets, h, w) as `draw_slices` scales them, in [0, 1].
        share: of draws that are real.
        virtual: draws the others.
    """

    slices: NDArray[np.float32]
    share: float
    virtual: Draw

    def __call__(
        self, rng: np.random.Generator, heads: Sequence[Head], size: int
    ) -> tuple[Image, ...]:
        """A source and its targets, each (size, size) in [0, 1]."""
        if rng.random() >= self.share:
            return self.virtual(rng, heads, size)
        pair = self.slices[rng.integers(len(self.slices))]
        rows, columns = np.nonzero(pair[0] > 0.05)
        if len(rows) < 500:
            return self.virtual(rng, heads, size)
        centre = np.array([rows.mean(), columns.mean()]) + rng.normal(0, 25, 2)
        turn, zoom = rng.normal(0, 0.1), np.exp(rng.normal(0, 0.08))
        grid = (np.arange(size) - (size - 1) / 2) * zoom
        v, u = grid[:, None], grid[None, :] * rng.choice([-1.0, 1.0])
        bend = rng.uniform(0, 2)
        y = centre[0] + np.cos(turn) * v + np.sin(turn) * u + bend * smooth_noise(rng, size, 32)
        x = centre[1] - np.sin(turn) * v + np.cos(turn) * u + bend * smooth_noise(rng, size, 32)
        source, *targets = (
            ndimage.map_coordinates(image, [y, x], order=1, mode="constant") for image in pair
        )
        shading = np.exp(0.15 * rng.random() * smooth_noise(rng, size, 0.6 * size))
        source = source ** np.exp(rng.normal(0, 0.08)) * shading * np.exp(rng.normal(0, 0.06))
        noise = rng.uniform(0, 0.008) * rng.standard_normal((size, size))
        made = [source + noise * (source > 0), *targets]
        return tuple(np.clip(image, 0, 1).astype(np.float32) for image in made)
