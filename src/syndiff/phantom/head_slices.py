"""Random slices of virtual heads: a source of a random scan and targets of fixed scans.

Contrast, slice thickness, position, lesions and artefacts of the source are drawn at random. The
targets show the same anatomy as one fixed protocol each would, without noise, because a network
cannot predict from the source what does not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.phantom.head_contrast import (
    SOURCES,
    TARGET_PEAKS,
    TEXTURE,
    blackened,
    fixed_signal,
    lesion_signal,
)
from syndiff.phantom.label_maps import BRAIN, INDEX, TISSUES

Image = NDArray[np.float32]
IS_BRAIN = np.isin(np.arange(len(TISSUES)), [INDEX[name] for name in BRAIN])
IS_KEPT = IS_BRAIN.copy()  # the tissues that remain after skull-stripping
IS_KEPT[INDEX["falx"]] = True
FLUID = (INDEX["csf"], INDEX["ventricle"])
BRIGHTNESS = 4.0  # source value that becomes 1, in multiples of the mean over the head
OVERSAMPLING = 2
BLIND_MM = 60.0  # height above the lowest slice of the brain at which the orbits end


@dataclass
class Head:
    """The tissues of an individual head.

    Attributes:
        tissues: (z, y, x) codes of `TISSUES`.
        spacing_mm: size of the cubic voxels.
        eyes: whether the eyes are labelled; if not, no slices through the eyes are drawn.
    """

    tissues: NDArray[np.uint8]
    spacing_mm: float
    eyes: bool = True

    def __post_init__(self) -> None:
        flat = self.tissues.reshape(len(self.tissues), -1)
        counts = np.stack([np.bincount(z, minlength=len(TISSUES)) for z in flat])
        self.counts = counts.astype(np.float64)
        brain = np.flatnonzero(counts[:, IS_BRAIN].sum(1) > 100 / self.spacing_mm**2)
        self.brain_z = int(brain[0]), int(brain[-1])
        head = np.flatnonzero(counts[:, 1:].sum(1) > 400 / self.spacing_mm**2)
        self.head_z = int(head[0]), int(head[-1])
        middle = self.tissues[(self.brain_z[0] + self.brain_z[1]) // 2]
        self.centre_yx = tuple(float(c.mean()) for c in np.nonzero(middle))


def smooth_noise(rng: np.random.Generator, size: int, sigma_px: float) -> Image:
    """A smooth random field (size, size) of approximately unit variance."""
    n = max(3, int(np.ceil(size / sigma_px)) + 2)
    coarse = rng.standard_normal((n, n)).astype(np.float32)
    at = np.linspace(0.5, n - 1.5, size, dtype=np.float32)
    low = np.minimum(at.astype(int), n - 2)
    part = at - low
    rows = coarse[low] * (1 - part)[:, None] + coarse[low + 1] * part[:, None]
    return np.asarray(rows[:, low] * (1 - part) + rows[:, low + 1] * part) * np.float32(1.4)


def slab(rng: np.random.Generator, head: Head, size: int, spacing_mm: float) -> NDArray[np.uint8]:
    """A randomly tilted, rotated, scaled and bent slab of tissue codes: (k, 2 size, 2 size).

    The k layers sample the thickness of the slice. The plane is sampled twice as finely as the
    image, for partial volume.
    """
    s = head.spacing_mm
    thickness = rng.choice([1.0, 2.0, 3.0, 4.0, 5.0], p=[0.4, 0.1, 0.25, 0.15, 0.1])
    layers = {1.0: 2, 2.0: 3, 3.0: 4, 4.0: 5, 5.0: 5}[float(thickness)]
    below = rng.choice([5, 60], p=[0.85, 0.15]) if head.eyes else -BLIND_MM
    bottom = max(head.head_z[0], head.brain_z[0] - below / s)
    z0 = rng.uniform(bottom, head.head_z[1] - 3 / s)
    pitch, roll, turn = rng.normal(0, [0.12, 0.06, 0.1])
    zoom = np.exp(rng.normal(0, 0.08)) * np.exp(rng.normal(0, 0.04, 2))
    n = OVERSAMPLING * size
    grid = (np.arange(n, dtype=np.float32) - (n - 1) / 2) * np.float32(
        spacing_mm / OVERSAMPLING / s
    )
    shift = rng.normal(0, 28 / s, 2)
    v, u = grid[:, None] * zoom[0] + shift[0], grid[None, :] * zoom[1] + shift[1]
    if rng.random() < 0.5:
        u = -u
    y = np.cos(turn) * v + np.sin(turn) * u
    x = -np.sin(turn) * v + np.cos(turn) * u
    if rng.random() < 0.6:
        bend = rng.uniform(0.5, 3) / s
        y = y + np.float32(bend) * smooth_noise(rng, n, n / 4)
        x = x + np.float32(bend) * smooth_noise(rng, n, n / 4)
    z = z0 + pitch * y + roll * x
    through = (np.arange(layers) - (layers - 1) / 2) * (thickness / layers / s)
    yi = np.rint(y + head.centre_yx[0]).astype(np.int32)
    xi = np.rint(x + head.centre_yx[1]).astype(np.int32)
    depth, height, width = head.tissues.shape
    inside = (yi >= 0) & (yi < height) & (xi >= 0) & (xi < width)
    flat = np.clip(yi, 0, height - 1) * width + np.clip(xi, 0, width - 1)
    zi = np.rint(z[None] + through[:, None, None]).astype(np.int32)
    inside = inside & (zi >= 0) & (zi < depth)
    codes = head.tissues.reshape(-1)[np.clip(zi, 0, depth - 1) * (height * width) + flat]
    return np.where(inside, codes, 0).astype(np.uint8)


def add_lesions(rng: np.random.Generator, codes: NDArray[np.uint8]) -> None:
    """Add random lesions to a slab of codes (k, n, n), in place.

    White-matter lesions lie preferably near the ventricles; one slab in twenty gets a large
    oedema. The borders are soft: near a border, voxels belong to the lesion at random.
    """
    plane = codes[len(codes) // 2]
    n = plane.shape[0]
    rows, columns = np.nonzero(plane == INDEX["white_matter"])
    if len(rows) < 2000:
        return
    rough = smooth_noise(rng, n, 7.0)
    outside = np.full((n, n), np.inf, np.float32)  # below 1 inside a lesion
    if rng.random() < 0.6:
        outside = _spots(rng, rows, columns, rough)
    if rng.random() < 0.45:  # caps and bands along the ventricles
        fluid = (plane == INDEX["ventricle"]).astype(np.float32)
        near = ndimage.gaussian_filter(fluid, n / 256 * rng.uniform(6, 12), truncate=2.5)
        band = rng.uniform(0.08, 0.35) / (near * np.exp(0.7 * rough) + 1e-3)
        outside = np.minimum(outside, band)
    softness = np.float32(rng.uniform(0, 1.2))
    drawn = outside + softness * (rng.random(codes.shape, dtype=np.float32) - np.float32(0.5)) < 1
    codes[(codes == INDEX["white_matter"]) & drawn] = INDEX["lesion"]
    if rng.random() < 0.05:
        y, x = np.ogrid[:n, :n]
        k = rng.integers(len(rows))
        blob = np.hypot(y - rows[k], x - columns[k]) / rng.uniform(12, 50) + 0.3 * rough < 1
        codes[IS_BRAIN[codes] & blob & ~np.isin(codes, FLUID)] = INDEX["oedema"]


def _spots(
    rng: np.random.Generator, rows: NDArray[np.intp], columns: NDArray[np.intp], rough: Image
) -> Image:
    """A map (n, n) of random ellipses with rough borders, with values below 1 inside them.

    Args:
        rng: generator of the ellipses.
        rows, columns: the pixels on which ellipses may be centred.
        rough: (n, n) a random field that roughens the borders.
    """
    n = len(rough)
    y, x = np.ogrid[:n, :n]
    centre = rows.mean(), columns.mean()
    outside = np.full((n, n), np.inf)
    for _ in range(rng.integers(1, 14)):
        tries = rng.integers(len(rows), size=3)
        far = np.hypot(rows[tries] - centre[0], columns[tries] - centre[1])
        k = tries[np.argmin(far)] if rng.random() < 0.6 else tries[0]
        radii = np.exp(rng.normal(np.log(5.0), 0.6, 2))
        a = rng.uniform(0, np.pi)
        dy, dx = y - rows[k], x - columns[k]
        p, q = np.cos(a) * dy + np.sin(a) * dx, -np.sin(a) * dy + np.cos(a) * dx
        outside = np.minimum(outside, (p / radii[0]) ** 2 + (q / radii[1]) ** 2 + 0.4 * rough)
    return outside.astype(np.float32)


def draw_pair(
    rng: np.random.Generator, heads: Sequence[Head], size: int = 128, spacing_mm: float = 1.0
) -> tuple[Image, Image]:
    """A slice of a virtual head as T1w and as T2w scan; see `draw_slices`."""
    source, target = draw_slices(rng, heads, size, spacing_mm)
    return source, target


def draw_slices(
    rng: np.random.Generator,
    heads: Sequence[Head],
    size: int = 128,
    spacing_mm: float = 1.0,
    *,
    source: str = "T1",
    targets: Sequence[str] = ("T2",),
) -> tuple[Image, ...]:
    """A slice of a virtual head as a scan of one contrast and as fixed scans of others.

    Args:
        rng: generator of all random draws.
        heads: the individuals, one of which is chosen at random.
        size: side of the square images in pixels.
        spacing_mm: pixel size in mm.
        source: contrast of the first image, one of `CONTRASTS`.
        targets: contrasts of the others.

    Returns:
        Source and targets, each (size, size) float32 in [0, 1].
    """
    head = heads[int(rng.integers(len(heads)))]
    stripped = rng.random() < 0.35
    codes = _slice_of_head(rng, head, size, spacing_mm, stripped)
    add_lesions(rng, codes)
    signals = _signals(rng, (source, *targets), stripped)
    signals[0] /= _mean_over_head(rng, head, signals[0], stripped)
    images = [_mix(codes, signal) for signal in signals]
    if stripped:
        mask = _strip_mask(rng, codes)
        images = [image * mask for image in images]
    shared = _texture(rng, size)
    images = [
        image * (1 + np.float32(TEXTURE[contrast]) * shared)
        for image, contrast in zip(images, (source, *targets), strict=True)
    ]
    made = [_acquire(rng, images[0], stripped) / BRIGHTNESS]
    for image, contrast in zip(images[1:], targets, strict=True):
        made.append(ndimage.gaussian_filter(image, 0.35) / TARGET_PEAKS[contrast])
    return tuple(np.clip(image, 0, 1).astype(np.float32) for image in made)


def _slice_of_head(
    rng: np.random.Generator, head: Head, size: int, spacing_mm: float, stripped: bool
) -> NDArray[np.uint8]:
    """Codes of a slab that shows enough, of the brain mostly."""
    needs_brain = stripped or rng.random() < 0.8
    kept = IS_KEPT if needs_brain else np.arange(len(TISSUES)) > 0
    codes = slab(rng, head, size, spacing_mm)
    while np.count_nonzero(kept[codes]) < 0.06 * codes.size:
        codes = slab(rng, head, size, spacing_mm)
    return codes


def _signals(
    rng: np.random.Generator, contrasts: Sequence[str], stripped: bool
) -> list[NDArray[np.float32]]:
    """Signals of the tissues in a source and its targets."""
    scalp = rng.uniform(0.5, 3), rng.uniform(0, 0.6)
    source = contrasts[0]
    signals = [SOURCES[source](rng, *scalp)]
    signals += [fixed_signal(contrast, *scalp) for contrast in contrasts[1:]]
    depth = rng.uniform(0.0, 1.0)
    for n, (contrast, signal) in enumerate(zip(contrasts, signals, strict=True)):
        value = lesion_signal(contrast, signal, depth, is_source=n == 0)
        signal[INDEX["lesion"]] = value
    if rng.random() < (0.65 if stripped else 0.3):
        signals[0] = blackened(rng, source, signals[0])
    return [signal * IS_KEPT if stripped else signal for signal in signals]


def _mean_over_head(
    rng: np.random.Generator, head: Head, signal: NDArray[np.float32], stripped: bool
) -> float:
    """A scan's mean over the head, which ends somewhere below the brain."""
    low = head.brain_z[0] - round(rng.choice([0, 10, 30, 60]) / head.spacing_mm)
    counts = head.counts[max(low, 0) :].sum(0)
    counts = counts * (IS_KEPT if stripped else 1)
    counts[0] = 0
    return float((counts * signal).sum() / counts.sum())


def _mix(codes: NDArray[np.uint8], signal: NDArray[np.floating]) -> Image:
    """Partial volume: the mean signal through the slab and over each pixel."""
    fine = signal.astype(np.float32)[codes].mean(0)
    quarters = fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2]
    return np.asarray(quarters / 4, np.float32)


def _strip_mask(rng: np.random.Generator, codes: NDArray[np.uint8]) -> Image:
    """The mask of skull-stripping, which keeps fluid only near brain tissue: (size, size)."""
    tissue = IS_BRAIN[codes[len(codes) // 2]] & ~np.isin(codes[len(codes) // 2], FLUID)
    coarse = tissue[::2, ::2].astype(np.float32)
    near = ndimage.gaussian_filter(coarse, rng.uniform(1.5, 4)) > rng.uniform(0.08, 0.4)
    return np.asarray(ndimage.binary_fill_holes(near), dtype=np.float32)


def _texture(rng: np.random.Generator, size: int) -> Image:
    """What tissue varies by from place to place, a few per cent."""
    shared = smooth_noise(rng, size, 2.5) * np.float32(0.03)
    shared += smooth_noise(rng, size, 14.0) * np.float32(0.025)
    return shared


def _acquire(rng: np.random.Generator, image: Image, stripped: bool) -> Image:
    """Apply coil shading, gain, blur and noise to a source image."""
    size = len(image)
    air = image < 0.02
    image = image * np.exp(np.float32(0.25 * rng.random()) * smooth_noise(rng, size, size * 0.6))
    if rng.random() < 0.3:  # a coil that misses a part of the head
        y, x = np.ogrid[:size, :size]
        cy, cx = rng.uniform(0, size, 2)
        away = ((y - cy) ** 2 + (x - cx) ** 2) / rng.uniform(20, 50) ** 2
        image = image * (1 - rng.uniform(0.1, 0.6) * np.exp(-away))
    image = image * np.exp(rng.normal(0, 0.06))
    sigma = float(np.exp(rng.uniform(np.log(0.003), np.log(0.07))))
    before = rng.random() < 0.4  # noise before the blur, as in interpolated scans, or after it
    blur = rng.uniform(0.3, 0.95)
    if before:
        image = _rician(rng, image, 1.6 * sigma)
    image = ndimage.gaussian_filter(image, blur, truncate=3)
    if not before:
        image = _rician(rng, image, sigma)
    if stripped or rng.random() < 0.3:
        image = np.where(air, 0, image)
    return np.asarray(image, np.float32)


def _rician(rng: np.random.Generator, image: Image, sigma: float) -> Image:
    noise = rng.standard_normal((2, *image.shape), dtype=np.float32) * np.float32(sigma)
    return np.hypot(image + noise[0], noise[1])
