"""Shapes given by their signed distance, painted onto a grid one in front of the other.

A shape is a function of points that returns the signed distance to its surface in mm, negative
inside. The distances of tapered capsules and of triangles follow I. Quilez, "Distance functions"
(iquilezles.org/articles/distfunctions). Shapes are evaluated in a box around them only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from syndiff.phantom.fields import Array, Grid

Point = tuple[float, float, float]
Coordinates = tuple[Array, Array, Array]
Distance = Callable[[Coordinates], Array]
Box = tuple[slice, slice, slice]
MARGIN_MM = 14.0  # around a shape: the warp, and the shape's soft edge
FAR_MM = 60.0


@dataclass(frozen=True)
class Shape:
    """A signed distance and where it is needed.

    Attributes:
        distance: (x, y, z) in mm → signed distance in mm.
        low, high: corners of a box around the shape in mm.
        both_sides: the same on the left; `low` and `high` then describe the right one.
    """

    distance: Distance
    low: Point
    high: Point
    both_sides: bool = False


def limb(points: Sequence[Point], radii: Sequence[float], both_sides: bool = True) -> Shape:
    """A chain of tapered capsules along points: muscles, vessels, shafts of bones."""
    pieces = [
        (np.array(a), np.array(b), ra, rb)
        for a, b, ra, rb in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True)
    ]

    def distance(at: Coordinates) -> Array:
        return _least(_capsule(at, *piece) for piece in pieces)

    return Shape(distance, *_box_around(points, max(radii)), both_sides)


def _capsule(
    at: Coordinates, a: NDArray[np.float64], b: NDArray[np.float64], ra: float, rb: float
) -> Array:
    along = b - a
    x, y, z = (c - np.float32(start) for c, start in zip(at, a, strict=True))
    dx, dy, dz = (np.float32(v) for v in along)
    share = np.clip((x * dx + y * dy + z * dz) / np.float32(along @ along), 0, 1)
    x -= share * dx
    y -= share * dy
    z -= share * dz
    length = np.sqrt(x * x + y * y + z * z)
    return np.asarray(length - (np.float32(ra) + share * np.float32(rb - ra)), np.float32)


def ellipsoid(
    centre: Point, radii: Point, both_sides: bool = False, tilt_deg: float = 0.0
) -> Shape:
    """An ellipsoid, turned about the axis from left to right by `tilt_deg`."""
    cos, sin = (np.float32(f(np.deg2rad(tilt_deg))) for f in (np.cos, np.sin))

    def distance(at: Coordinates) -> Array:
        x, y, z = (c - np.float32(m) for c, m in zip(at, centre, strict=True))
        y, z = cos * y + sin * z, cos * z - sin * y
        scaled = [c / np.float32(r) for c, r in zip((x, y, z), radii, strict=True)]
        twice = [c / np.float32(r) for c, r in zip(scaled, radii, strict=True)]
        k0 = np.sqrt(sum(c * c for c in scaled))
        k1 = np.sqrt(sum(c * c for c in twice))
        inner = -np.float32(min(radii))
        return np.where(k1 > 1e-6, k0 * (k0 - 1) / np.maximum(k1, 1e-6), inner).astype(np.float32)

    return Shape(distance, *_box_around([centre], max(radii)), both_sides)


def merged(shapes: Sequence[Shape]) -> Shape:
    """Shapes of the same sides as one."""

    def distance(at: Coordinates) -> Array:
        return _least(shape.distance(at) for shape in shapes)

    low = np.min([shape.low for shape in shapes], axis=0).tolist()
    high = np.max([shape.high for shape in shapes], axis=0).tolist()
    return Shape(distance, tuple(low), tuple(high), shapes[0].both_sides)


def sheet(triangles: Sequence[tuple[Point, Point, Point]], thickness_mm: float) -> Shape:
    """Triangles with rounded edges, on both sides: the wing of the ilium."""

    def distance(at: Coordinates) -> Array:
        return _least(_triangle(at, *np.array(t, float)) for t in triangles) - np.float32(
            thickness_mm / 2
        )

    corners = [corner for triangle in triangles for corner in triangle]
    return Shape(distance, *_box_around(corners, thickness_mm), both_sides=True)


def _triangle(
    at: Coordinates, a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]
) -> Array:
    """The unsigned distance to a triangle."""
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal)
    edges = _least(_capsule(at, p, q, 0.0, 0.0) for p, q in ((a, b), (b, c), (c, a)))
    plane = _dot(at, normal, a)
    within = np.ones(plane.shape, bool)
    for p, q in ((a, b), (b, c), (c, a)):
        within &= _dot(at, np.cross(normal, q - p), p) >= 0
    return np.where(within, np.abs(plane), edges)


def _dot(at: Coordinates, direction: NDArray[np.float64], start: NDArray[np.float64]) -> Array:
    total = sum(
        (c - np.float32(s)) * np.float32(d) for c, s, d in zip(at, start, direction, strict=True)
    )
    return np.asarray(total, np.float32)


def _least(distances: Iterator[Array]) -> Array:
    total = next(distances)
    for one in distances:
        np.minimum(total, one, out=total)
    return total


def _box_around(points: Sequence[Point], reach: float) -> tuple[Point, Point]:
    corners = np.array(points, dtype=float)
    low, high = corners.min(axis=0) - reach, corners.max(axis=0) + reach
    return tuple(low.tolist()), tuple(high.tolist())


def blended(a: Array, b: Array, radius_mm: float) -> Array:
    """The union of two distances with a rounded seam."""
    if radius_mm <= 0:
        return np.minimum(a, b)
    seam = np.maximum(np.float32(radius_mm) - np.abs(a - b), 0) / np.float32(radius_mm)
    return np.asarray(np.minimum(a, b) - seam * seam * np.float32(radius_mm / 4), np.float32)


@dataclass
class Canvas:
    """A person's tissues as they are painted, the foremost first.

    Attributes:
        grid: the grid of the scans.
        at: three (nx, ny, nz): the point of the canonical body of each voxel, in mm.
        size: scale from the canonical body to the person.
        textures: two (nx, ny, nz): relative deviations of T1 and T2.
        tables: modality → (tissues, 3) as `signal.signal_table` returns it.
        left: (nx, ny, nz) the fraction of each voxel that is not painted yet.
        labels: (nx, ny, nz) the tissue of the largest fraction so far.
        images: modality → (nx, ny, nz) the noiseless scan.
    """

    grid: Grid
    at: Coordinates
    size: float
    textures: tuple[Array, Array]
    tables: dict[str, NDArray[np.float64]]
    left: Array = field(init=False)
    labels: NDArray[np.uint8] = field(init=False)
    images: dict[str, Array] = field(init=False)
    _most: Array = field(init=False)

    def __post_init__(self) -> None:
        shape = self.grid.shape
        self.left = np.ones(shape, np.float32)
        self.labels = np.zeros(shape, np.uint8)
        self.images = {modality: np.zeros(shape, np.float32) for modality in self.tables}
        self._most = np.zeros(shape, np.float32)

    def paint(self, share: Array, tissue: int, box: Box = (slice(None),) * 3) -> None:
        """Give a share of what is left in a box to a tissue."""
        part = self.left[box] * share
        self.left[box] -= part
        for modality, table in self.tables.items():
            signal, by_t1, by_t2 = table[tissue].astype(np.float32)
            value = signal + by_t1 * self.textures[0][box] + by_t2 * self.textures[1][box]
            self.images[modality][box] += part * value
        more = part > self._most[box]
        self.labels[box][more] = tissue
        self._most[box][more] = part[more]

    def below(self, distance: Array, limit: Array | float = 0.0) -> Array:
        """Fraction of a voxel where `distance` is below `limit`: a ramp one voxel wide."""
        return np.clip((limit - distance) / np.float32(self.grid.spacing_mm) + 0.5, 0, 1)

    def boxes(self, shape: Shape, reach_mm: float = 0.0) -> Iterator[tuple[Box, Array]]:
        """Where a shape lies, once for each side, and its distances there in mm.

        Args:
            shape: what is looked at.
            reach_mm: how far around it distances are needed.
        """
        for side in (1, -1) if shape.both_sides else (1,):
            box = self._box(shape, side, MARGIN_MM + reach_mm)
            if all(s.stop > s.start for s in box):
                x, y, z = (c[box] for c in self.at)
                yield box, shape.distance((x * np.float32(side), y, z))

    def _box(self, shape: Shape, side: int, margin: float) -> Box:
        low, high = np.array(shape.low), np.array(shape.high)
        if side < 0:
            low[0], high[0] = -high[0], -low[0]
        found = []
        for axis in range(3):
            origin, n = self.grid.origin_mm[axis], self.grid.shape[axis]
            ends = ((low[axis], -margin), (high[axis], margin))
            first, last = (
                (end * self.size + m - origin) / self.grid.spacing_mm for end, m in ends
            )
            found.append(slice(min(max(int(first), 0), n), min(max(int(last) + 2, 0), n)))
        return found[0], found[1], found[2]

    def fill(self, shape: Shape, tissue: int, share: float = 1.0, rim: int | None = None) -> None:
        """Paint a shape; `rim` is a tissue of one mm around it."""
        for box, distance in self.boxes(shape):
            self.paint(np.float32(share) * self.below(distance), tissue, box)
            if rim is not None:
                self.paint(0.7 * self.below(distance, 1.2), rim, box)

    def union(self, shapes: Sequence[Shape], seam_mm: float) -> Array:
        """(nx, ny, nz) the distance to the union of shapes; `FAR_MM` far away."""
        total = np.full(self.grid.shape, FAR_MM, np.float32)
        for shape in shapes:
            for box, distance in self.boxes(shape):
                total[box] = blended(total[box], distance, seam_mm)
        return total

    def nearest_two(self, shapes: Sequence[Shape], reach_mm: float) -> tuple[Array, Array]:
        """Two (nx, ny, nz): the distances to the nearest and to the second nearest shape."""
        first, second = (np.full(self.grid.shape, FAR_MM, np.float32) for _ in range(2))
        for shape in shapes:
            for box, distance in self.boxes(shape, reach_mm):
                second[box] = np.minimum(second[box], np.maximum(first[box], distance))
                first[box] = np.minimum(first[box], distance)
        return first, second

    def window(self, distance: Array, reach_mm: float) -> Box:
        """The box of voxels nearer than `reach_mm`."""
        near = distance < reach_mm
        found = []
        for axis in range(3):
            there = np.flatnonzero(near.any(axis=tuple(a for a in range(3) if a != axis)))
            found.append(slice(int(there[0]), int(there[-1]) + 1) if len(there) else slice(0, 0))
        return found[0], found[1], found[2]
