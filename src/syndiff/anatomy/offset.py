"""How far one image lies beside another, in pixels, whatever their contrasts.

The best-known failure of unpaired translation is a good image in the wrong place: cycle
consistency binds only the composition of the two translators, so each may shift by the inverse of
the other, and a perfect image two pixels off scores 17 dB. PSNR cannot tell that from a bad image;
this can, and between a source and what was made of it, so that no reference is needed.

Method: mutual information, for all displacements at once. Either image is divided into classes of
brightness, a pixel between two classes belonging to both in part. The joint histogram of classes
(k, l) at displacement d is the cross-correlation of class map k of one image with class map l of
the other, hence a product of Fourier coefficients, and may be evaluated between the pixels without
interpolating any image. The displacement is where the mutual information is greatest. It asks only
that brightness predicts brightness, not that edges have one sign or strength: between CT and MR an
estimator by edges went wrong by a pixel and more, since skull and scalp change places.

What it was measured to do stands in docs/experiments.md, made by experiments/offset.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from syndiff.errors import DataError

CLASSES = 8  # of brightness: air, and the foreground's quantiles
AIR = 0.1  # of the way from the darkest to the brightest: below, all is one class
SMOOTH_PX = 0.5  # Gaussian over the class maps: what lies between the pixels is little known
TAPER = 0.1  # of each axis, over which the image fades out at its border
COARSE = 128  # steps along an axis in the first search; more pixels are searched more coarsely
Array = NDArray[np.float32]
Spectrum = NDArray[np.complex64]
Floats = NDArray[np.float64]
Frequencies = tuple[Floats, Floats]  # along y and x, cycles per pixel


@dataclass(frozen=True)
class Offset:
    """A displacement: the image's content lies (dy, dx) pixels beyond the reference's.

    Attributes:
        dy, dx: pixels along the slice's rows (to anterior) and columns (to the right, RAS+).
        confidence: the mutual information at that displacement, relative to the images' with
            themselves: 1 for an exact copy, near 0 for unrelated images. 0 with NaN
            displacements where there is nothing to compare.
    """

    dy: float
    dx: float
    confidence: float

    @property
    def magnitude(self) -> float:
        """The displacement's length in pixels."""
        return math.hypot(self.dy, self.dx)

    @property
    def known(self) -> bool:
        """Whether both images held something to compare."""
        return math.isfinite(self.magnitude)


UNKNOWN = Offset(math.nan, math.nan, 0.0)


def offset_between(
    image: ArrayLike, reference: ArrayLike, max_shift_px: float | None = None
) -> Offset:
    """The displacement of one slice against another; for a stack `stack_offset` is surer.

    Args:
        image, reference: (h, w), any units, any two contrasts of one anatomy.
        max_shift_px: as in `stack_offset`.

    Raises:
        DataError: the shapes differ.
    """
    return stack_offset(np.asarray(image)[None], np.asarray(reference)[None], max_shift_px)


def stack_offset(
    images: ArrayLike, references: ArrayLike, max_shift_px: float | None = None
) -> Offset:
    """The one displacement within the plane that all slices of a stack have in common.

    The slices' joint histograms are added before the greatest information is looked for.

    Args:
        images, references: (n, h, w), any units, any two contrasts of one anatomy.
        max_shift_px: the longest shift looked for along an axis; a quarter of the shorter side
            by default.

    Returns:
        The offset; `UNKNOWN` where either stack is blank or holds values that are not finite.

    Raises:
        DataError: the shapes differ.
    """
    a, b = (np.asarray(stack, dtype=np.float32) for stack in (images, references))
    if a.ndim != 3 or a.shape != b.shape:
        raise DataError(f"slices of shapes {a.shape[1:]} and {b.shape[1:]}", "one shape (h, w)")
    centres = [_class_centres(stack) for stack in (a, b)]
    if centres[0] is None or centres[1] is None:
        return UNKNOWN
    cross, own = _spectra(a, b, centres[0], centres[1])
    shorter = min(a.shape[1:])
    limit = max(1.0, shorter / 4 if max_shift_px is None else float(max_shift_px))
    dy, dx, shared = _peak(cross, a.shape[2], limit)
    itself = math.sqrt(
        math.prod(_information(histogram[:, :, None, None]).item() for histogram in own)
    )
    return Offset(dy, dx, float(np.clip(shared / itself, 0, 1)))


def offsets_between(images: Iterable[ArrayLike], references: Iterable[ArrayLike]) -> list[Offset]:
    """`offset_between` of each pair of slices."""
    return [offset_between(a, b) for a, b in zip(images, references, strict=True)]


def median_vector(offsets: Iterable[Offset]) -> tuple[float, float]:
    """(dy, dx): the median of each component over the offsets that are known; NaN if none is."""
    known = np.array([(o.dy, o.dx) for o in offsets if o.known])
    if not len(known):
        return math.nan, math.nan
    dy, dx = np.median(known, axis=0)
    return float(dy), float(dx)


def median_offset(images: Iterable[ArrayLike], references: Iterable[ArrayLike]) -> float:
    """The length of the median displacement over slices, in pixels; NaN if all are blank.

    The median is taken of the displacements' components and only then the length: the mean or
    median of *lengths* would grow with the estimate's noise and never reach 0. What it cannot see
    are shifts that differ from slice to slice and cancel.

    Args:
        images, references: (n, h, w).
    """
    return math.hypot(*median_vector(offsets_between(images, references)))


def _class_centres(stack: Array) -> Array | None:
    """The brightness at the centre of each class, ascending; None where there are no two."""
    if not np.isfinite(stack).all():
        return None
    darkest, brightest = np.percentile(stack, (1, 99.8))
    if brightest - darkest <= 1e-6 * np.abs(stack).max():  # blank: all that is left is rounding
        return None
    inside = stack[stack > darkest + AIR * (brightest - darkest)]
    # Quantiles: where many pixels are, classes are narrow, so that a CT's soft tissue has several.
    tissue = np.quantile(inside, np.linspace(0, 1, CLASSES - 1))
    return np.unique(np.concatenate([[darkest], tissue])).astype(np.float32)


def _class_maps(image: Array, centres: Array, window: Array) -> Array:
    """(k, h, w): how much each pixel belongs to each class, which sums to the window."""
    position = np.interp(image, centres, np.arange(len(centres))).astype(np.float32)
    distance = np.abs(position - np.arange(len(centres), dtype=np.float32)[:, None, None])
    return np.maximum(1 - distance, 0) * window


def _spectra(
    a: Array, b: Array, centres_a: Array, centres_b: Array
) -> tuple[Spectrum, list[Array]]:
    """Cross spectra of all pairs of classes, and either image's joint histogram with itself.

    Returns:
        (k, l, h, w // 2 + 1) summed over slices, one slice in memory at a time; two (k, k).
    """
    h, w = a.shape[1:]
    window = np.outer(_tukey(h), _tukey(w)).astype(np.float32)
    fy, fx = _frequencies(h, w)
    weight = np.exp(-2 * (math.pi * SMOOTH_PX) ** 2 * (fy[:, None] ** 2 + fx**2))
    # A real image's other half spectrum is the mirrored conjugate of this one.
    weight *= np.where((fx == 0) | (fx == 0.5), 1.0, 2.0)
    weight = weight.astype(np.float32)
    cross = np.zeros((len(centres_a), len(centres_b), h, w // 2 + 1), np.complex64)
    own = [np.zeros((len(c), len(c)), np.float32) for c in (centres_a, centres_b)]
    for one, other in zip(a, b, strict=True):
        maps = [
            np.fft.rfft2(_class_maps(image, centres, window))
            for image, centres in ((one, centres_a), (other, centres_b))
        ]
        cross += maps[0][:, None] * np.conj(maps[1] * weight)
        for histogram, m in zip(own, maps, strict=True):
            flat = m.reshape(len(m), -1)
            histogram += (flat @ np.conj(flat * weight.ravel()).T).real
    return cross, own


def _tukey(n: int) -> Floats:
    """A window (n,) that is 1 in the middle and falls to 0 over half of TAPER each side."""
    to_border = np.minimum(np.arange(n), np.arange(n)[::-1]) / max(n - 1, 1)
    return 0.5 - 0.5 * np.cos(np.pi * np.minimum(to_border / (TAPER / 2), 1))


def _information(histogram: Array) -> Array:
    """Mutual information in nats of joint histograms (k, l, ys, xs), for each (ys, xs)."""
    joint = np.maximum(histogram, 0)  # ringing between the pixels
    joint = joint / joint.sum((0, 1))
    first, second = joint.sum(1), joint.sum(0)
    return _entropy(first) + _entropy(second) - _entropy(joint.reshape(-1, *joint.shape[2:]))


def _entropy(p: Array) -> Array:
    return -np.sum(p * np.log(np.maximum(p, 1e-12)), axis=0)


def _at(cross: Spectrum, frequencies: Frequencies, ys: Floats, xs: Floats) -> Array:
    """The information at displacements (ys by xs), which may lie between pixels."""
    fy, fx = frequencies
    along_y = np.exp(2j * np.pi * np.outer(ys, fy)).astype(np.complex64)  # ys h
    along_x = np.exp(2j * np.pi * np.outer(fx, xs)).astype(np.complex64)  # w xs
    return _information((along_y @ cross @ along_x).real)


def _peak(cross: Spectrum, width: int, limit: float) -> tuple[float, float, float]:
    """(dy, dx, information) where it is greatest within ±limit: coarsely first, then finely."""
    fy, fx = _frequencies(cross.shape[2], width)
    step = max(1.0, min(len(fy), width) / COARSE)
    # Frequencies that steps so wide cannot follow are left out, which saves most of the work.
    low_y, low_x = np.abs(fy) <= 0.5 / step, fx <= 0.5 / step
    reach = step * math.floor(limit / step)
    ys = xs = np.arange(-reach, reach + step / 2, step)
    surface = _at(cross[:, :, low_y][..., low_x], (fy[low_y], fx[low_x]), ys, xs)
    y, x = np.unravel_index(np.argmax(surface), surface.shape)
    for fine in (step / 2, step / 8):
        near = fine * np.arange(-4, 5)
        ys, xs = (at[np.abs(at) <= limit] for at in (ys[y] + near, xs[x] + near))
        surface = _at(cross, (fy, fx), ys, xs)
        y, x = np.unravel_index(np.argmax(surface), surface.shape)
    dy = ys[y] + step / 8 * _vertex(surface[:, x], int(y))
    dx = xs[x] + step / 8 * _vertex(surface[y], int(x))
    return float(dy), float(dx), float(surface[y, x])


def _frequencies(height: int, width: int) -> Frequencies:
    """Those of `rfft2` along y and x, in cycles per pixel."""
    return np.fft.fftfreq(height).astype(np.float64), np.fft.rfftfreq(width).astype(np.float64)


def _vertex(values: Array, at: int) -> float:
    """Where the parabola through the maximum and its neighbours peaks, in steps from `at`."""
    if not 0 < at < len(values) - 1:
        return 0.0
    left, middle, right = (float(v) for v in values[at - 1 : at + 2])
    bend = left - 2 * middle + right
    return 0.5 * (left - right) / bend if bend < 0 else 0.0
