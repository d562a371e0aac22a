"""Virtual anatomy: exact tissue maps of invented persons.

The brain comes from the MNI152 maps of grey and white matter that nilearn ships. The maps are
sharpened, because an average brain is blurred. Each person's brain is warped by an affine map and
by the flow of a smooth velocity field. The tissues around the brain are layers in the distance map
of the brain mask: cerebrospinal fluid, skull with marrow, muscle, fat and skin.

The warp maps points of the person to points of the atlas: atlas point = φ(A⁻¹ p), with φ the flow.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from syndiff.phantom.fields import (
    Array,
    Grid,
    apply_affine,
    integrate,
    rotation,
    sample,
    smooth_field,
)
from syndiff.phantom.signal import INDEX, TISSUES

CENTRE_MM = np.array([0.0, -17.0, 5.0])  # middle of the MNI152 brain
FIELD_OF_VIEW_MM = (192.0, 224.0, 180.0)  # fits the largest head with some air; ends at the neck
VIEW_CENTRE_MM = (0.0, -17.0, 18.0)
COARSE_MM = 5.0  # the flow is smooth: it is integrated on a coarse grid
BASE_MM = -22.0  # below this height the outline of the head is vertical
EYES_MM = ((-32.0, 60.0, -36.0), (32.0, 60.0, -36.0))
EYE_RADIUS_MM, ORBIT_RADIUS_MM = 11.5, 18.0


@dataclass(frozen=True)
class Atlas:
    """The average head.

    Attributes:
        grid: the grid of the maps, with 2 mm voxels.
        channels: (nx, ny, nz, 5): sharpened fractions of fluid, grey and white matter inside the
            brain mask; signed distances to the brain and to the head's core in mm, negative
            inside.
        push: (nx, ny, nz, 3) velocity field that widens the ventricles, of length about 1 there.
        white_mm: (n, 3) points deep in white matter, where lesions may lie, in mm.
    """

    grid: Grid
    channels: Array
    push: Array
    white_mm: Array


@dataclass(frozen=True)
class Anatomy:
    """The anatomy of one person.

    Attributes:
        grid: the grid of the maps.
        maps: (nx, ny, nz, tissues) fractions that sum to 1, in the order of `signal.TISSUES`.
        textures: (nx, ny, nz, 2) relative deviations of T1 and T2.
    """

    grid: Grid
    maps: Array
    textures: Array

    @property
    def labels(self) -> NDArray[np.uint8]:
        """(nx, ny, nz): index of the tissue that fills most of the voxel."""
        return np.argmax(self.maps, axis=-1).astype(np.uint8)


def view(spacing_mm: float) -> Grid:
    """The grid of the scans, RAS+; the field of view is the same at every spacing."""
    nx, ny, nz = (int(np.ceil(length / spacing_mm)) for length in FIELD_OF_VIEW_MM)
    x, y, z = (
        c - spacing_mm * (n - 1) / 2 for c, n in zip(VIEW_CENTRE_MM, (nx, ny, nz), strict=True)
    )
    return Grid((x, y, z), spacing_mm, (nx, ny, nz))


@lru_cache(maxsize=1)
def atlas() -> Atlas:
    """The atlas at 2 mm, which is computed once per process."""
    grey, white, mask, grid = _load()
    grey, white = grey * mask, white * mask
    fluid = np.clip(mask - grey - white, 0, 1)
    powers = np.stack([fluid, grey, white], axis=-1) ** 3
    sharp = powers / np.maximum(powers.sum(axis=-1, keepdims=True), 1e-6) * mask[..., None]
    brain = _distance_mm(mask > 0.5, grid)
    head = _distance_mm(_with_neck(mask > 0.5, grid), grid)
    white_mm = grid.points_mm()[(sharp[..., 2] > 0.97) & (brain < -12)]
    return Atlas(
        grid,
        np.concatenate([sharp, brain[..., None], head[..., None]], axis=-1).astype(np.float32),
        _ventricle_push(sharp[..., 0], brain, grid),
        white_mm[white_mm[:, 2] > -5],
    )


def _load() -> tuple[Array, Array, Array, Grid]:
    """nilearn's maps of grey matter, white matter and brain mask, padded below for the neck."""
    from nilearn import datasets

    below = 12
    loaders = (
        datasets.load_mni152_gm_template,
        datasets.load_mni152_wm_template,
        datasets.load_mni152_brain_mask,
    )
    images = [load(resolution=2) for load in loaders]
    padding = ((0, 0), (0, 0), (below, 0))
    grey, white, mask = (np.pad(i.get_fdata().astype(np.float32), padding) for i in images)
    x, y, z = images[0].affine[:3, 3].tolist()
    return grey, white, mask, Grid((x, y, z - 2.0 * below), 2.0, mask.shape)


def _distance_mm(inside: NDArray[np.bool_], grid: Grid) -> Array:
    """Signed distance to the border of `inside` in mm, negative inside, slightly smoothed."""
    from scipy import ndimage

    outer = ndimage.distance_transform_edt(~inside)
    inner = ndimage.distance_transform_edt(inside)
    signed = np.where(inside, 0.5 - inner, outer - 0.5) * grid.spacing_mm
    return np.asarray(ndimage.gaussian_filter(signed, 1.0), dtype=np.float32)


def _with_neck(brain: NDArray[np.bool_], grid: Grid) -> NDArray[np.bool_]:
    """Extend the brain mask vertically below its base, so that the head does not taper off."""
    base = round((BASE_MM - grid.origin_mm[2]) / grid.spacing_mm)
    head = brain.copy()
    head[:, :, :base] |= brain[:, :, base : base + 1]
    return head


def _ventricle_push(fluid: Array, brain: Array, grid: Grid) -> Array:
    """Velocity −∇d, with d the distance to the ventricles, which fades out on a scale of 14 mm.

    The flow maps the person to the atlas, so moving points towards the ventricles widens them.
    """
    from scipy import ndimage

    names, _ = ndimage.label((fluid > 0.5) & (brain < -18))
    sizes = np.bincount(names.ravel())[1:]
    ventricles = np.isin(names, 1 + np.flatnonzero(sizes > 100))
    distance = ndimage.gaussian_filter(_distance_mm(ventricles, grid), 1.5)
    gradient = np.stack(np.gradient(distance, grid.spacing_mm), axis=-1)
    fade = np.exp(-((np.maximum(distance, 0) / 14.0) ** 2))
    return np.asarray(-gradient * fade[..., None], dtype=np.float32)


def invent(
    rng: np.random.Generator, grid: Grid, lesion_rng: np.random.Generator, lesions: int = 0
) -> Anatomy:
    """Invent a person; the random draws do not depend on the grid.

    Args:
        rng: generator for anatomy and textures.
        grid: the grid of the person's maps.
        lesion_rng: generator for the lesions.
        lesions: number of white-matter lesions.
    """
    average = atlas()
    where = _to_atlas(rng, grid, average)
    looked_up = sample(average.channels, average.grid, where)
    inner = _individual_folds(rng, grid, looked_up[..., :3])
    maps = _with_shells(rng, grid, inner, looked_up[..., 3], looked_up[..., 4], where)
    _add_lesions(lesion_rng, maps, where, average, lesions)
    textures = [0.04 * smooth_field(rng, grid, 9.0) for _ in range(2)]
    return Anatomy(grid, maps, np.stack(textures, axis=-1).astype(np.float32))


def _to_atlas(rng: np.random.Generator, grid: Grid, average: Atlas) -> Array:
    """The point of the atlas for each voxel of a person, in mm: (nx, ny, nz, 3)."""
    # MNI152 brains are larger than most. With its outer layers a head stays within 175 × 205 mm.
    size = np.clip(rng.normal(0.90, 0.02), 0.86, 0.93)
    scales = size * np.clip(rng.normal(1.0, 0.02, 3), 0.97, 1.02)
    turn = rotation(np.deg2rad(rng.normal(0, 3.0, 3).clip(-6, 6)))
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag(scales)
    shift = rng.normal(0, 2.5, 3).clip(-5, 5)
    matrix[:3, 3] = CENTRE_MM + shift - matrix[:3, :3] @ CENTRE_MM
    coarse = _coarse(average.grid)
    velocity = np.stack([_random_velocity(rng, coarse) for _ in range(3)], axis=-1)
    velocity += rng.uniform(-1.0, 5.0) * sample(average.push, average.grid, coarse.points_mm())
    flow = integrate(velocity, coarse)
    inverse = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
    points = apply_affine(inverse, grid.points_mm())
    return points + sample(flow, coarse, points)


def _random_velocity(rng: np.random.Generator, grid: Grid) -> Array:
    """One component of the velocity in mm, which varies the head's shape and each gyrus."""
    return 3.5 * smooth_field(rng, grid, 45.0) + 1.5 * smooth_field(rng, grid, 22.0)


def _coarse(grid: Grid) -> Grid:
    nx, ny, nz = (int(np.ceil(n * grid.spacing_mm / COARSE_MM)) + 1 for n in grid.shape)
    return Grid(grid.origin_mm, COARSE_MM, (nx, ny, nz))


def _individual_folds(rng: np.random.Generator, grid: Grid, inner: Array) -> Array:
    """Move the borders between fluid, grey and white matter by random fields.

    The sulci and the thickness of the cortex thus differ between persons. Fractions are weighted
    by e^(field) and renormalised to the brain's fraction of the voxel.
    """
    fields = np.stack([0.7 * smooth_field(rng, grid, 10.0) for _ in range(3)], axis=-1)
    weighted = inner * np.exp(fields)
    brain = inner.sum(axis=-1, keepdims=True)
    return weighted * (brain / np.maximum(weighted.sum(axis=-1, keepdims=True), 1e-6))


def _below(distance: Array, limit: Array | float, grid: Grid) -> Array:
    """Fraction of a voxel where `distance` is below `limit`: a ramp one voxel wide."""
    return np.clip((limit - distance) / grid.spacing_mm + 0.5, 0, 1).astype(np.float32)


def _with_shells(
    rng: np.random.Generator, grid: Grid, inner: Array, brain: Array, head: Array, where: Array
) -> Array:
    """Maps of all tissues: first the brain, then the layers around it, from what is left.

    Args:
        rng: generator for the thickness of the layers.
        grid: the grid of the person.
        inner: (nx, ny, nz, 3) fractions of fluid, grey and white matter in the brain.
        brain, head: (nx, ny, nz) distances to the brain and to the head's core in mm.
        where: (nx, ny, nz, 3) points of the atlas in mm.
    """
    fluid_mm = rng.uniform(1.5, 3.5)
    skull_mm = rng.uniform(5.0, 7.5) * (1 + 0.15 * smooth_field(rng, grid, 40.0))
    scalp_mm = rng.uniform(4.0, 7.0) * (1 + 0.15 * smooth_field(rng, grid, 40.0))
    depth = fluid_mm + skull_mm + scalp_mm - head  # below the skin's surface
    eyes = [np.linalg.norm(where - np.array(eye, np.float32), axis=-1) for eye in EYES_MM]
    to_eye = np.minimum(*eyes)
    maps = np.zeros((*grid.shape, len(TISSUES)), np.float32)
    left = _below(-depth, 0.0, grid)
    maps[..., INDEX["background"]] = 1 - left
    for part, name in enumerate(("csf", "grey_matter", "white_matter")):
        maps[..., INDEX[name]] = left * inner[..., part]
    left = left * (1 - np.minimum(inner.sum(axis=-1), 1))
    in_marrow = _below(np.abs(brain - fluid_mm - skull_mm / 2), 0.22 * skull_mm, grid)
    in_fat = np.maximum(_below(depth, scalp_mm, grid), _below(to_eye, ORBIT_RADIUS_MM, grid))
    for name, share in (
        ("csf", _below(brain, fluid_mm, grid)),
        ("marrow", 0.8 * in_marrow),
        ("bone", _below(brain, fluid_mm + skull_mm, grid)),
        ("skin", _below(depth, 1.8, grid)),
        ("eye", _below(to_eye, EYE_RADIUS_MM, grid)),
        ("fat", in_fat),
        ("muscle", np.ones_like(left)),
    ):
        maps[..., INDEX[name]] += left * share
        left = left * (1 - share)
    return maps


def _add_lesions(
    rng: np.random.Generator, maps: Array, where: Array, average: Atlas, lesions: int
) -> None:
    """Turn white matter into lesions within `lesions` ellipsoids."""
    inside = np.zeros(maps.shape[:3], np.float32)
    for _ in range(lesions):
        centre = average.white_mm[rng.integers(len(average.white_mm))]
        radii = rng.uniform(3.0, 7.0, 3).astype(np.float32)
        reach = np.linalg.norm((where - centre) / radii, axis=-1)
        np.maximum(inside, np.clip((1.2 - reach) / 0.4, 0, 1), out=inside)
    white = INDEX["white_matter"]
    maps[..., INDEX["lesion"]] = maps[..., white] * inside
    maps[..., white] *= 1 - inside


def displaced(
    person: Anatomy, shift_mm: NDArray[np.float64], turn_rad: NDArray[np.float64]
) -> Anatomy:
    """The person after a movement of the head: a rotation about `CENTRE_MM`, then a shift.

    Maps and textures are interpolated trilinearly. Outside the field of view the values at its
    border are repeated.

    Args:
        person: the anatomy before the movement.
        shift_mm: (3,) the shift in mm.
        turn_rad: (3,) the rotation vector: axis times angle in radians.
    """
    inverse = np.eye(4)
    inverse[:3, :3] = rotation(turn_rad).T
    inverse[:3, 3] = CENTRE_MM - inverse[:3, :3] @ (CENTRE_MM + shift_mm)
    points = apply_affine(inverse, person.grid.points_mm())
    stacked = np.concatenate([person.maps, person.textures], axis=-1)
    moved = sample(stacked, person.grid, points)
    return Anatomy(person.grid, moved[..., : len(TISSUES)], moved[..., len(TISSUES) :])
