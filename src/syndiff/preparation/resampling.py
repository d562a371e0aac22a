"""Resample a scan onto another scan's grid, given the map between their world coordinates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.io.volume import Volume

Matrix = NDArray[np.float64]  # (4, 4)


def resample(
    moving: Volume, reference: Volume, matrix: Matrix, fill: float = 0.0
) -> NDArray[np.float32]:
    """The moving scan on the reference's grid, by linear interpolation.

    Where the reference's voxels are coarser, the moving scan is smoothed first, so that detail
    which they cannot hold does not alias.

    Returns:
        The reference's (x, y, z) float32; `fill` outside the moving scan's field of view.
    """
    to_moving = voxel_map(moving, reference, matrix)
    steps = np.sqrt((to_moving[:3, :3] ** 2).sum(axis=1))  # moving voxels per reference voxel
    sigma = 0.5 * np.sqrt(np.maximum(steps**2 - 1.0, 0.0))
    values = moving.array
    if sigma.max() > 0.25:
        sigma = np.where(sigma > 0.25, sigma, 0.0)
        values = ndimage.gaussian_filter(values, sigma, mode="nearest")
    padded = np.pad(values, 1, mode="edge")  # outer half voxels are continued
    moved = ndimage.affine_transform(
        padded,
        to_moving[:3, :3],
        to_moving[:3, 3] + 1.0,
        reference.array.shape,
        np.float32,
        order=1,
        mode="nearest",
    )
    return np.where(field_of_view(moving, reference, matrix), moved, np.float32(fill))


def field_of_view(moving: Volume, reference: Volume, matrix: Matrix) -> NDArray[np.bool_]:
    """The voxels (x, y, z) of the reference that lie inside the moving scan's field of view."""
    to_moving = voxel_map(moving, reference, matrix)
    x, y, z = np.ogrid[tuple(slice(n) for n in reference.array.shape)]
    inside = np.ones(reference.array.shape, dtype=bool)
    for row, length in zip(to_moving, moving.array.shape, strict=False):
        index = row[0] * x + row[1] * y + row[2] * z + row[3]
        inside &= (index >= -0.5 - 1e-4) & (index <= length - 0.5 + 1e-4)
    return inside


def median_move_mm(matrix: Matrix, volume: Volume, mask: NDArray[np.bool_]) -> float:
    """Median distance over the mask between a point of the volume and where `matrix` maps it."""
    voxels = np.argwhere(mask)
    if not len(voxels):
        return 0.0
    points = np.c_[voxels, np.ones(len(voxels))] @ volume.affine.T
    shifts = points @ (matrix - np.eye(4)).T
    return float(np.median(np.linalg.norm(shifts[:, :3], axis=1)))


def voxel_map(moving: Volume, reference: Volume, matrix: Matrix) -> Matrix:
    """Voxel indices of the reference → voxel indices of the moving scan."""
    return np.asarray(np.linalg.inv(moving.affine) @ matrix @ reference.affine)


def seen_share(
    moving: Volume, reference: Volume, matrix: Matrix, mask: NDArray[np.bool_]
) -> float:
    """Fraction of the reference's mask (x, y, z) inside the moving scan's field of view."""
    return float(field_of_view(moving, reference, matrix)[mask].mean()) if mask.any() else 0.0


def centre_mm(volume: Volume, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(3,) the mask's centre of gravity in the world."""
    voxel = np.array([*ndimage.center_of_mass(mask), 1.0])
    return np.asarray((volume.affine @ voxel)[:3])
