"""The organs of a pelvis, which are not the same on two days: bladder, rectum and what they push.

Coordinates are those of `pelvis_shapes`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from syndiff.phantom.pelvis_signal import INDEX
from syndiff.phantom.shapes import Canvas, Point, ellipsoid, limb

WALL_MM = 2.4  # of rectum and bowel
FLOOR_Z_MM = {False: 2.0, True: -8.0}  # the bladder's lowest point, by `female`


@dataclass(frozen=True)
class Day:
    """What changes between two examinations.

    Attributes:
        bladder_ml: volume of the bladder.
        rectum_mm: radius of the rectum.
        gas: (n, 2) pockets of gas: position along the bowel in [0, 1], and length in mm.
    """

    bladder_ml: float
    rectum_mm: float
    gas: tuple[tuple[float, float], ...]


def a_day(rng: np.random.Generator) -> Day:
    """Bladder and rectum of a day; the ranges are those of patients asked to drink."""
    bladder = float(np.exp(rng.uniform(np.log(70.0), np.log(420.0))))
    rectum = float(rng.uniform(12.0, 22.0))
    pockets = rng.uniform((0.12, 14.0), (0.9, 34.0), (4, 2))
    count = int(rng.integers(1, 5))
    return Day(bladder, rectum, tuple((float(a), float(b)) for a, b in pockets[:count]))


def paint_organs(canvas: Canvas, rng: np.random.Generator, female: bool, day: Day) -> None:
    """Bladder, prostate or uterus, rectum and bowel; nearer ones first."""
    growth = float(rng.uniform(0.85, 1.35))  # of the prostate or the uterus
    loops = _loops(rng)
    push = 0.8 * max(day.rectum_mm - 13.0, 0.0)
    _paint_rectum(canvas, day)
    floor = FLOOR_Z_MM[female]
    if not female:
        floor += 6.0 * (growth - 1)
        _paint_prostate(canvas, growth, push)
    _paint_bladder(canvas, day.bladder_ml, push, floor)
    if female:
        top = floor + 2 * _bladder_radii(day.bladder_ml)[2]
        _paint_uterus(canvas, growth, push, top)
    for points, radius, inside in loops:
        _paint_tube(canvas, points, [radius] * len(points), inside)


def _bladder_radii(volume_ml: float) -> Point:
    """Semi-axes in mm: a full bladder rises more than it widens."""
    mean = (3 * volume_ml * 1000 / (4 * np.pi)) ** (1 / 3)
    tall = float(np.interp(volume_ml, [70, 420], [0.72, 1.05]))
    wide, deep = 1.12 / tall**0.5, 1 / (1.12 * tall**0.5)
    return mean * wide, mean * deep, mean * tall


def _paint_bladder(canvas: Canvas, volume_ml: float, push: float, floor: float) -> None:
    radii = _bladder_radii(volume_ml)
    wall = float(np.interp(volume_ml, [70, 420], [5.0, 2.5]))  # a full bladder's wall is thin
    _, b, c = radii
    shape = ellipsoid((0.0, 46.0 - b + 0.15 * push, floor + c), radii, tilt_deg=-12.0)
    for box, distance in canvas.boxes(shape):
        canvas.paint(canvas.below(distance), INDEX["urine"], box)
        canvas.paint(canvas.below(distance, wall), INDEX["bladder_wall"], box)


def _paint_prostate(canvas: Canvas, growth: float, push: float) -> None:
    y = 4.0 + push
    size = growth ** (1 / 3)
    gland = ellipsoid((0, y, -16), (24 * size, 15 * size, 18 * size), tilt_deg=12)
    core = ellipsoid((0, y + 4, -13), (16 * size**2, 11 * size, 14 * size), tilt_deg=12)
    canvas.fill(ellipsoid((0, y + 5, -18), (2.5, 2.5, 15)), INDEX["urine"], 0.5)
    canvas.fill(core, INDEX["prostate_central"])
    for box, distance in canvas.boxes(gland):
        canvas.paint(canvas.below(distance), INDEX["prostate_peripheral"], box)
        canvas.paint(canvas.below(distance, 1.5), INDEX["cartilage"], box)  # the dark capsule
    vesicle = limb([(3, y - 14, 4), (14, y - 16, 9), (28, y - 18, 13)], [4, 6, 5])
    canvas.fill(vesicle, INDEX["seminal_vesicle"], rim=INDEX["muscle"])
    canvas.fill(limb([(0, 20, -46), (0, 58, -58), (0, 100, -66)], [11, 10, 12], False),
                INDEX["prostate_peripheral"], 0.8, rim=INDEX["muscle"])  # fmt: skip
    canvas.fill(limb([(6, 34, -48), (34, 6, -62)], [7, 5]), INDEX["prostate_peripheral"], 0.8)


def _paint_uterus(canvas: Canvas, growth: float, push: float, bladder_top: float) -> None:
    """Cervix and vagina lie behind the bladder, the body on top of it."""
    top: Point = (4, 10.0 + push / 2, min(max(bladder_top + 14, 40.0), 84.0))
    cervix: Point = (0, -14.0 + push, 12.0)
    r = 20 * growth ** (1 / 3)
    canvas.fill(limb([top, cervix], [5, 1.5], False), INDEX["endometrium"])
    canvas.fill(limb([top, cervix], [r, 13], False), INDEX["uterus"])
    for x in (-38.0, 40.0):
        for dy, dz, radius in ((0, 0, 6), (8, 5, 4.5), (-6, 6, 4)):
            follicle = ellipsoid((x, -4.0 + dy, 46.0 + dz), (radius, radius, radius))
            canvas.fill(follicle, INDEX["ovary"], rim=INDEX["uterus"])
    canvas.fill(limb([cervix, (0, 6.0 + push / 2, -44.0)], [2, 1.5], False), INDEX["endometrium"])
    for x in (-9.0, 0.0, 9.0):  # flat from front to back
        wall = limb([(x, -13 + push, 4.0), (x, 7.0 + push / 2, -44.0)], [6.5, 5.5], False)
        canvas.fill(wall, INDEX["bowel_wall"])


def _rectum(day: Day) -> tuple[list[Point], list[float]]:
    """Anal canal, rectum in the hollow of the sacrum, sigmoid colon to the left."""
    r = day.rectum_mm
    points: list[Point] = [
        (0, -46, -72), (0, -50, -44), (0, -60 + r, -22), (1, -66 + r, 2), (3, -70 + r, 26),
        (2, -64 + r, 48), (-8, -34, 66), (-26, -18, 74), (-30, 8, 84), (-52, 20, 92),
        (-84, 16, 112), (-96, 22, 140),
    ]  # fmt: skip
    return points, [7, 8, r, r, 0.95 * r, 0.85 * r, 12, 12, 12, 13, 14, 14]


def _paint_rectum(canvas: Canvas, day: Day) -> None:
    points, radii = _rectum(day)
    along = np.linspace(0, 1, len(points))
    for where, length in day.gas:  # gas rises to the front of a person who lies on the back
        x, y, z = (float(np.interp(where, along, [p[i] for p in points])) for i in range(3))
        r = float(np.interp(where, along, radii))
        if r > 9:
            pocket = ellipsoid((x, y + 0.35 * r, z), (0.8 * r, 0.6 * r, length / 2))
            for box, distance in canvas.boxes(pocket):
                canvas.paint(canvas.below(distance), INDEX["gas"], box)
    _paint_tube(canvas, points, radii, INDEX["bowel_content"])


def _paint_tube(canvas: Canvas, points: list[Point], radii: list[float], inside: int) -> None:
    for box, distance in canvas.boxes(limb(points, radii, both_sides=False)):
        canvas.paint(canvas.below(distance, -WALL_MM), inside, box)
        canvas.paint(canvas.below(distance), INDEX["bowel_wall"], box)
        canvas.paint(0.7 * canvas.below(distance, 1.5), INDEX["fat"], box)


def _loops(rng: np.random.Generator) -> list[tuple[list[Point], float, int]]:
    """Small bowel above the bladder: (points, radius, what is inside)."""
    low, high = np.array([-66.0, -12.0, 52.0]), np.array([70.0, 66.0, 138.0])
    loops = []
    for _ in range(18):
        points = [rng.uniform(low, high)]
        for _ in range(4):
            step = rng.standard_normal(3)
            points.append(np.clip(points[-1] + 26 * step / np.linalg.norm(step), low, high))
        inside = INDEX["gas"] if rng.uniform() < 0.2 else INDEX["bowel_content"]
        at = [(float(x), float(y), float(z)) for x, y, z in points]
        loops.append((at, float(rng.uniform(8.0, 12.0)), inside))
    return loops
