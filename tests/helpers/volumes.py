"""Volumes that need no file."""

from __future__ import annotations

import numpy as np

from syndiff.io.volume import Volume


def head(shape: tuple[int, int, int] = (40, 44, 12), spacing: float = 4.0) -> Volume:
    """An ellipsoid with a ventricle and a few marks, RAS+; shaded a little, as no label map is."""
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    x, y, z = grid
    array = np.where((x / 0.7) ** 2 + (y / 0.8) ** 2 + (z / 1.2) ** 2 < 1, 500.0, 0.0)
    array[(x - 0.1) ** 2 + (y / 1.5) ** 2 + z**2 < 0.06] = 150.0
    array[(x + 0.3) ** 2 + (y - 0.3) ** 2 < 0.02] = 800.0
    array *= 1 + 0.02 * x + 0.01 * y
    affine = np.diag([spacing, spacing, 5.0, 1.0])
    affine[:3, 3] = (-70, -80, -20)
    return Volume(array.astype(np.float32), affine)
