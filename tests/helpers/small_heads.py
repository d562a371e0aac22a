"""Heads of a few thousand voxels that registration finds its way on, and files of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from syndiff.io.volume import Volume

SHAPE = (36, 42, 24)


def image(
    modality: str,
    seed: int = 0,
    shape: Sequence[int] = SHAPE,
    affine: np.ndarray | None = None,
    moved: np.ndarray | None = None,
) -> Volume:
    """A head of three tissues with a lopsided lesion, sampled on any grid.

    Args:
        moved: (4, 4) world mm → where the head's point is; the identity if not given.
    """
    if affine is None:
        affine = np.diag([3.0, 3.0, 3.0, 1.0])
        affine[:3, 3] = -1.5 * (np.array(shape) - 1)
    voxels = np.indices(shape).reshape(3, -1)
    points = (affine @ np.r_[voxels, np.ones((1, voxels.shape[1]))])[:3]
    if moved is not None:
        points = (moved @ np.r_[points, np.ones((1, points.shape[1]))])[:3]
    inner = np.linalg.norm(points / np.array([[34.0], [42], [25]]), axis=0)
    outer = np.linalg.norm(points / np.array([[42.0], [51], [31]]), axis=0)
    folds = np.cos(points[0] / 5) * np.cos(points[1] / 6) * np.cos(points[2] / 7)
    lesion = np.linalg.norm(points - np.array([[14.0], [18], [6]]), axis=0) < 9
    values = {
        "T1": [70.0, 100, 60, 30],
        "T2": [40.0, 60, 110, 160],
        "CT": [60.0, 30, 45, 15],
    }[modality]
    head = np.where(inner < 1, values[1] + (values[2] - values[1]) * (folds > 0), values[0])
    head = np.where(lesion, values[3], head)
    air = -1000.0 if modality == "CT" else 0.0
    array = np.where(outer < 1, head, air) + np.random.default_rng(seed).normal(0, 1.5, len(head))
    array = array.reshape(shape)
    return Volume((array if modality == "CT" else np.abs(array)).astype(np.float32), affine)


def save(volume: Volume, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume.array, volume.affine), path)
