"""One person's head: the average head, made individual, as exact tissue fractions on any grid.

A point of the scan's world is taken back to the atlas: undo the pose (an affine), then the
person's shape (a diffeomorphism), then look the atlas up. Everything is looked up once and at its
true place, so a displaced scan is the same head elsewhere, not a blurred copy of an image.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.phantom.atlas import Atlas, load_atlas
from syndiff.phantom.fields import (
    Array,
    Grid,
    apply_affine,
    integrate,
    rotation,
    sample,
    smooth_field,
)
from syndiff.phantom.signal import LABEL, TISSUES

EXTENT_MM = (192.0, 224.0, 192.0)  # holds the largest head with a margin of air
CENTRE_MM = (0.0, -18.0, 14.0)
HEAD_RADIUS_MM = 80.0  # of the sphere over which a rigid displacement is averaged
WARP_STEP_MM = 4.0
# the atlas channels that a scan looks up
CHANNELS = ("csf", "grey", "white", "brain", "skull", "head", "eye", "cavity", "texture", "lesion")


@dataclass(frozen=True)
class Anatomy:
    """One person's head, ready to be looked at from any grid.

    Attributes:
        atlas_grid: grid of `channels`.
        channels: (nx, ny, nz, 10) see `CHANNELS`: shares 0..1, distances in mm, texture.
        warp_grid: grid of `displacement`.
        displacement: (wx, wy, wz, 3) mm, from the person's unposed head to the atlas.
        pose: (4, 4) from the unposed head to the scan's world, mm: size, tilt, position.
    """

    atlas_grid: Grid
    channels: Array
    warp_grid: Grid
    displacement: Array
    pose: NDArray[np.float64]


def random_stream(seed: int, index: int, *purpose: str) -> np.random.Generator:
    """Random numbers of subject `index` for one purpose; no purpose disturbs another."""
    code = zlib.crc32("/".join(purpose).encode())
    return np.random.default_rng(np.random.SeedSequence([seed, index, code]))


def scan_grid(spacing_mm: float) -> Grid:
    """The grid of every scan of a cohort: RAS+, isotropic, about 19 × 22 × 19 cm."""
    shape = tuple(int(np.ceil(e / spacing_mm - 1e-6)) for e in EXTENT_MM)
    origin = [c - spacing_mm * (n - 1) / 2 for c, n in zip(CENTRE_MM, shape, strict=True)]
    return Grid((origin[0], origin[1], origin[2]), spacing_mm, (shape[0], shape[1], shape[2]))


def make_anatomy(index: int, seed: int, spacing_mm: float, lesions: int = 0) -> Anatomy:
    """Draw the head of subject `index`.

    Args:
        spacing_mm: of the scans to come; it only chooses the atlas's resolution and blur.
        lesions: how many lesions in the white matter.
    """
    atlas = load_atlas(1 if spacing_mm < 1.5 else 2)
    body = random_stream(seed, index, "body")
    brain = _individual_brain(atlas, index, seed)
    lesion = np.zeros(atlas.grid.shape, np.float32)
    if lesions:
        lesion = _lesions(brain, atlas, lesions, random_stream(seed, index, "lesions"))
    brain, lesion = (
        _blur_to(spacing_mm, brain, atlas.grid),
        _blur_to(spacing_mm, lesion[..., None], atlas.grid),
    )
    skull, head = _shells(atlas, body)
    texture = smooth_field(random_stream(seed, index, "texture"), atlas.grid, 3.0)
    single = (atlas.to_brain_mm, skull, head, atlas.to_eye_mm, atlas.to_cavity_mm, texture)
    channels = np.concatenate([brain, np.stack(single, axis=-1), lesion], axis=-1)
    warp_grid = _warp_grid()
    velocity = _velocity(atlas, warp_grid, index, seed)
    return Anatomy(atlas.grid, channels, warp_grid, integrate(velocity, warp_grid), _pose(body))


def _individual_brain(atlas: Atlas, index: int, seed: int) -> Array:
    """CSF, grey and white shares with folds and atrophy of one's own: (nx, ny, nz, 3).

    w_k ∝ p_k exp(a n_k): smooth noise n_k decides where the average is undecided, which is in the
    folds of the cortex; where the average is sure, nothing changes.
    """
    rng = random_stream(seed, index, "folds")
    atrophy = float(np.exp(rng.normal(0.0, 0.5)))  # weight of fluid: wide or narrow sulci
    cortical = 1 / (1 + np.exp(-(atlas.to_brain_mm + 22) / 4))  # 1 near the surface, 0 deep
    shares = atlas.brain.copy()
    shares[..., 0] *= 1 + (atrophy - 1) * cortical
    for k, amplitude in enumerate((1.4, 1.0, 1.0)):
        noise = smooth_field(rng, atlas.grid, 5.0)
        shares[..., k] *= np.exp(amplitude * (0.25 + 0.75 * cortical) * noise)
    shares /= np.maximum(shares.sum(axis=-1, keepdims=True), 1e-6)
    shares[..., 1:] *= atlas.mask[..., None]  # nothing of the brain beyond its mask
    shares[..., 0] = 1 - shares[..., 1] - shares[..., 2]
    return shares


def _lesions(brain: Array, atlas: Atlas, count: int, rng: np.random.Generator) -> Array:
    """`count` round blobs of 3 to 7 mm radius in deep white matter: (nx, ny, nz), 0..1."""
    x, y, z = atlas.grid.axes_mm()
    sure = (brain[..., 2] > 0.95) & (atlas.to_brain_mm < -15)
    sure &= (z > -5)[None, None, :]
    places = np.argwhere(sure)
    lesion = np.zeros(atlas.grid.shape, np.float32)
    chosen: list[NDArray[np.float64]] = []
    for _ in range(count):
        for _attempt in range(50):  # apart from each other where there is room
            i, j, k = places[rng.integers(len(places))]
            centre = np.array([x[i], y[j], z[k]])
            if all(np.linalg.norm(centre - other) > 16 for other in chosen):
                break
        chosen.append(centre)
        radius, stretch = rng.uniform(3.0, 7.0), rng.uniform(0.75, 1.3, 3)
        dx, dy, dz = ((a - c) / s for a, c, s in zip((x, y, z), centre, stretch, strict=True))
        distance = np.sqrt(dx[:, None, None] ** 2 + dy[None, :, None] ** 2 + dz[None, None] ** 2)
        blob = np.clip(0.5 - (distance - radius) / 2.0, 0, 1).astype(np.float32)
        np.maximum(lesion, blob, out=lesion)
    return lesion


def _blur_to(spacing_mm: float, maps: Array, grid: Grid) -> Array:
    """Average maps (nx, ny, nz, c) over the size of a coarser voxel, as its partial volume."""
    if spacing_mm <= grid.spacing_mm:
        return maps
    sigma = np.sqrt((spacing_mm**2 - grid.spacing_mm**2) / 12) / grid.spacing_mm
    return np.asarray(ndimage.gaussian_filter(maps, (sigma, sigma, sigma, 0)))


def _shells(atlas: Atlas, rng: np.random.Generator) -> tuple[Array, Array]:
    """Distances to the outer face of the skull and to the skin, of varying thickness."""
    bone = rng.uniform(5.0, 7.5) + 0.8 * smooth_field(rng, atlas.grid, 40.0)
    soft = rng.normal(0.0, 1.0) + 0.6 * smooth_field(rng, atlas.grid, 50.0)
    skull = atlas.to_brain_mm - np.maximum(bone, 3.5)
    return skull.astype(np.float32), (atlas.to_head_mm - soft).astype(np.float32)


def _pose(rng: np.random.Generator) -> NDArray[np.float64]:
    """Size, proportions, tilt and position of a head in the scanner: (4, 4) in mm."""
    pose = np.eye(4)
    size = rng.normal(0.94, 0.02) * (1 + rng.normal(0.0, 0.02, 3))
    size = np.clip(size, 0.86, 1.0)
    pose[:3, :3] = rotation(np.deg2rad(rng.normal(0.0, 3.0, 3))) @ np.diag(size)
    centre = np.asarray(CENTRE_MM)
    pose[:3, 3] = centre - pose[:3, :3] @ centre + np.clip(rng.normal(0.0, 2.0, 3), -4, 4)
    return pose


@lru_cache(maxsize=1)
def _warp_grid() -> Grid:
    """A coarse grid about the whole head, on which displacements are integrated."""
    shape = tuple(int(np.ceil(e / WARP_STEP_MM)) + 8 for e in EXTENT_MM)
    origin = [c - WARP_STEP_MM * (n - 1) / 2 for c, n in zip(CENTRE_MM, shape, strict=True)]
    return Grid((origin[0], origin[1], origin[2]), WARP_STEP_MM, (shape[0], shape[1], shape[2]))


def _velocity(atlas: Atlas, grid: Grid, index: int, seed: int) -> Array:
    """Stationary velocity (wx, wy, wz, 3) in mm: broad shape, local shape, ventricle size."""
    rng = random_stream(seed, index, "shape")
    velocity = np.empty((*grid.shape, 3), np.float32)
    for axis in range(3):
        velocity[..., axis] = 2.5 * smooth_field(rng, grid, 45.0)
        velocity[..., axis] += 1.3 * smooth_field(rng, grid, 18.0)
    points = grid.points_mm()
    ventricles = sample(atlas.ventricles[..., None], atlas.grid, points)[..., 0]
    gradient = np.stack(np.gradient(ventricles, grid.spacing_mm), axis=-1)
    # towards the ventricles' middle: scan → atlas, so the ventricles grow
    return velocity + np.float32(rng.uniform(-25.0, 70.0)) * gradient.astype(np.float32)


def rigid_displacement(rng: np.random.Generator, rms_mm: float) -> NDArray[np.float64]:
    """A random rigid motion (4, 4) about the head's centre, of exactly the given size.

    Its size is the root mean square displacement over a ball of radius R = 80 mm (Jenkinson):
    rms² = R²/5 · tr(MᵀM) + |t|², M = rotation − 1, tr(MᵀM) = 4 (1 − cos θ); half of rms² is
    rotation and half translation.
    """
    axis, direction = (v / np.linalg.norm(v) for v in rng.standard_normal((2, 3)))
    angle = np.arccos(1 - rms_mm**2 / 2 / (0.8 * HEAD_RADIUS_MM**2))
    motion, centre = np.eye(4), np.asarray(CENTRE_MM)
    motion[:3, :3] = rotation(axis * angle)
    motion[:3, 3] = centre - motion[:3, :3] @ centre + direction * rms_mm / np.sqrt(2)
    return motion


def look_up(anatomy: Anatomy, grid: Grid, motion: NDArray[np.float64]) -> Array:
    """The atlas channels of a head, seen from a scan's grid: (nx, ny, nz, 10).

    Args:
        motion: (4, 4) where the head has moved since it was at its own place, mm.
    """
    back = np.linalg.inv(motion @ anatomy.pose)
    unposed = apply_affine(back, grid.points_mm())
    unposed += sample(anatomy.displacement, anatomy.warp_grid, unposed)
    return sample(anatomy.channels, anatomy.atlas_grid, unposed)


def tissue_fractions(channels: Array, spacing_mm: float) -> Array:
    """Fractions of every tissue: (k, nx, ny, nz), order of `TISSUES`, summing to 1.

    The shells are nested: the share of a voxel inside a surface at signed distance d is
    c(d) = clip(1/2 − d / width, 0, 1); a layer is the difference of two neighbouring surfaces.
    """
    get = {name: channels[..., i] for i, name in enumerate(CHANNELS)}
    layers = (  # from inside out: what lies inside each surface
        (None, get["brain"]),
        ("bone", get["brain"] - 1.8),
        ("marrow", get["skull"] + 2.0),
        ("bone", get["skull"]),
        ("muscle", get["head"] + 6.0),
        ("fat", get["head"] + 1.6),
        ("skin", get["head"]),
    )
    fractions = np.zeros((len(TISSUES), *channels.shape[:3]), np.float32)
    inner = np.zeros(channels.shape[:3], np.float32)
    for name, distance in layers:
        outer = np.maximum(np.clip(0.5 - distance / spacing_mm, 0, 1), inner)
        if name is None:
            intracranial = outer
        else:
            fractions[LABEL[name]] += outer - inner
        inner = outer
    fractions[LABEL["background"]] = 1 - inner
    _add_face(fractions, get, spacing_mm)
    _add_brain(fractions, get, intracranial)
    return fractions


def _add_face(fractions: Array, get: dict[str, Array], spacing_mm: float) -> None:
    """Put eyes and the nose's air with its bony wall into the soft tissue, in place."""
    soft = [LABEL[name] for name in ("muscle", "fat")]
    places = (
        ("eye", get["eye"]),
        ("bone", get["cavity"] - 2.0),
        ("background", get["cavity"]),
    )
    for name, distance in places:
        share = np.clip(0.5 - distance / spacing_mm, 0, 1)
        giving = [*soft, LABEL["bone"]] if name == "background" else soft
        outside_skull = np.clip(get["skull"] / spacing_mm + 0.5, 0, 1)  # spare the skull base
        for label in giving:
            taken = fractions[label] * share * outside_skull
            fractions[label] -= taken
            fractions[LABEL[name]] += taken


def _add_brain(fractions: Array, get: dict[str, Array], intracranial: Array) -> None:
    """Divide the inside of the skull between fluid, grey matter, white matter, lesions."""
    lesion = get["lesion"] * (get["grey"] + get["white"])  # never in fluid
    healthy = 1 - get["lesion"]
    fractions[LABEL["grey_matter"]] = get["grey"] * healthy * intracranial
    fractions[LABEL["white_matter"]] = get["white"] * healthy * intracranial
    fractions[LABEL["lesion"]] = lesion * intracranial
    fractions[LABEL["cerebrospinal_fluid"]] = get["csf"] * intracranial


def displaced(
    person: Anatomy, shift_mm: NDArray[np.float64], turn_rad: NDArray[np.float64]
) -> Anatomy:
    """The person after a movement of the head: turned about `CENTRE_MM`, then shifted.

    Maps and textures are looked up by trilinear interpolation; what enters from outside the field
    of view repeats its border.
    """
    inverse = np.eye(4)
    inverse[:3, :3] = rotation(turn_rad).T
    inverse[:3, 3] = CENTRE_MM - inverse[:3, :3] @ (CENTRE_MM + shift_mm)
    points = apply_affine(inverse, person.grid.points_mm())
    stacked = np.concatenate([person.maps, person.textures], axis=-1)
    moved = sample(stacked, person.grid, points)
    return Anatomy(person.grid, moved[..., : len(TISSUES)], moved[..., len(TISSUES) :])
