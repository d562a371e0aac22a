"""The displacement between two images of different contrast, in pixels.

A well-known failure of unpaired translation is a good image in the wrong place. Cycle consistency
constrains only the composition of the two translators, so one translator may shift its images if
the other shifts them back. A perfect image that is two pixels off has a PSNR of only 17 dB, and
PSNR cannot distinguish it from a bad image. The displacement can be measured between a source and
its translation, so no reference is needed.

Method: mutual information for all displacements at once. The brightness of each image is divided
into classes; a pixel between two classes belongs to both with weights that sum to 1. The entry
(k, l) of the joint histogram at displacement d is the cross-correlation of class map k of one
image with class map l of the other. It is computed as a product of Fourier coefficients and can be
evaluated between pixels without interpolating an image. The estimate is the displacement with the
greatest mutual information. The method only needs the brightness of one image to predict that of
the other; edges may differ in sign and strength. Between CT and MR an estimator based on edges was
wrong by a pixel or more, because the bright edges lie at the skull in CT and at the scalp in MR.

docs/experiments.md gives the measured accuracy; experiments/offset.py measures it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from syndiff.errors import DataError

CLASSES = 8  # brightness classes: air, and quantiles of the foreground
AIR = 0.1  # fraction of the brightness range below which all pixels belong to the class of air
SMOOTH_PX = 0.5  # Gaussian over the class maps, since values between pixels are uncertain
TAPER = 0.1  # fraction of each axis over which the image fades to 0 at its borders
COARSE = 128  # most steps along an axis in the first search; larger images have wider steps
Array = NDArray[np.float32]
Spectrum = NDArray[np.complex64]
Floats = NDArray[np.float64]
Frequencies = tuple[Floats, Floats]  # along y and x, cycles per pixel


@dataclass(frozen=True)
class Offset:
    """A displacement: the image's content is shifted by (dy, dx) pixels from the reference's.

    Attributes:
        dy, dx: shift in pixels along y (to anterior) and x (to the patient's right, RAS+); NaN if
            an image is blank.
        confidence: the mutual information at this displacement, divided by the geometric mean of
            each image's mutual information with itself: 1 for an exact copy, near 0 for unrelated
            images, 0 if an image is blank.
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
        """Whether the displacement could be measured (no image was blank)."""
        return math.isfinite(self.magnitude)


UNKNOWN = Offset(math.nan, math.nan, 0.0)


def offset_between(
    image: ArrayLike, reference: ArrayLike, max_shift_px: float | None = None
) -> Offset:
    """The displacement between two slices; for stacks `stack_offset` is more accurate.

    Args:
        image, reference: (h, w) two images of the same anatomy, in any contrast and units.
        max_shift_px: as in `stack_offset`.

    Raises:
        DataError: the shapes differ.
    """
    return stack_offset(np.asarray(image)[None], np.asarray(reference)[None], max_shift_px)


def stack_offset(
    images: ArrayLike, references: ArrayLike, max_shift_px: float | None = None
) -> Offset:
    """The in-plane displacement that all slices of a stack have in common.

    The joint histograms of all slices are added, and their mutual information is maximised.

    Args:
        images, references: (n, h, w) slices of the same anatomy, in any contrast and units.
        max_shift_px: the largest shift along an axis that is searched; by default a quarter of
            the shorter side.

    Returns:
        The offset; `UNKNOWN` if a stack is blank or holds values that are not finite.

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
    """`offset_between` for each pair of slices (h, w)."""
    return [offset_between(a, b) for a, b in zip(images, references, strict=True)]


def median_vector(offsets: Iterable[Offset]) -> tuple[float, float]:
    """(dy, dx): the median of each component over all known offsets; NaN if none is known."""
    known = np.array([(o.dy, o.dx) for o in offsets if o.known])
    if not len(known):
        return math.nan, math.nan
    dy, dx = np.median(known, axis=0)
    return float(dy), float(dx)


def median_offset(images: Iterable[ArrayLike], references: Iterable[ArrayLike]) -> float:
    """The length of the median displacement over slices, in pixels; NaN if all are blank.

    The median of each component is taken before the length, because a mean or median of lengths
    would grow with the noise of the estimates. Shifts that differ between slices and cancel are
    therefore not detected.

    Args:
        images, references: (n, h, w).
    """
    return math.hypot(*median_vector(offsets_between(images, references)))


def _class_centres(stack: Array) -> Array | None:
    """The brightness at the centre of each class (k,), ascending; None for a blank stack."""
    if not np.isfinite(stack).all():
        return None
    darkest, brightest = np.percentile(stack, (1, 99.8))
    if brightest - darkest <= 1e-6 * np.abs(stack).max():  # blank, except for rounding errors
        return None
    inside = stack[stack > darkest + AIR * (brightest - darkest)]
    # Quantiles give narrow classes where many pixels lie, so the soft tissue of CT has several.
    tissue = np.quantile(inside, np.linspace(0, 1, CLASSES - 1))
    return np.unique(np.concatenate([[darkest], tissue])).astype(np.float32)


def _class_maps(image: Array, centres: Array, window: Array) -> Array:
    """(k, h, w): the weight of each pixel in each class; the weights sum to the window (h, w)."""
    position = np.interp(image, centres, np.arange(len(centres))).astype(np.float32)
    distance = np.abs(position - np.arange(len(centres), dtype=np.float32)[:, None, None])
    return np.maximum(1 - distance, 0) * window


def _spectra(
    a: Array, b: Array, centres_a: Array, centres_b: Array
) -> tuple[Spectrum, list[Array]]:
    """Cross spectra of all pairs of classes, and each stack's joint histogram with itself.

    Only one slice's spectra are in memory at a time.

    Returns:
        The cross spectra (k, l, h, w // 2 + 1), summed over slices, and two histograms (k, k).
    """
    h, w = a.shape[1:]
    window = np.outer(_tukey(h), _tukey(w)).astype(np.float32)
    fy, fx = _frequencies(h, w)
    weight = np.exp(-2 * (math.pi * SMOOTH_PX) ** 2 * (fy[:, None] ** 2 + fx**2))
    # The omitted half of a real image's spectrum is the mirrored conjugate of this half.
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
    """A window (n,) that is 1 in the middle and falls to 0 over half of `TAPER` on each side."""
    to_border = np.minimum(np.arange(n), np.arange(n)[::-1]) / max(n - 1, 1)
    return 0.5 - 0.5 * np.cos(np.pi * np.minimum(to_border / (TAPER / 2), 1))


def _information(histogram: Array) -> Array:
    """Mutual information in nats of joint histograms (k, l, ys, xs), for each (ys, xs)."""
    joint = np.maximum(histogram, 0)  # ringing between pixels gives small negative values
    joint = joint / joint.sum((0, 1))
    first, second = joint.sum(1), joint.sum(0)
    return _entropy(first) + _entropy(second) - _entropy(joint.reshape(-1, *joint.shape[2:]))


def _entropy(p: Array) -> Array:
    return -np.sum(p * np.log(np.maximum(p, 1e-12)), axis=0)


def _at(cross: Spectrum, frequencies: Frequencies, ys: Floats, xs: Floats) -> Array:
    """Mutual information (ys, xs) at all displacements ys × xs, in fractions of pixels."""
    fy, fx = frequencies
    along_y = np.exp(2j * np.pi * np.outer(ys, fy)).astype(np.complex64)  # ys h
    along_x = np.exp(2j * np.pi * np.outer(fx, xs)).astype(np.complex64)  # w xs
    return _information((along_y @ cross @ along_x).real)


def _peak(cross: Spectrum, width: int, limit: float) -> tuple[float, float, float]:
    """(dy, dx, information) at the maximum within ±limit, by a coarse and then a fine search."""
    fy, fx = _frequencies(cross.shape[2], width)
    step = max(1.0, min(len(fy), width) / COARSE)
    # Frequencies above the Nyquist limit of the steps are left out, which saves most of the work.
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
    """The frequencies of `rfft2` along y and x, in cycles per pixel."""
    return np.fft.fftfreq(height).astype(np.float64), np.fft.rfftfreq(width).astype(np.float64)


def _vertex(values: Array, at: int) -> float:
    """The vertex of the parabola through the maximum and its neighbours, in steps from `at`."""
    if not 0 < at < len(values) - 1:
        return 0.0
    left, middle, right = (float(v) for v in values[at - 1 : at + 2])
    bend = left - 2 * middle + right
    return 0.5 * (left - right) / bend if bend < 0 else 0.0
