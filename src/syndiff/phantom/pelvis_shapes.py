"""The parts of a pelvis in canonical coordinates: bones, muscles, vessels.

Millimetres from the middle between the femoral heads: x to the right, y to the front, z upwards.
Positions and thicknesses are typical of adults, read off atlases of sectional anatomy; they are no
measurements of anybody. Shapes with two sides are given for the right one.
"""

from __future__ import annotations

import numpy as np

from syndiff.phantom.fields import Array
from syndiff.phantom.shapes import Coordinates, Point, Shape, ellipsoid, limb, merged, sheet

HIP: Point = (88.0, 0.0, 0.0)
HEAD_MM = 24.0  # radius of the femoral head
CUP_OPENS = np.array([0.80, 0.22, -0.56])  # right acetabulum: sideways, forwards, downwards


def femur() -> list[Shape]:
    return [
        ellipsoid(HIP, (HEAD_MM, HEAD_MM, HEAD_MM), both_sides=True),
        limb([(98, -3, -6), (130, -12, -27)], [15, 15]),
        limb([(142, -20, -8), (145, -16, -40)], [12, 15]),
        limb([(120, -26, -52), (114, -30, -60)], [10, 6]),
        limb([(138, -12, -38), (128, 2, -120)], [18, 15]),
    ]


def hip_bone(female: bool) -> list[Shape]:
    """Ilium, ischium and pubis; a woman's pubic arch is wider."""
    w = 7.0 if female else 0.0
    base, notch = (92.0, -4.0, 34.0), (80.0, -36.0, 38.0)
    low, spine = (98.0, 32.0, 40.0), (119.0, 44.0, 86.0)
    crest: list[Point] = [spine, (134, 24, 112), (137, -14, 126), (114, -48, 122), (50, -88, 74)]
    tail, middle = (60.0, -72.0, 42.0), (111.0, -8.0, 82.0)
    ring = [base, low, *crest, tail, notch]
    wing = [(middle, a, b) for a, b in zip(ring, [*ring[1:], base], strict=True)]
    return [
        Shape(_cup, (50, -38, -38), (126, 38, 38), both_sides=True),
        sheet(wing, 8.0),
        limb(crest, [6, 7, 7, 6, 8]),
        limb([low, (96, 20, 26)], [6, 9]),
        limb([(88, 2, 28), (94, -6, 44)], [13, 9]),
        limb([(74, -24, 4), (80, -32, 30)], [11, 8]),
        limb([(62, -62, 72), (57, -70, 50)], [9, 8]),
        limb([(66, 20, 4), (44, 42, 3), (14, 54, -10)], [12, 7, 8]),
        limb([(10, 52, -10), (9 + w / 3, 45, -34)], [7.5, 6.5]),
        limb([(12 + w / 3, 43, -36), (36 + w, 15, -57), (56 + w, -24, -62)], [6, 6, 9]),
        limb([(76, -20, -12), (66 + w / 2, -34, -32), (60 + w, -36, -60)], [12, 12, 14]),
        limb([(72, -34, -4), (57 + w / 2, -47, -6)], [6, 2.5]),
    ]


def _cup(at: Coordinates) -> Array:
    """The acetabulum: a shell around the femoral head, open towards `CUP_OPENS`."""
    x, y, z = (c - np.float32(m) for c, m in zip(at, HIP, strict=True))
    radius = np.sqrt(x * x + y * y + z * z)
    shell = np.abs(radius - np.float32(HEAD_MM + 7.5)) - np.float32(4.5)
    opening = sum(c * np.float32(d) for c, d in zip((x, y, z), CUP_OPENS, strict=True))
    return np.asarray(np.maximum(shell, opening - np.float32(5)), np.float32)


def sacrum() -> list[Shape]:
    """Sacrum, coccyx, and the lowest lumbar vertebra."""
    spine: list[Point] = [
        (0, -24, 104), (0, -46, 80), (0, -66, 55), (0, -80, 32), (0, -87, 10), (0, -82, -10),
        (0, -72, -22),
    ]  # fmt: skip
    return [
        limb(spine, [22, 19, 15, 11, 8, 5.5, 4], both_sides=False),
        limb([(10, -38, 94), (42, -50, 84)], [18, 19]),
        limb([(10, -58, 62), (42, -66, 60)], [14, 13]),
        limb([(8, -76, 38), (30, -78, 36)], [9, 7]),
        limb([(0, -84, 104), (0, -99, 72), (0, -101, 42)], [4, 5, 4], both_sides=False),
        limb([(12, -66, 100), (0, -84, 100)], [4, 4]),
    ]


def vertebra() -> list[Shape]:
    return [
        ellipsoid((0, -9, 142), (27, 19, 24)),
        limb([(18, -28, 136), (26, -50, 128)], [7, 8]),
        limb([(0, -50, 132), (0, -82, 126)], [6, 6], both_sides=False),
        limb([(26, -30, 136), (52, -34, 138)], [6, 5]),
    ]


def canals() -> list[Shape]:
    """Fat within the sacrum: its canal and its foramina."""
    holes = [limb([(15, -24, z + 6), (19, -82, z - 6)], [4, 3]) for z in (76, 56, 40)]
    return [limb([(0, -50, 132), (0, -66, 92), (0, -88, 44)], [9, 8, 3], both_sides=False), *holes]


def tendons() -> list[Shape]:
    """Dark in MR: sacrotuberous and inguinal ligaments, the hamstrings' origin."""
    return [
        limb([(40, -84, 20), (56, -46, -52)], [2.5, 3]),
        limb([(114, 46, 80), (16, 66, 0)], [1.5, 1.5]),
        limb([(64, -50, -58), (70, -52, -84)], [4, 3]),
        limb([(78, 46, -20), (104, 22, -46)], [2, 2]),
    ]


def muscles() -> list[Shape]:
    """They grow towards each other; a plane of fat remains between neighbours."""
    return [*_front(), *_inner(), *_gluteal(), *_thigh()]


def _front() -> list[Shape]:
    return [
        limb([(40, -16, 140), (48, 2, 105), (66, 22, 62), (80, 36, 22), (86, 37, 0),
              (102, 6, -50)],
             [24, 22, 19, 16, 14, 8]),
        limb([(112, 6, 104), (98, 12, 74), (90, 26, 34)], [13, 16, 12]),
        limb([(118, 54, 84), (104, 74, 20), (84, 78, -40), (58, 68, -110)], [6, 8, 9, 10]),
        limb([(132, 48, 76), (148, 48, 10), (154, 34, -70)], [9, 13, 10]),
        limb([(102, 42, 32), (110, 56, -10), (112, 62, -60), (108, 60, -120)], [7, 12, 15, 17]),
        limb([(34, 56, -2), (62, 38, -24), (96, 12, -62)], [9, 12, 9]),
        limb([(26, -72, 140), (30, -88, 100), (24, -104, 62)], [22, 17, 7]),
    ]  # fmt: skip


def _inner() -> list[Shape]:
    """What lines the pelvis: obturators, piriformis, levator ani."""
    return [
        limb([(54, 34, -4), (61, 8, 4), (60, -34, 4)], [6, 7, 8]),
        limb([(44, 34, -22), (56, 6, -14), (58, -40, -12)], [6, 8, 8]),
        limb([(40, 24, -40), (54, 0, -34), (56, -24, -34)], [6, 7, 6]),
        limb([(58, -50, -8), (84, -46, -2), (132, -26, 0)], [7, 7, 4]),
        limb([(24, -62, 40), (62, -62, 32), (100, -44, 22), (134, -24, 6)], [9, 12, 9, 4]),
        limb([(48, 10, -2), (34, -10, -18), (14, -42, -42)], [2.5, 2.5, 3.5]),
        limb([(46, -18, 2), (30, -36, -16), (10, -56, -38)], [2.5, 2.5, 3.5]),
        limb([(10, 36, -34), (14, 4, -38), (15, -34, -42), (4, -58, -44)], [3, 3.5, 4.5, 4]),
        limb([(40, 22, -46), (76, 0, -38), (116, -20, -30)], [10, 11, 5]),
        limb([(74, -36, -46), (116, -32, -46)], [9, 9]),
    ]


def _gluteal() -> list[Shape]:
    tops: list[Point] = [
        (62, -92, 88),
        (44, -100, 62),
        (32, -104, 40),
        (26, -102, 18),
        (24, -96, -4),
    ]
    ends: list[Point] = [
        (140, -58, 16), (142, -56, -10), (140, -56, -34), (130, -56, -56), (112, -60, -76),
    ]  # fmt: skip
    great = []
    for top, end in zip(tops, ends, strict=True):
        middle = ((top[0] + end[0]) / 2, (top[1] + end[1]) / 2 - 10, (top[2] + end[2]) / 2 + 2)
        great.append(limb([top, middle, end], [12, 18, 11]))
    return [
        limb([(122, 26, 94), (134, 22, 52), (148, 0, 2)], [9, 17, 8]),
        limb([(134, -18, 112), (132, -14, 70), (148, -10, 4)], [11, 20, 8]),
        limb([(104, -62, 104), (112, -44, 66), (142, -22, 8)], [13, 21, 8]),
        limb([(106, 8, 44), (128, 2, 6)], [9, 6]),
        merged(great),
    ]


def _thigh() -> list[Shape]:
    return [
        limb([(150, 10, -38), (150, 16, -120)], [10, 20]),
        limb([(124, 26, -60), (122, 32, -120)], [8, 17]),
        limb([(104, 14, -66), (98, 28, -120)], [6, 14]),
        limb([(20, 46, -36), (48, 46, -66), (76, 38, -120)], [7, 11, 14]),
        limb([(28, 30, -46), (60, 18, -70), (92, 4, -120)], [8, 13, 13]),
        limb([(48, -8, -62), (74, -16, -90), (88, -14, -120)], [10, 20, 24]),
        limb([(14, 36, -42), (26, 22, -76), (34, 10, -120)], [5, 8, 9]),
        limb([(72, -52, -74), (84, -58, -120)], [11, 19]),
    ]


def vessels() -> list[Shape]:
    artery: list[Point] = [
        (30, 0, 140), (40, 14, 96), (54, 38, 50), (58, 56, 12), (62, 62, -24), (72, 52, -120),
    ]  # fmt: skip
    vein = [(x - 10, y - 6, z) for x, y, z in artery]
    deep: list[Point] = [(40, 12, 98), (46, -28, 64), (48, -44, 30)]
    return [
        limb(artery, [5, 4.5, 4.5, 4.5, 4.5, 4]),
        limb(vein, [6, 5.5, 5.5, 5.5, 5.5, 5]),
        limb(deep, [4, 3.5, 3]),
        limb([(x + 6, y - 8, z) for x, y, z in deep], [4, 4, 3]),
    ]
