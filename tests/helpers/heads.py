"""Small heads of several people: every one has its own blobs, and left differs from right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from syndiff.io import formats
from syndiff.io.volume import Volume

SHAPE, SPACING_MM = (32, 38, 24), 5.5
# Air, scalp, white matter, grey matter, fluid.
SIGNALS = {"T1": (0, 260, 220, 150, 50), "T2": (0, 110, 90, 150, 330)}


def head(person: int, modality: str) -> Volume:
    """A scan of a person; the modalities of one person lie on each other."""
    rng = np.random.default_rng(person)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    wide, long, high = rng.uniform(0.75, 0.9, 3)
    taper = (1 + 0.25 * z) * (1 - 0.25 * y)  # narrower below and in front
    radius = (x / wide / taper) ** 2 + ((y + 0.05 * x) / long) ** 2 + ((z + 0.1) / high) ** 2
    folds = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.3)
    folds /= folds.std()
    tissue = np.where(radius < 1, 1, 0)
    tissue[radius < 0.72] = 3
    tissue[radius + 0.1 * folds < 0.55] = 2
    tissue[(radius < 0.65) & (folds > 1)] = 3
    tissue[(radius < 0.65) & (folds < -1.3)] = 4
    tissue[((x - 0.14) / 0.1) ** 2 + ((y - 0.1) / 0.4) ** 2 + ((z - 0.1) / 0.25) ** 2 < 1] = 4
    tissue[(y < -0.35) & (abs(x) < 0.45) & (radius < 0.6)] = 4  # back unlike front
    tissue[(y > 0.35) & (z > -0.2) & (radius < 0.65)] = 3
    tissue[(z < -0.45) & (y > -0.2) & (radius < 0.7)] = 2  # bottom unlike top
    values = np.array(SIGNALS[modality], np.float32)[tissue]
    noise = np.random.default_rng((person, len(modality), ord(modality[1]))).normal(0, 6, SHAPE)
    shading = ndimage.gaussian_filter(rng.normal(size=SHAPE), 3)
    values = values * (1 + 0.08 * shading / shading.std()).astype(np.float32)
    array = np.abs(values * rng.uniform(0.9, 1.1) + noise)
    return Volume(array.astype(np.float32), np.diag([SPACING_MM] * 3 + [1.0]))


def write_heads(raw: Path, people: int = 14) -> Path:
    """raw/p01/T1.nii.gz, …; the folder."""
    for i in range(1, people + 1):
        for modality in SIGNALS:
            path = raw / f"p{i:02d}" / f"{modality}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            formats.write(head(i, modality), path)
    return raw
