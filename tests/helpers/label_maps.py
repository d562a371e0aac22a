"""Tiny label maps of made-up heads, in both families' numbers."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

SYNTHSEG = (511, 507, 515, 24, 3, 2)  # skin, soft tissue, bone, fluid, cortex, white matter
BRAINWEB = (6, 5, 7, 1, 2, 3)


def head(numbers: tuple[int, ...], size: int = 40) -> NDArray[np.int16]:
    """Nested ellipsoids of the tissues given from outside in, and a ventricle of the fluid."""
    axis = np.linspace(-1, 1, size)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    radius = np.sqrt((x / 0.8) ** 2 + (y / 0.95) ** 2 + (z / 0.9) ** 2)
    labels = np.zeros((size, size, size), np.int16)
    for outside, number in zip((1.0, 0.93, 0.86, 0.78, 0.72, 0.6), numbers, strict=True):
        labels[radius < outside] = number
    labels[radius < 0.15] = 4 if numbers is SYNTHSEG else numbers[3]
    return labels


def write(path: Path, numbers: tuple[int, ...], spacing_mm: float = 4.0, size: int = 40) -> Path:
    """A label map as NIfTI, centred on the origin."""
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = -spacing_mm * (size - 1) / 2
    nib.save(nib.Nifti1Image(head(numbers, size), affine), path)
    return path
