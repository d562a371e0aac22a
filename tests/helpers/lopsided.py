"""A head that is brighter on one side, on any grid: what a viewer may not mirror or move."""

from __future__ import annotations

import numpy as np

SHAPE = (28, 32, 20)
AFFINE = np.array([[2, 0, 0, -28], [0, 2, 0, -32], [0, 0, 3, -30], [0, 0, 0, 1]], dtype=float)


def head(affine: np.ndarray, shape: tuple[int, int, int], *, bright: float) -> np.ndarray:
    """An ellipsoid around the origin of the world, brighter on the patient's right."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    x, y, z = np.moveaxis(index @ affine[:3, :3].T + affine[:3, 3], -1, 0)
    inside = (x / 22) ** 2 + (y / 26) ** 2 + (z / 24) ** 2 < 1
    return np.where(inside, bright + 2.5 * x, 0).astype(np.float32)
