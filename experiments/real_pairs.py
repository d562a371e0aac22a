"""Registered slices of real scans, mixed among the virtual pairs of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.phantom.head_slices import Head, Image, draw_pair, smooth_noise


@dataclass(frozen=True)
class MixedPairs:
    """Draws a virtual pair, or in a share of the draws a real one, turned, scaled and bent.

    Attributes:
        slices: (n, 2, h, w) source and target as `draw_pair` scales them, in [0, 1].
        share: of draws that are real.
    """

    slices: NDArray[np.float32]
    share: float

    def __call__(
        self, rng: np.random.Generator, heads: Sequence[Head], size: int
    ) -> tuple[Image, Image]:
        """A source and a target, each (size, size) in [0, 1]."""
        if rng.random() >= self.share:
            return draw_pair(rng, heads, size)
        pair = self.slices[rng.integers(len(self.slices))]
        rows, columns = np.nonzero(pair[0] > 0.05)
        if len(rows) < 500:
            return draw_pair(rng, heads, size)
        centre = np.array([rows.mean(), columns.mean()]) + rng.normal(0, 25, 2)
        turn, zoom = rng.normal(0, 0.1), np.exp(rng.normal(0, 0.08))
        grid = (np.arange(size) - (size - 1) / 2) * zoom
        v, u = grid[:, None], grid[None, :] * rng.choice([-1.0, 1.0])
        bend = rng.uniform(0, 2)
        y = centre[0] + np.cos(turn) * v + np.sin(turn) * u + bend * smooth_noise(rng, size, 32)
        x = centre[1] - np.sin(turn) * v + np.cos(turn) * u + bend * smooth_noise(rng, size, 32)
        source, target = (
            ndimage.map_coordinates(image, [y, x], order=1, mode="constant") for image in pair
        )
        shading = np.exp(0.15 * rng.random() * smooth_noise(rng, size, 0.6 * size))
        source = source ** np.exp(rng.normal(0, 0.08)) * shading * np.exp(rng.normal(0, 0.06))
        noise = rng.uniform(0, 0.008) * rng.standard_normal((size, size))
        return (
            np.clip(source + noise * (source > 0), 0, 1).astype(np.float32),
            np.clip(target, 0, 1).astype(np.float32),
        )
