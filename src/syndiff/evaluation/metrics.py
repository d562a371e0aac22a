"""How close a synthetic image is to its reference: PSNR, SSIM, MS-SSIM, mean error and NMSE.

Every function takes a slice (h, w) or a volume (d, h, w) and the profile that says what is
compared (profiles.py).

A blank reference (no value above the range's low end) has no score: the functions return NaN,
which the caller skips. Identical images would have a PSNR of infinity, which JSON cannot
represent, so PSNR is at most `PSNR_CEILING_DB`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from syndiff.errors import DataError, OptionError
from syndiff.evaluation import similarity
from syndiff.evaluation.profiles import PSNR_CEILING_DB, Profile, get_profile

LEAST_PEAK = 1e-5
Image = NDArray[np.float64]
Mask = NDArray[np.bool_]


def psnr(
    image: ArrayLike,
    reference: ArrayLike,
    profile: str | Profile = "paper",
    inside: Mask | None = None,
) -> float:
    """Peak signal-to-noise ratio, 10 log10(peak² / mean squared error), at most the ceiling.

    Args:
        image, reference: (h, w) or (d, h, w), in the profile's unit.
        profile: how to compare.
        inside: the mask, of the same shape; needed where the profile compares inside it, and not
            used otherwise.

    Returns:
        dB; NaN where the reference is blank.
    """

    def score(pair: Pair) -> float:
        squared_error = float(np.mean(pair.error**2))
        floor = pair.peak**2 * 10 ** (-PSNR_CEILING_DB / 10)
        return float(10 * np.log10(pair.peak**2 / max(squared_error, floor)))

    return _unless_blank(score, image, reference, profile, inside)


def ssim(
    image: ArrayLike,
    reference: ArrayLike,
    profile: str | Profile = "paper",
    inside: Mask | None = None,
) -> float:
    """Structural similarity (Wang et al., 2004): a fraction, 1 for equal images.

    Args:
        image, reference, profile, inside: see `psnr`.

    Returns:
        The mean of the SSIM map where the profile counts it; NaN where the reference is blank.

    Raises:
        DataError: the image is smaller than the window.
    """
    return _unless_blank(
        lambda p: similarity.ssim(p.image, p.reference, p.peak, p.profile, p.inside),
        image, reference, profile, inside,
    )  # fmt: skip


def ms_ssim(
    image: ArrayLike,
    reference: ArrayLike,
    profile: str | Profile = "paper",
    inside: Mask | None = None,
) -> float:
    """Multi-scale structural similarity over five scales (Wang et al., 2003): a fraction.

    Args:
        image, reference, profile, inside: see `psnr`.

    Returns:
        1 for equal images; NaN where the reference is blank or the image is too small.
    """
    return _unless_blank(
        lambda p: similarity.ms_ssim(p.image, p.reference, p.peak, p.profile, p.inside),
        image, reference, profile, inside,
    )  # fmt: skip


def mae(
    image: ArrayLike,
    reference: ArrayLike,
    profile: str | Profile = "paper",
    inside: Mask | None = None,
) -> float:
    """Mean absolute error as a fraction of the profile's range.

    Args:
        image, reference, profile, inside: see `psnr`.

    Returns:
        A fraction; NaN where the reference is blank.
    """
    profile = get_profile(profile)
    unclipped = profile.clip == "not_mae"

    def score(pair: Pair) -> float:
        error = np.subtract(*_pair(image, reference)) if unclipped else pair.image - pair.reference
        return float(np.mean(np.abs(_in(error, pair.inside))) / profile.width)

    return _unless_blank(score, image, reference, profile, inside)


def nmse(
    image: ArrayLike,
    reference: ArrayLike,
    profile: str | Profile = "paper",
    inside: Mask | None = None,
) -> float:
    """Normalised mean squared error: Σ (image - reference)² / Σ reference².

    Args:
        image, reference, profile, inside: see `psnr`. HU count from the range's low end.

    Returns:
        A fraction, 0 for equal images, 1 for an image of zeros; NaN where the reference is blank.
    """

    def score(pair: Pair) -> float:
        power = float(np.sum(_in(pair.reference, pair.inside) ** 2))
        return float(np.sum(pair.error**2)) / power if power > 0 else float("nan")

    return _unless_blank(score, image, reference, profile, inside)


@dataclass(frozen=True)
class Metric:
    """One score: how it is computed, and how tables, files and pages show it.

    Attributes:
        name: key in `metrics.json` and column in `metrics.csv`.
        title: name in tables and figures.
        unit: unit of the displayed value; empty for a pure number.
        better: whether "higher" or "lower" values are better.
        function: (image, reference, profile, mask) → the stored value.
        margin: smaller differences than this count as equal; None: the score takes no part in
            the verdict.
        meaning: one or two sentences for the reader of a report.
        factor: displayed value = stored value × factor.
        digits: digits after the decimal point.
        of_intensity: whether the value is a fraction of the intensity range; if so, it is also
            given in HU for CT.
    """

    name: str
    title: str
    unit: str
    better: Literal["higher", "lower"]
    function: Callable[[ArrayLike, ArrayLike, Profile, Mask | None], float]
    margin: float | None
    meaning: str
    factor: float = 1.0
    digits: int = 2
    of_intensity: bool = False

    def shown(self, value: float | None) -> str:
        """A stored value as text for tables, without unit; a dash for an unknown value."""
        if value is None or not math.isfinite(value):
            return "–"
        return f"{self.factor * value:.{self.digits}f}"

    @property
    def label(self) -> str:
        """Title and unit, for an axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def best(self, values: Mapping[str, float | None]) -> str | None:
        """The name of the best value; the first name if values are equal, None if all unknown."""
        known = {name: value for name, value in values.items() if value is not None}
        choose = max if self.better == "higher" else min
        return choose(known, key=lambda name: known[name]) if known else None


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "psnr_db", "PSNR", "dB", "higher", psnr, 0.3,
            "How small the error is against the peak that the profile states, on a "
            "logarithmic scale: 6 dB more means half the error. PSNRs of other papers compare "
            "only if they normalise and crop in the same way.",
        ),
        Metric(
            "ssim", "SSIM", "", "higher", ssim, 0.01,
            "Whether local structure (brightness, contrast, pattern in a small window) agrees: "
            "1 is identical, 0 is unrelated, below 0 the structure is inverted.",
            digits=3,
        ),
        Metric(
            "mae", "Mean error", "% of maximum", "lower", mae, 0.002,
            "The average absolute difference per pixel.",
            factor=100, of_intensity=True,
        ),
        Metric(
            "ms_ssim", "MS-SSIM", "", "higher", ms_ssim, None,
            "SSIM's contrast and structure over five scales, each half as fine as the one before.",
            digits=3,
        ),
        Metric(
            "nmse", "NMSE", "", "lower", nmse, None,
            "The squared error as a part of the reference's squared values: 0 is perfect.",
            digits=4,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Two images as the profile compares them: shifted so that the range begins at 0, cropped.

    Attributes:
        image, reference: of one shape.
        inside: the mask, where the profile compares inside it.
        peak: PSNR's peak and SSIM's range.
        profile: how to compare.
    """

    image: Image
    reference: Image
    inside: Mask | None
    peak: float
    profile: Profile

    @property
    def error(self) -> Image:
        """The differences that are compared, (n,) or of the image's shape."""
        return _in(self.image - self.reference, self.inside)


def paper_normalise(
    image: ArrayLike, reference: ArrayLike, inside: Mask | None = None
) -> tuple[Image, Image]:
    """Each image ÷ its own mean, then both ÷ the (mean-normalised) reference's maximum.

    Args:
        image, reference: (h, w) or (d, h, w), values ≥ 0 in any unit.
        inside: where means and maximum are taken; everywhere if not given.

    Returns:
        Both as float64; the reference's maximum is 1. The image is left unscaled if its
        mean is not positive (a blank prediction then stays blank and scores badly, as it should).

    Raises:
        DataError: the reference is blank.
    """
    x, y = _pair(image, reference)
    where = ... if inside is None else inside
    if y[where].mean() <= 0:
        raise DataError("a reference slice without positive values", "a slice that holds tissue")
    y = y / y[where].mean()
    if x[where].mean() > 0:
        x = x / x[where].mean()
    return x / y[where].max(), y / y[where].max()


def normalised(
    image: ArrayLike, reference: ArrayLike, profile: Profile, inside: Mask | None
) -> tuple[Image, Image]:
    """Both images with the values that the profile compares, before it crops."""
    x, y = _pair(image, reference)
    if profile.low:
        x, y = x - profile.low, y - profile.low
    if profile.clip != "none":
        x, y = x.clip(0, profile.width), y.clip(0, profile.width)
    if profile.normalise == "mean":
        return paper_normalise(x, y, inside)
    if profile.normalise == "max":
        return _by_maximum(x, inside), _by_maximum(y, inside)
    if profile.percentiles is not None:
        return _by_percentiles(x, profile.percentiles), _by_percentiles(y, profile.percentiles)
    return x, y


def _unless_blank(
    score: Callable[[Pair], float],
    image: ArrayLike,
    reference: ArrayLike,
    profile: str | Profile,
    inside: Mask | None,
) -> float:
    """The score of the pair as it is compared; NaN if the reference is blank."""
    profile = get_profile(profile)
    x, y = _pair(image, reference)
    if profile.mask == "none":
        inside = None
    elif inside is None:
        raise OptionError(f"the profile {profile.name} without a mask", "the body's or the head's")
    values = _in(y, inside)
    if not values.size or values.max() <= profile.low:
        return float("nan")
    x, y = normalised(x, y, profile, inside)
    x, y = _middle(x, profile.columns), _middle(y, profile.columns)
    # A blank image has no maximum to be a peak; it gets a bad score, not none.
    peak = profile.width if profile.peak == "range" else max(float(x.max()), LEAST_PEAK)
    return score(Pair(x, y, inside, peak, profile))


def _in(values: Image, inside: Mask | None) -> Image:
    return values if inside is None else values[inside]


def _by_maximum(image: Image, inside: Mask | None) -> Image:
    """The image ÷ its maximum; unscaled if that is not positive."""
    top = float(_in(image, inside).max())
    return image / top if top > 0 else image


def _by_percentiles(image: Image, percentiles: tuple[float, float]) -> Image:
    """The image clipped to its own percentiles, which become 0 and 1; the lower is at least 0."""
    low, high = (float(q) for q in np.percentile(image, percentiles))
    low = max(low, 0.0)
    return np.clip((image - low) / (high - low), 0, 1) if high > low else np.zeros_like(image)


def _middle(image: Image, share: float) -> Image:
    """The middle columns of an image, so large a share of them."""
    width = image.shape[-1]
    kept = round(share * width)
    first = (width - kept) // 2
    return image[..., first : first + kept]


def _pair(image: ArrayLike, reference: ArrayLike) -> tuple[Image, Image]:
    """Both images as float64; DataError if a value is not finite or the shapes differ."""
    x, y = np.asarray(image, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if x.ndim not in (2, 3) or x.shape != y.shape:
        raise DataError(
            f"images of shapes {x.shape} and {y.shape}", "one shape (h, w) or (d, h, w)"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("an image with NaN or infinite values", "finite values")
    return x, y
