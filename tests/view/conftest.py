"""Images of a small head: source, what was made of it, and an acquired one on another grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from syndiff.io import formats
from syndiff.io.marks import SYNTHETIC_MARK
from syndiff.io.volume import Volume

SHAPE = (28, 32, 20)
AFFINE = np.array([[2, 0, 0, -28], [0, 2, 0, -32], [0, 0, 3, -30], [0, 0, 0, 1]], dtype=float)


def head(affine: np.ndarray, shape: tuple[int, int, int], *, bright: float) -> np.ndarray:
    """An ellipsoid around the origin of the world, brighter on the patient's right."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    x, y, z = np.moveaxis(index @ affine[:3, :3].T + affine[:3, 3], -1, 0)
    inside = (x / 22) ** 2 + (y / 26) ** 2 + (z / 24) ** 2 < 1
    return np.where(inside, bright + 2.5 * x, 0).astype(np.float32)


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Role → file."""
    folder = tmp_path_factory.mktemp("scans")
    other = AFFINE.copy()
    other[:3, 3] += (3.0, -4.0, 5.0)
    made = {
        "source": Volume(head(AFFINE, SHAPE, bright=200), AFFINE),
        "synthetic": Volume(
            head(AFFINE, SHAPE, bright=300), AFFINE, synthetic=f"{SYNTHETIC_MARK}: T2 from T1"
        ),
        "acquired": Volume(head(other, SHAPE, bright=280), other),
    }
    files = {role: folder / f"{role}.nii.gz" for role in made}
    for role, volume in made.items():
        formats.write(volume, files[role])
    return files
