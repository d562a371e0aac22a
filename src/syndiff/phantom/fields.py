"""Smooth random fields, trilinear interpolation and diffeomorphic warps, all in numpy.

Fields are cubic B-splines on a lattice of knots that is fixed in the world (mm). The random draws
therefore do not depend on the grid on which a field is evaluated: a subject has the same anatomy
at 2 mm and at 4 mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
LATTICE_HALF_MM = 160.0  # the lattice covers ±160 mm along each axis, more than a head
CHUNK = 1 << 17  # points per interpolation; temporary arrays of this size fit into the cache


@dataclass(frozen=True)
class Grid:
    """A regular grid without rotation.

    Attributes:
        origin_mm: (x, y, z) of the first point.
        spacing_mm: distance of neighbouring points along every axis.
        shape: (nx, ny, nz) number of points.
    """

    origin_mm: tuple[float, float, float]
    spacing_mm: float
    shape: tuple[int, int, int]

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4): voxel indices → mm, RAS+."""
        affine = np.diag([self.spacing_mm] * 3 + [1.0])
        affine[:3, 3] = self.origin_mm
        return affine

    def axes_mm(self) -> list[NDArray[np.float64]]:
        """Coordinates in mm along x, y, z: three vectors."""
        return [
            np.asarray(o + self.spacing_mm * np.arange(n), dtype=np.float64)
            for o, n in zip(self.origin_mm, self.shape, strict=True)
        ]

    def points_mm(self) -> Array:
        """Every grid point in mm: (nx, ny, nz, 3)."""
        points = np.empty((*self.shape, 3), np.float32)
        for axis, values in enumerate(self.axes_mm()):
            points[..., axis] = values.reshape([-1 if a == axis else 1 for a in range(3)])
        return points


def smooth_field(
    rng: np.random.Generator, grid: Grid, knots_mm: float, half_mm: float = LATTICE_HALF_MM
) -> Array:
    """A random field of zero mean and unit variance, smooth on the scale of `knots_mm`.

    f(p) = Σ_j c_j β³(p_x/h − j_x) β³(p_y/h − j_y) β³(p_z/h − j_z), c_j ~ N(0, 1), h = `knots_mm`

    Args:
        rng: generator of the coefficients c.
        grid: where the field is evaluated.
        knots_mm: distance of neighbouring knots.
        half_mm: the knots cover ± this along each axis; the field is 0 far outside.

    Returns:
        (nx, ny, nz) values on `grid`.
    """
    count = int(2 * half_mm / knots_mm) + 4
    field = rng.standard_normal((count, count, count), dtype=np.float32)
    for axis_mm in grid.axes_mm():  # separable: contract the first axis, append the new one
        weights = _bspline_weights(axis_mm, knots_mm, count, half_mm)
        field = np.tensordot(field, weights, axes=(0, 1))
    # variance of Σ β³(u − j)² averaged over u is 151/315 per axis
    return np.asarray(field / (151 / 315) ** 1.5, dtype=np.float32)


def _bspline_weights(
    axis_mm: NDArray[np.float64], knots_mm: float, count: int, half_mm: float
) -> Array:
    """Cubic B-spline weights (points, knots) of one axis."""
    distance = np.abs((axis_mm[:, None] + half_mm) / knots_mm - (np.arange(count) - 1.0)[None])
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = np.maximum(2 - distance, 0) ** 3 / 6
    return np.where(distance < 1, inner, outer).astype(np.float32)


def sample(channels: Array, grid: Grid, points_mm: Array) -> Array:
    """Interpolate channels trilinearly at points; outside the grid its border value is repeated.

    Args:
        channels: (nx, ny, nz, c) values on `grid`.
        grid: the grid of `channels`.
        points_mm: (..., 3) points in mm.

    Returns:
        (..., c) the values at the points.
    """
    flat = np.ascontiguousarray(channels, dtype=np.float32).reshape(-1, channels.shape[-1])
    points = points_mm.reshape(-1, 3)
    out = np.empty((len(points), channels.shape[-1]), np.float32)
    for start in range(0, len(points), CHUNK):
        out[start : start + CHUNK] = _trilinear(flat, grid, points[start : start + CHUNK])
    return out.reshape(*points_mm.shape[:-1], channels.shape[-1])


def _trilinear(flat: Array, grid: Grid, points: Array) -> Array:
    """Trilinear interpolation of `flat` (nx·ny·nz, c) at `points` (n, 3): (n, c)."""
    last = np.asarray(grid.shape) - 1
    where = (points - np.asarray(grid.origin_mm, np.float32)) / np.float32(grid.spacing_mm)
    where = np.clip(where, 0, last.astype(np.float32))
    low = np.minimum(where.astype(np.int32), np.maximum(last - 1, 0).astype(np.int32))
    part = where - low  # (n, 3) in [0, 1]
    _, ny, nz = grid.shape
    base = (low[:, 0] * ny + low[:, 1]) * nz + low[:, 2]
    out = np.zeros((len(points), flat.shape[1]), np.float32)
    for dx in (0, 1):
        wx = part[:, 0] if dx else 1 - part[:, 0]
        for dy in (0, 1):
            wxy = wx * (part[:, 1] if dy else 1 - part[:, 1])
            for dz in (0, 1):
                weight = wxy * (part[:, 2] if dz else 1 - part[:, 2])
                corner = flat.take(base + (dx * ny + dy) * nz + dz, axis=0)
                corner *= weight[:, None]
                out += corner
    return out


def integrate(velocity: Array, grid: Grid, squarings: int = 6) -> Array:
    """Displacement of the flow of a stationary velocity field, by scaling and squaring.

    φ = exp(v):  u_0 = v / 2ⁿ,  u_{i+1}(p) = u_i(p) + u_i(p + u_i(p)),  φ(p) = p + u_n(p).
    The flow of a smooth field is invertible, so the anatomy is neither folded nor torn.

    Args:
        velocity: (nx, ny, nz, 3) in mm.
        grid: the grid of `velocity`.
        squarings: the number n of squarings.

    Returns:
        (nx, ny, nz, 3) the displacement u_n in mm.
    """
    points = grid.points_mm()
    displacement = velocity / np.float32(2**squarings)
    for _ in range(squarings):
        displacement = displacement + sample(displacement, grid, points + displacement)
    return displacement


def rotation(angles_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) matrix of the rotation about the vector `angles_rad` by its length (Rodrigues)."""
    angle = float(np.linalg.norm(angles_rad))
    if angle == 0:
        return np.eye(3)
    x, y, z = np.asarray(angles_rad) / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def apply_affine(matrix: NDArray[np.float64], points_mm: Array) -> Array:
    """Map points (..., 3) in mm by an affine (4, 4) matrix, in float32."""
    linear = matrix[:3, :3].T.astype(np.float32)
    return points_mm @ linear + matrix[:3, 3].astype(np.float32)
