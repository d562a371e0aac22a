"""SSIM (Wang et al., 2004) and MS-SSIM (Wang et al., 2003) of images with two or three axes.

One pair of maps serves every profile: its window, its mask and what it does at the border are
arguments. With a uniform window of 7 and sample covariance the map is that of scikit-image, with
a Gaussian window and a mirrored border it is that of torchmetrics; the tests hold both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from syndiff.errors import DataError
from syndiff.evaluation.profiles import MS_SSIM_WEIGHTS, Profile

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]
MODES = {"left_out": "nearest", "mirror": "mirror", "low": "constant"}


def ssim(x: Image, y: Image, peak: float, profile: Profile, inside: Mask | None) -> float:
    """Mean of the SSIM map: a fraction, 1 for equal images.

    Args:
        x, y: (h, w) or (d, h, w), with 0 as the low end of their range.
        peak: the range of the values.
        profile: window, border and what is done outside the mask.
        inside: where the map counts; everywhere if not given.

    Raises:
        DataError: the image is smaller than the window, whose border is left out.
    """
    x, y, inside = _region(x, y, profile, inside)
    size = profile.window_size
    if profile.border == "left_out" and min(x.shape) < size:
        shape = " x ".join(map(str, x.shape))
        raise DataError(f"images of {shape} pixels", f"at least {size} along each axis for SSIM")
    return _mean(_maps(x, y, peak, profile)[0], profile, inside)


def ms_ssim(x: Image, y: Image, peak: float, profile: Profile, inside: Mask | None) -> float:
    """Multi-scale SSIM: Π over scales of the mean of contrast × structure, each to its weight.

    Luminance enters at the coarsest scale only (Wang et al., 2003, Eq. 7). Between scales each
    2 × 2 (× 2) block becomes its mean. The mask keeps every other position, as SynthRAD does it,
    or the blocks that it touches where the image goes on with the low end. Negative means count
    as 0.

    Args:
        x, y, peak, profile, inside: see `ssim`.

    Returns:
        A fraction; NaN where the image is too small for the scales and is not to be padded, or
        where the mask does not reach the coarsest scale.
    """
    x, y, inside = _region(x, y, profile, inside)
    smallest = (profile.window_size - 1) * 2 ** (len(MS_SSIM_WEIGHTS) - 1) + 1
    if profile.border != "low" and min(x.shape) < smallest:
        if not profile.pad_small:
            return float("nan")
        inside = np.ones(x.shape, bool) if inside is None else inside
        missing = [max(smallest - n, 0) for n in x.shape]
        margins = [(m // 2, m - m // 2) for m in missing]
        x, y = np.pad(x, margins, mode="edge"), np.pad(y, margins, mode="edge")
        inside = np.pad(inside, margins)
    result = 1.0
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        similar, structure = _maps(x, y, peak, profile)
        coarsest = scale == len(MS_SSIM_WEIGHTS) - 1
        if inside is not None and not _inner(inside, profile).any():
            return float("nan")
        result *= max(_mean(similar if coarsest else structure, profile, inside), 0.0) ** weight
        x, y = _halved(x, profile), _halved(y, profile)
        inside = None if inside is None else _mask_halved(inside, profile)
    return result


def _region(
    x: Image, y: Image, profile: Profile, inside: Mask | None
) -> tuple[Image, Image, Mask | None]:
    """The images with the low end outside the mask where the profile says so.

    Where the image goes on with the low end beyond its border, the mask's box is all that counts.
    """
    if inside is None or profile.outside == "kept":
        return x, y, inside
    x, y = np.where(inside, x, 0.0), np.where(inside, y, 0.0)
    if profile.border != "low":
        return x, y, inside
    box = tuple(
        slice(held[0], held[-1] + 1)
        for axis in range(inside.ndim)
        for others in [tuple(a for a in range(inside.ndim) if a != axis)]
        for held in [np.flatnonzero(inside.any(axis=others))]
    )
    return x[box], y[box], inside[box]


def _maps(x: Image, y: Image, peak: float, profile: Profile) -> tuple[Image, Image]:
    """SSIM at each position, and its factor of contrast and structure (Wang et al. 2004, Eq. 13).

    Where the border is left out, the maps are smaller by half a window at each side.
    """
    window = _window(profile)

    def local(values: Image) -> Image:
        for axis in range(values.ndim):
            values = correlate1d(values, window, axis, mode=MODES[profile.border])
        return _inner(values, profile)

    mu_x, mu_y = local(x), local(y)
    count = profile.window_size**x.ndim
    unbiased = count / (count - 1) if profile.sample_covariance else 1.0
    variances = unbiased * (local(x**2 + y**2) - mu_x**2 - mu_y**2)
    cov = unbiased * (local(x * y) - mu_x * mu_y)
    c1, c2 = (profile.k1 * peak) ** 2, (profile.k2 * peak) ** 2
    structure = (2 * cov + c2) / (variances + c2)
    return structure * (2 * mu_x * mu_y + c1) / (mu_x**2 + mu_y**2 + c1), structure


def _window(profile: Profile) -> Image:
    """The separable window's one-dimensional weights (window_size,), sum 1."""
    if profile.window == "uniform":
        return np.full(profile.window_size, 1 / profile.window_size)
    at = np.arange(profile.window_size) - profile.window_size // 2
    weights = np.exp(-0.5 * (at / profile.sigma_px) ** 2)
    return weights / weights.sum()


def _inner(values: NDArray[Any], profile: Profile) -> NDArray[Any]:
    """What is left of a map or a mask where the border is left out."""
    if profile.border != "left_out":
        return values
    half = profile.window_size // 2
    return values[tuple(slice(half, n - half) for n in values.shape)]


def _mean(map_: Image, profile: Profile, inside: Mask | None) -> float:
    """The mean of a map over the mask; over all of it where the mask holds no window's centre."""
    if inside is None:
        return float(map_.mean())
    seen = _inner(inside, profile)
    return float(map_[seen].mean()) if seen.any() else float(map_.mean())


def _halved(values: Image, profile: Profile) -> Image:
    """The means of blocks of two along each axis; an odd last one is continued."""
    mode = "constant" if profile.border == "low" else "edge"
    values = np.pad(values, [(0, n % 2) for n in values.shape], mode=mode)  # type: ignore[call-overload]
    for axis in range(values.ndim):
        values = (values.take(range(0, values.shape[axis], 2), axis)
                  + values.take(range(1, values.shape[axis], 2), axis)) / 2  # fmt: skip
    return np.asarray(values)


def _mask_halved(inside: Mask, profile: Profile) -> Mask:
    """The mask at the next scale: every other position, or the blocks of two that it touches."""
    if profile.border != "low":
        return inside[tuple(slice(None, None, 2) for _ in inside.shape)]
    return _halved(inside.astype(np.float64), profile) > 0
