"""Whether two scans of one person lie on each other, and pictures that show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.anatomy.offset import stack_offset
from syndiff.page.pictures import colour_uri, grey_png
from syndiff.preparation.manifest import Manifest, Scan

MOST_SLICES = 12  # that an offset is measured on
TILES = 6  # along each side of a checkerboard
EDGE_QUANTILE = 0.9  # gradients above it are drawn
ORANGE = (1.0, 0.55, 0.1)
MOST_PICTURES = 12  # pairs, worst first
Slices = NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """Two scans of one subject that are taken for a pair.

    Attributes:
        subject, split: as in the manifest.
        reference, modality: the two modalities; the second one was brought onto the first.
        offset_px, offset_mm: their displacement within the slice as it is now; None if it cannot
            be measured.
        confidence: what they say of each other, relative to what each says of itself.
        mirrored: the same with one of them mirrored left to right.
        method: how they were registered: "affine", "header", "same grid"; empty if not known.
        moved_mm: how far registration moved the head.
        before, after: mutual information in nats; None if it was not measured.
    """

    subject: str
    split: str
    reference: str
    modality: str
    offset_px: float | None
    offset_mm: float | None
    confidence: float
    mirrored: float
    method: str = ""
    moved_mm: float | None = None
    before: float | None = None
    after: float | None = None

    @property
    def name(self) -> str:
        """How the pair is named in a finding."""
        return f"{self.subject} ({self.reference}, {self.modality})"

    @property
    def looks_mirrored(self) -> bool:
        """Whether the two say clearly more of each other when one is mirrored."""
        return self.mirrored > 1.1 * self.confidence and self.mirrored > 0.05


def pairs_of(manifest: Manifest) -> list[Pair]:
    """Every pair of a prepared folder with the first modality, worst first."""
    by_place = {(s.subject, s.modality): s for s in manifest.all_scans()}
    found = []
    for scan in manifest.all_scans():
        first = by_place.get((scan.subject, scan.reference))
        if first is None or scan.modality == scan.reference or first.split != scan.split:
            continue
        if first.slice_indices == scan.slice_indices and first.grid == scan.grid:
            found.append(_measured(first, scan))
    return sorted(found, key=lambda pair: (-(pair.offset_mm or 0.0), pair.confidence))


def _measured(first: Scan, other: Scan) -> Pair:
    a, b = (np.nan_to_num(_some(scan.load())) for scan in (first, other))
    offset = stack_offset(b, a)
    mirrored = stack_offset(b[:, :, ::-1], a)
    done = other.record.get("registration") or {}
    return Pair(
        subject=other.subject,
        split=other.split,
        reference=first.modality,
        modality=other.modality,
        offset_px=offset.magnitude if offset.known else None,
        offset_mm=offset.magnitude * other.grid.spacing_mm if offset.known else None,
        confidence=offset.confidence,
        mirrored=mirrored.confidence,
        method=str(done.get("method", "")),
        moved_mm=done.get("moved_mm"),
        before=done.get("mutual_information_before"),
        after=done.get("mutual_information_after"),
    )


def _some(slices: Slices) -> Slices:
    """At most MOST_SLICES evenly spread slices of a memory-mapped array (n, h, w)."""
    chosen = np.linspace(0, len(slices) - 1, min(MOST_SLICES, len(slices))).round().astype(int)
    return np.array(slices[chosen])


def pictures(manifest: Manifest, pair: Pair) -> dict[str, str]:
    """One slice of a pair as data URIs: checkerboard and edges, after and (if known) before."""
    by_place = {(s.subject, s.modality): s for s in manifest.all_scans()}
    first, other = (by_place[pair.subject, m] for m in (pair.reference, pair.modality))
    level = int(0.6 * (first.count - 1))
    a, b = (np.nan_to_num(np.array(scan.load()[level])) for scan in (first, other))
    rows, columns = _shown(a, b)
    fixed = a[rows, columns]
    made = {"after": b, "before": before(other, level)}
    shown = {}
    for when, image in made.items():
        if image is not None:
            moving = image[rows, columns]
            shown[f"{when}_checkerboard"] = grey_png(checkerboard(fixed, moving), 1.0)
            shown[f"{when}_edges"] = colour_uri(edges(fixed, moving))
    return shown


def _shown(*images: Slices) -> tuple[slice, slice]:
    """The square around the content of images (h, w)."""
    content = np.maximum.reduce(images) > 0.05
    sides = [np.flatnonzero(content.any(axis=axis)) for axis in (1, 0)]
    if not all(len(side) for side in sides):
        return slice(None), slice(None)
    half = max(int(side[-1] - side[0]) for side in sides) // 2 + 3
    low = [max(int(side[0] + side[-1]) // 2 - half, 0) for side in sides]
    return slice(low[0], low[0] + 2 * half + 1), slice(low[1], low[1] + 2 * half + 1)


def before(scan: Scan, level: int) -> Slices | None:
    """A prepared slice as it lay before registration, by the positions in the headers.

    The registered image r(p) is the scan at M p, with M from the reference's world to the scan's;
    by the headers the scan at p would be shown, which is r(inverse of M, p). What registration has
    moved out of the slices is missing.

    Args:
        scan: a scan that was brought onto another one's grid.
        level: index of the slice.

    Returns:
        (h, w); None if nothing was registered, or the grid is not known.
    """
    done: Mapping[str, Any] = scan.record.get("registration") or {}
    native = scan.record.get("native_affine")
    if done.get("method") != "affine" or native is None or scan.count < 2:
        return None
    to_world = np.asarray(native, np.float64) @ _to_native(scan)
    matrix = np.linalg.inv(to_world) @ np.linalg.inv(done["reference_to_scan_world_mm"]) @ to_world
    h, w = scan.grid.shape
    y, x = np.meshgrid(np.arange(h), np.arange(w), indexing="ij")
    at = np.stack([x, y, np.full_like(x, level), np.ones_like(x)]).reshape(4, -1)
    where = (matrix @ at)[:3].reshape(3, h, w)
    return ndimage.map_coordinates(np.nan_to_num(np.array(scan.load())), where[::-1], order=1)


def _to_native(scan: Scan) -> NDArray[np.float64]:
    """(4, 4): index (x, y, k) of a prepared slice → voxel of the scan's grid."""
    matrix = np.eye(4)
    for row, axis in ((0, 1), (1, 0)):
        start = scan.grid.native_index(axis, 0)
        matrix[row, row], matrix[row, 3] = scan.grid.native_index(axis, 1) - start, start
    z = np.asarray(scan.slice_indices)
    matrix[2, 2], matrix[2, 3] = (z[-1] - z[0]) / (len(z) - 1), z[0]
    return matrix


def checkerboard(a: Slices, b: Slices) -> Slices:
    """Tiles of two slices (h, w) in turn."""
    tiles = [np.arange(n) * TILES // n for n in a.shape]
    odd = (tiles[0][:, None] + tiles[1][None]) % 2 == 1
    return np.where(odd, _bright(b), _bright(a))


def edges(a: Slices, b: Slices) -> NDArray[np.float32]:
    """The first slice (h, w) in greys, with the edges of the second one in orange: (h, w, 3)."""
    slope = ndimage.gaussian_gradient_magnitude(np.asarray(b, np.float32), 1.0)
    inside = slope > 1e-3
    limit = float(np.quantile(slope[inside], EDGE_QUANTILE)) if inside.any() else np.inf
    grey = np.repeat(_bright(a)[..., None], 3, axis=2)
    return np.where((slope > limit)[..., None], np.array(ORANGE, np.float32), grey)


def _bright(image: Slices) -> Slices:
    top = float(np.quantile(image, 0.995))
    return np.clip(image / max(top, 1e-6), 0, 1)
