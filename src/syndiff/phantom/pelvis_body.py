"""One person's pelvis on a grid: the body's outline, the layers under the skin, bones, couch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syndiff.phantom import pelvis_shapes as parts
from syndiff.phantom.fields import Array, Grid, smooth_field
from syndiff.phantom.pelvis_organs import Day, paint_organs
from syndiff.phantom.pelvis_signal import INDEX
from syndiff.phantom.shapes import Canvas, Coordinates, blended, limb

FIELD_OF_VIEW_MM = (440.0, 330.0, 210.0)  # with room for the couch
CENTRE_MM = (0.0, -20.0, 20.0)
HALF_MM = 230.0  # the random fields cover ± this
SKIN_MM = 2.0
COUCH_HALF_MM, COUCH_MM, SHELL_MM = 205.0, 42.0, 2.0  # half width, thickness, its walls
SWELL_MM = 8.0  # how far a muscle grows into the fat around it
HEIGHTS_MM = (-110, -60, -20, 10, 50, 90, 140)
CORE_MM = {  # half width, front and back of the body below the fat, at `HEIGHTS_MM`
    "side": (160, 164, 163, 158, 150, 142, 136),
    "front": (82, 86, 86, 86, 86, 88, 92),
    "back": (84, 90, 100, 106, 110, 108, 104),
}


@dataclass(frozen=True)
class Build:
    """A person.

    Attributes:
        female: a woman, with uterus and a wider pubic arch.
        size: scale of bones and organs, 1 for the canonical body.
        fat_mm: thickness of the fat under the skin at the front, the sides and the back.
    """

    female: bool
    size: float
    fat_mm: tuple[float, float, float]


def a_build(rng: np.random.Generator) -> Build:
    """Draw a person: sex, size, fat."""
    female = bool(rng.uniform() < 0.5)
    size = float(np.clip(rng.normal(0.96 if female else 1.0, 0.03), 0.9, 1.06))
    amount = float(rng.uniform(0.0, 1.0))
    shape = rng.uniform(0.85, 1.15, 3)
    thin, thick = ((14.0, 16.0, 20.0), (40.0, 36.0, 40.0)) if female else (
        (9.0, 9.0, 14.0), (42.0, 26.0, 34.0)
    )  # fmt: skip
    front, side, back = (
        float((a + amount * (b - a)) * s) for a, b, s in zip(thin, thick, shape, strict=True)
    )
    return Build(female, size, (front, side, back))


def view(spacing_mm: float) -> Grid:
    """The grid of the scans, RAS+; the field of view is the same at every spacing."""
    nx, ny, nz = (int(np.ceil(length / spacing_mm)) for length in FIELD_OF_VIEW_MM)
    x, y, z = (c - spacing_mm * (n - 1) / 2 for c, n in zip(CENTRE_MM, (nx, ny, nz), strict=True))
    return Grid((x, y, z), spacing_mm, (nx, ny, nz))


def painted(
    rng: np.random.Generator, grid: Grid, build: Build, day: Day,
    tables: dict[str, NDArray[np.float64]],
) -> Canvas:  # fmt: skip
    """Paint a person on a day; the random draws depend neither on grid, day nor modalities.

    Args:
        rng: generator of shape, texture and bowel.
        grid: the grid of the scans.
        build: the person.
        day: bladder and rectum.
        tables: modality → signals, as in `shapes.Canvas`.
    """
    warp = [
        3.0 * smooth_field(rng, grid, 90.0, HALF_MM) + 1.2 * smooth_field(rng, grid, 30.0, HALF_MM)
        for _ in range(3)
    ]
    texture = [
        0.035 * smooth_field(rng, grid, 9.0, HALF_MM)
        + 0.03 * smooth_field(rng, grid, 5.0, HALF_MM)
        for _ in range(2)
    ]
    x, y, z = (
        (axis.reshape([-1 if a == i else 1 for a in range(3)]) / build.size + w).astype(np.float32)
        for i, (axis, w) in enumerate(zip(grid.axes_mm(), warp, strict=True))
    )
    del warp
    canvas = Canvas(grid, (x, y, z), build.size, (texture[0], texture[1]), tables)
    core, skin = _outlines(canvas, build)
    _paint_outside(canvas, skin, build)
    _paint_bones(canvas, build.female)
    paint_organs(canvas, rng, build.female, day)
    _paint_muscles(canvas, core)
    canvas.paint(canvas.below(-skin, SKIN_MM), INDEX["skin"])
    canvas.paint(np.ones(grid.shape, np.float32), INDEX["fat"])
    return canvas


def _outlines(canvas: Canvas, build: Build) -> tuple[Array, Array]:
    """Signed distances in mm to what lies under the fat, and to the skin."""
    x, y, z = canvas.at
    level = {k: np.interp(z, HEIGHTS_MM, v).astype(np.float32) for k, v in CORE_MM.items()}
    depth = np.where(y > 0, level["front"], level["back"])
    u, v = np.abs(x) / level["side"], np.abs(y) / depth
    radius = (u**2.5 + v**2.5) ** np.float32(0.4)
    length = np.sqrt(x * x + y * y)
    core = length * (1 - 1 / np.maximum(radius, 1e-3))
    front, side, back = build.fat_mm
    share = u * u / np.maximum(u * u + v * v, 1e-6)
    belly = np.interp(z, (-60, 0, 60, 120), (0.5, 0.75, 1.05, 1.2)).astype(np.float32)
    fat = side * share + np.where(y > 0, front * belly, back) * (1 - share)
    skin = np.asarray(core - fat.astype(np.float32), np.float32)
    skin = np.maximum(skin, _couch_top_mm(build) - _height(canvas.grid))  # pressed flat
    for groove in _grooves(canvas.at, level["back"] + np.float32(back)):
        core, skin = np.maximum(core, -groove + 3), np.maximum(skin, -groove)
    if not build.female:
        bulge = np.sqrt(x * x + (y - 86) ** 2 + ((z + 86) / 1.3) ** 2) - np.float32(36)
        skin = blended(skin, bulge, 12.0)
    return np.asarray(core, np.float32), np.asarray(skin, np.float32)


def _grooves(at: Coordinates, back: Array) -> list[Array]:
    """Signed distances to the cleft between the buttocks, and to that between the thighs."""
    x, y, z = at
    depth = np.interp(z, (-100, -50, -10, 20, 50), (55, 48, 34, 16, -8)).astype(np.float32)
    cleft = np.abs(x) - np.float32(0.10) * (depth - back - y)
    thighs = np.abs(x) - np.float32(0.45) * (-82 - z)
    return [cleft, thighs]


def _height(grid: Grid) -> Array:
    """(1, ny, 1) the y of each row in mm, as the scanner sees it."""
    return grid.axes_mm()[1].reshape(1, -1, 1).astype(np.float32)


def _couch_top_mm(build: Build) -> float:
    """The y at which the person lies; the body's weight presses the back flat."""
    return -build.size * (106.0 + 0.72 * build.fat_mm[2])


def _paint_outside(canvas: Canvas, skin: Array, build: Build) -> None:
    """Couch and air around the body."""
    outside = canvas.below(-skin)
    x = np.abs(canvas.grid.axes_mm()[0]).reshape(-1, 1, 1).astype(np.float32)
    y = _height(canvas.grid) - np.float32(_couch_top_mm(build) - COUCH_MM / 2)
    corner = 12.0  # the couch's rounded edges
    dx = np.maximum(x - np.float32(COUCH_HALF_MM - corner), 0)
    dy = np.maximum(np.abs(y) - np.float32(COUCH_MM / 2 - corner), 0)
    couch = np.broadcast_to(np.sqrt(dx * dx + dy * dy) - np.float32(corner), canvas.grid.shape)
    canvas.paint(outside * canvas.below(couch, -SHELL_MM), INDEX["couch_foam"])
    shell = canvas.below(couch) - canvas.below(couch, -SHELL_MM)
    still = np.where(canvas.left > 1e-6, outside, 0)
    canvas.paint(np.asarray(still * shell, np.float32), INDEX["couch_shell"])
    body = 1 - outside
    rest = np.clip(1 - body / np.maximum(canvas.left, 1e-6), 0, 1)
    canvas.paint(np.asarray(rest, np.float32), INDEX["background"])


def _paint_bones(canvas: Canvas, female: bool) -> None:
    for shape in parts.canals():
        canvas.fill(shape, INDEX["fat"])
    z = canvas.at[2]
    femur = canvas.union(parts.femur(), 8.0)
    sacrum = canvas.union(parts.sacrum(), 8.0)
    lumbar = canvas.union(parts.vertebra(), 5.0)
    hip = canvas.union(parts.hip_bone(female), 7.0)
    hip = np.maximum(np.maximum(hip, 3.0 - femur), 2.0 - sacrum)
    shaft = np.interp(z, (-90, -60, -35, -10), (6.0, 5.0, 2.6, 1.6)).astype(np.float32)
    _paint_bone(canvas, femur, shaft, INDEX["yellow_marrow"])
    _paint_bone(canvas, sacrum, 1.4, INDEX["red_marrow"])
    _paint_bone(canvas, lumbar, 1.4, INDEX["red_marrow"])
    _paint_bone(canvas, hip, 2.0, INDEX["red_marrow"])
    for a, b, reach in ((femur, hip, 4.5), (sacrum, hip, 3.5), (sacrum, lumbar, 16.0)):
        joint = np.maximum(a, b)
        box = canvas.window(joint, reach)
        canvas.paint(canvas.below(joint[box], reach - 1), INDEX["cartilage"], box)
    for box, distance in canvas.boxes(limb([(0, 54, -12), (0, 45, -32)], [9, 7], False)):
        canvas.paint(canvas.below(distance), INDEX["cartilage"], box)  # the symphysis


def _paint_bone(canvas: Canvas, distance: Array, cortex_mm: Array | float, marrow: int) -> None:
    box = canvas.window(distance, canvas.grid.spacing_mm)
    thick = cortex_mm[box] if isinstance(cortex_mm, np.ndarray) else cortex_mm
    canvas.paint(canvas.below(distance[box], -thick), marrow, box)
    canvas.paint(canvas.below(distance[box]), INDEX["cortical_bone"], box)


def _paint_muscles(canvas: Canvas, core: Array) -> None:
    """Vessels, tendons, muscles, and the wall of the abdomen; none reaches into the fat."""
    for shape in parts.vessels():
        canvas.fill(shape, INDEX["vessel"])
    for shape in parts.tendons():
        canvas.fill(shape, INDEX["cartilage"])
    _paint_bellies(canvas, core)
    x, y, z = canvas.at
    from_middle = np.interp(np.abs(x), (2, 8, 40, 56, 80, 110), (0.3, 1, 1, 0.4, 0.9, 1.2))
    thick = np.interp(z, (8, 30, 70), (0.0, 9.0, 13.0)) * from_middle
    front = np.clip((y + 20) / 20, 0, 1)
    wall = canvas.below(core) * canvas.below(-core, thick.astype(np.float32)) * front
    canvas.paint(np.asarray(wall * (thick > 0), np.float32), INDEX["muscle"])


def _paint_bellies(canvas: Canvas, core: Array) -> None:
    """Muscles swell until they meet, but for a plane of fat, and but for the pelvic cavity."""
    x, y, _ = canvas.at
    near, next_one = canvas.nearest_two(parts.muscles(), SWELL_MM)
    # Inside the pelvis and in the fossa beside the anus there is fat, not muscle.
    inner = np.sqrt((x / 62) ** 2 + ((y + 6) / 76) ** 2) - np.float32(1)
    swell = np.clip(inner * 8, 0, 1) * np.float32(SWELL_MM)
    plane = canvas.below(near - next_one, -0.9)  # the fat between two muscles
    belly = canvas.below(core) * canvas.below(near, swell) * plane
    canvas.paint(np.asarray(0.95 * belly, np.float32), INDEX["muscle"])
