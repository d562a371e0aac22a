"""The average head: tissue maps of MNI152 (packaged with nilearn) and shells around them.

nilearn brings grey and white matter and the brain's mask, nothing outside. Skull, scalp, face and
eyes are geometry: everything is described by signed distances (mm, negative inside), which
interpolate well, so that each subject may choose its own thickness of bone, fat and skin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.phantom.fields import Array, Grid

SHARPENING = 3  # the maps are averages of 152 people: too soft for one person
EYE_MM = ((-32.0, 62.0, -33.0), (32.0, 62.0, -33.0))
EYE_RADIUS_MM = 12.0


@dataclass(frozen=True)
class Atlas:
    """The average head on its grid.

    Attributes:
        grid: where it lies; MNI space, mm.
        brain: (nx, ny, nz, 3) shares of CSF, grey and white matter inside the mask, sharpened.
        mask: (nx, ny, nz) the brain's mask, 0..1.
        to_brain_mm: signed distance to the inner face of the skull.
        to_head_mm: signed distance to the skin.
        to_eye_mm, to_cavity_mm: signed distances to the eyes and to the air of the nose.
        ventricles: (nx, ny, nz) smooth 0..1, whose gradient pushes the ventricles' walls.
    """

    grid: Grid
    brain: Array
    mask: Array
    to_brain_mm: Array
    to_head_mm: Array
    to_eye_mm: Array
    to_cavity_mm: Array
    ventricles: Array


@lru_cache(maxsize=2)
def load_atlas(step_mm: int = 2) -> Atlas:
    """Build the average head from nilearn's maps, offline.

    Args:
        step_mm: 1 or 2, the atlas's own resolution.
    """
    grid, grey, white, mask = _load_maps(step_mm)
    brain = _sharpen(grey, white, mask)
    inside = ndimage.binary_fill_holes(_close(mask > 0.5, 6.0, step_mm))
    to_brain = _signed_distance(inside, step_mm) - 1.0  # fluid all around the brain
    head = _head(inside, grid)
    to_head = _signed_distance(head, step_mm)
    x, y, z = _open_axes(grid)
    eyes = [np.sqrt((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) for a, b, c in EYE_MM]
    to_eye = np.minimum(*eyes) - EYE_RADIUS_MM
    to_cavity = _ellipsoid(grid, (0.0, 50.0, -58.0), (11.0, 26.0, 17.0))
    return Atlas(
        grid=grid,
        brain=brain,
        mask=mask,
        to_brain_mm=to_brain,
        to_head_mm=to_head,
        to_eye_mm=to_eye.astype(np.float32),
        to_cavity_mm=to_cavity,
        ventricles=_ventricles(brain, to_brain, grid),
    )


def _load_maps(step_mm: int) -> tuple[Grid, Array, Array, Array]:
    """nilearn's grey matter, white matter and mask on a grid of `step_mm`."""
    from nilearn import datasets  # slow to import

    loaders = (
        datasets.load_mni152_gm_template,
        datasets.load_mni152_wm_template,
        datasets.load_mni152_brain_mask,
    )
    images = [loader(resolution=1) for loader in loaders]
    maps = []
    for image in images:
        values = np.clip(np.asarray(image.dataobj, dtype=np.float32), 0, 1)
        if step_mm > 1:  # a little blur, then every second voxel: the origin stays
            values = ndimage.gaussian_filter(values, 0.3 * step_mm)[::step_mm, ::step_mm, ::step_mm]
        maps.append(np.ascontiguousarray(values))
    origin = tuple(float(v) for v in images[0].affine[:3, 3])
    return Grid(origin, float(step_mm), maps[0].shape), *maps


def _sharpen(grey: Array, white: Array, mask: Array) -> Array:
    """Shares of CSF, grey and white matter: p³ renormalised, (nx, ny, nz, 3)."""
    fluid = np.clip(1 - grey - white, 0, 1)
    shares = np.stack([fluid, grey, white], axis=-1) ** SHARPENING
    shares /= np.maximum(shares.sum(axis=-1, keepdims=True), 1e-6)
    shares[mask < 0.05] = (1, 0, 0)
    return shares


def _ventricles(brain: Array, to_brain: Array, grid: Grid) -> Array:
    """The lateral ventricles, blurred: the deepest large body of fluid."""
    x, y, z = _open_axes(grid)
    deep = (brain[..., 0] > 0.5) & (to_brain < -18) & (np.abs(x) < 45)
    deep &= (y > -60) & (y < 45) & (z > -8) & (z < 35)
    parts, count = ndimage.label(deep)
    sizes = ndimage.sum_labels(deep, parts, np.arange(1, count + 1))
    largest = parts == 1 + int(np.argmax(sizes))
    return ndimage.gaussian_filter(largest.astype(np.float32), 5.0 / grid.spacing_mm)


def _head(inside: NDArray[np.bool_], grid: Grid) -> NDArray[np.bool_]:
    """The outline of the skin: the brain's surroundings, a face and a neck."""
    step = grid.spacing_mm
    round_brain = _close(inside, 24.0, step)
    head = _signed_distance(round_brain, step) < 13.5
    head |= _ellipsoid(grid, (0.0, 30.0, -48.0), (62.0, 58.0, 62.0)) < 0  # face
    head |= _ellipsoid(grid, (0.0, -38.0, -80.0), (58.0, 62.0, 70.0)) < 0  # neck
    padded = np.pad(head, 4, mode="edge").astype(np.float32)
    return ndimage.gaussian_filter(padded, 5.0 / step)[4:-4, 4:-4, 4:-4] > 0.5


def _close(mask: NDArray[np.bool_], radius_mm: float, step_mm: float) -> NDArray[np.bool_]:
    """Morphological closing by a ball, by distances; the border of the grid does not erode."""
    pad = int(np.ceil(radius_mm / step_mm)) + 1
    padded = np.pad(mask, pad, mode="edge")
    grown = ndimage.distance_transform_edt(~padded) * step_mm < radius_mm
    closed = ndimage.distance_transform_edt(grown) * step_mm > radius_mm
    return (closed | padded)[pad:-pad, pad:-pad, pad:-pad]


def _signed_distance(mask: NDArray[np.bool_], step_mm: float) -> Array:
    """Distance to the surface of a mask in mm, negative inside, without the voxels' stairs."""
    padded = np.pad(mask, 8, mode="edge")
    distance = ndimage.distance_transform_edt(~padded) - ndimage.distance_transform_edt(padded)
    smooth = ndimage.gaussian_filter(distance.astype(np.float32) * step_mm, 2.0 / step_mm)
    return smooth[8:-8, 8:-8, 8:-8]


def _ellipsoid(
    grid: Grid, centre: tuple[float, float, float], radii: tuple[float, float, float]
) -> Array:
    """Approximate signed distance to an ellipsoid, mm (exact to first order at its surface)."""
    offsets = [a - c for a, c in zip(_open_axes(grid), centre, strict=True)]
    scaled = np.sqrt(sum((o / r) ** 2 for o, r in zip(offsets, radii, strict=True)))
    slope = np.sqrt(sum((o / r**2) ** 2 for o, r in zip(offsets, radii, strict=True)))
    distance = (scaled - 1) * scaled / np.maximum(slope, 1e-6)
    return np.asarray(np.where(scaled < 0.1, -min(radii), distance), dtype=np.float32)


def _open_axes(grid: Grid) -> tuple[Array, Array, Array]:
    """x (nx, 1, 1), y (1, ny, 1), z (1, 1, nz) in mm, which broadcast against each other."""
    x, y, z = (axis.astype(np.float32) for axis in grid.axes_mm())
    return x[:, None, None], y[None, :, None], z[None, None, :]
