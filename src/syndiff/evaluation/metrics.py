"""How close a synthetic slice is to its reference: PSNR, SSIM and mean absolute error.

PSNR depends on cropping and normalisation: the same noise scores 27 dB on a tightly cropped head
and 31 dB on a padded one, and some normalisations hide a gain of 20 % completely. Every score here
therefore belongs to a *profile*, whose exact parameters are stored with the results.

    paper     each slice ÷ its own mean, then both ÷ the reference's maximum;
              SSIM with a Gaussian window of 11 pixels, sigma 1.5 (Wang et al., 2004)
    selfrdb   clipped to [0, 1], then as `paper` (its range, the reference's maximum, comes to
              the same); SSIM with a uniform window of 7, sample covariance (scikit-image's)
    github    as the official code's test scores: each slice ÷ its own maximum, the middle 152 of
              256 columns, PSNR's peak from the synthetic slice (SSIM is ours: it has none)
    fixed     nothing is normalised, values are in [0, 1]; SSIM as `paper`
    head      as `paper`, but means, maximum and comparison are restricted to the reference's
              head, because air agrees trivially and improves every score
    head_hu   as `fixed`, inside the reference's head: the default for CT

The paper says neither which SSIM window it used nor whether it clipped; ours are the common ones.
As in Wang's code and scikit-image, SSIM leaves out the border where the window would reach beyond
the slice (torchmetrics mirrors the slice there and counts the border).
Mean normalisation hides a wrong gain, so it is wrong for CT, whose values are physical: compare CT
with `fixed` or `head_hu`. `syndiff evaluate` compares inside the head by default
(`default_profile`); validation during training has no masks and uses `profile_for`.

A blank reference (no positive value) has no score: the functions return NaN, which the caller
skips. Identical images would have a PSNR of infinity, which JSON cannot represent, so PSNR is at
most `PSNR_CEILING_DB`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from syndiff.errors import DataError, OptionError

PSNR_CEILING_DB = 100.0
Image = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Profile:
    """An exact definition of how two slices are compared.

    Attributes:
        name: the profile's name in the results.
        normalise: "mean": each image ÷ its own mean over the whole slice (background included),
            then both ÷ the reference's maximum; "maximum": each ÷ its own maximum over the slice;
            "none": values are compared as they are.
        columns: share of the slice's columns, the middle ones, that are compared.
        peak_of: whose peak enters PSNR: "reference" is `peak`; "image" is the maximum of what was
            made, which rewards a single bright pixel.
        clip: both images are clipped to [0, 1] before anything else.
        peak: the signal's peak in PSNR and the data range in SSIM, after normalisation.
        window: shape of the SSIM window.
        window_size: its width in pixels (odd); the border of half a window is left out.
        sigma_px: its standard deviation in pixels, Gaussian only.
        sample_covariance: divide by N - 1 instead of N in the window's covariances, uniform only.
        k1, k2: SSIM's stabilising constants.
        region: "slice", or "head": only pixels inside the reference's head are compared.
    """

    name: str
    normalise: Literal["mean", "maximum", "none"]
    columns: float = 1.0
    peak_of: Literal["reference", "image"] = "reference"
    clip: bool = False
    peak: float = 1.0
    window: Literal["gaussian", "uniform"] = "gaussian"
    window_size: int = 11
    sigma_px: float = 1.5
    sample_covariance: bool = False
    k1: float = 0.01
    k2: float = 0.03
    region: Literal["slice", "head"] = "slice"

    def parameters(self) -> dict[str, Any]:
        """Everything that defines the numbers, for `metrics.json`."""
        return {**asdict(self), "psnr_ceiling_db": PSNR_CEILING_DB}


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("paper", "mean"),
        Profile(
            "selfrdb", "mean", clip=True, window="uniform", window_size=7, sample_covariance=True
        ),
        Profile("github", "maximum", columns=152 / 256, peak_of="image"),
        Profile("fixed", "none"),
        Profile("head", "mean", region="head"),
        Profile("head_hu", "none", region="head"),
    )
}


def get_profile(profile: str | Profile) -> Profile:
    """The profile with this name.

    Raises:
        OptionError: no profile has this name.
    """
    if isinstance(profile, Profile):
        return profile
    if profile not in PROFILES:
        raise OptionError(f"no comparison profile {profile!r}", f"one of {', '.join(PROFILES)}")
    return PROFILES[profile]


def profile_for(unit: str) -> Profile:
    """The profile over whole slices for a unit: `fixed` for HU, else `paper`."""
    return PROFILES["fixed" if unit.upper() == "HU" else "paper"]


def default_profile(unit: str) -> Profile:
    """The profile inside the head for a unit, the default of `syndiff evaluate`."""
    return PROFILES["head_hu" if unit.upper() == "HU" else "head"]


def paper_normalise(
    image: ArrayLike, reference: ArrayLike, inside: Mask | None = None
) -> tuple[Image, Image]:
    """Each image ÷ its own mean, then both ÷ the (mean-normalised) reference's maximum.

    Args:
        image, reference: (h, w), values ≥ 0 in any unit.
        inside: (h, w), where means and maximum are taken; everywhere if not given.

    Returns:
        Both as float64 (h, w); the reference's maximum is 1. The image is left unscaled if its
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


def psnr(
    image: ArrayLike,
    reference: ArrayLike,
    profile: str | Profile = "paper",
    inside: Mask | None = None,
) -> float:
    """Peak signal-to-noise ratio of one slice, in dB, at most `PSNR_CEILING_DB`.

    Args:
        image, reference: (h, w), values in [0, 1].
        profile: how to compare.
        inside: (h, w) the reference's head; needed where that is the profile's region, and not
            used otherwise.

    Returns:
        dB; NaN where the reference is blank.
    """
    profile = get_profile(profile)
    return _unless_blank(_psnr, image, reference, profile, inside)


def ssim(
    image: ArrayLike,
    reference: ArrayLike,
    profile: str | Profile = "paper",
    inside: Mask | None = None,
) -> float:
    """Structural similarity of one slice (Wang et al., 2004): a fraction, 1 for equal images.

    Args:
        image, reference: (h, w), values in [0, 1].
        profile: how to compare.
        inside: (h, w) the reference's head; needed where that is the profile's region, and not
            used otherwise.

    Returns:
        The mean of the SSIM map without its border; NaN where the reference is blank.

    Raises:
        DataError: the slices are smaller than the window.
    """
    profile = get_profile(profile)
    return _unless_blank(_ssim, image, reference, profile, inside)


def mae(
    image: ArrayLike,
    reference: ArrayLike,
    profile: str | Profile = "paper",
    inside: Mask | None = None,
) -> float:
    """Mean absolute error over the slice, as a fraction of the profile's peak.

    Args:
        image, reference: (h, w), values in [0, 1].
        profile: how to compare.
        inside: (h, w) the reference's head; needed where that is the profile's region, and not
            used otherwise.

    Returns:
        A fraction; NaN where the reference is blank.
    """
    profile = get_profile(profile)
    return _unless_blank(_mae, image, reference, profile, inside)


@dataclass(frozen=True)
class Metric:
    """One score of a slice: how it is computed, and how tables, files and pages show it.

    Attributes:
        name: key in `metrics.json` and column in `metrics.csv`.
        title: name in tables and figures.
        unit: unit of the displayed value; empty for a pure number.
        better: whether "higher" or "lower" values are better.
        function: (image, reference, profile, head) → the stored value.
        margin: smaller differences than this count as equal.
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
    margin: float
    meaning: str
    factor: float = 1.0
    digits: int = 2
    of_intensity: bool = False

    def shown(self, value: float | None) -> str:
        """A stored value as text for tables, without unit; a dash for an unknown value."""
        return "–" if value is None else f"{self.factor * value:.{self.digits}f}"

    @property
    def label(self) -> str:
        """Title and unit, for an axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def best(self, values: Mapping[str, float]) -> str:
        """The name of the best value; the first name if values are equal."""
        choose = max if self.better == "higher" else min
        return choose(values, key=lambda name: values[name])


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "psnr_db", "PSNR", "dB", "higher", psnr, 0.3,
            "How small the error is against the brightest value of the acquired slice, on a "
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
    )
}  # fmt: skip


def correlate_inside(image: Image, along_y: Image, along_x: Image) -> Image:
    """Correlate with a separable window at all positions where it is inside the image.

    Only numpy is used, because validation during training must not need scipy.

    Args:
        image: (h, w).
        along_y, along_x: (ky,) and (kx,) weights.

    Returns:
        (h - ky + 1, w - kx + 1)
    """
    columns = sliding_window_view(image, len(along_y), axis=0) @ along_y
    return sliding_window_view(columns, len(along_x), axis=1) @ along_x


def _unless_blank(
    score: Callable[[Image, Image, Profile, Mask | None], float],
    image: ArrayLike,
    reference: ArrayLike,
    profile: Profile,
    inside: Mask | None,
) -> float:
    """The score of the normalised pair; NaN if the reference is blank."""
    x, y = _pair(image, reference)
    if profile.region == "slice":
        inside = None
    elif inside is None:
        raise OptionError(f"the profile {profile.name} without a mask", "the reference's head")
    values = y if inside is None else y[inside]
    if not values.size or values.max() <= 0:
        return float("nan")
    return score(*_normalised(x, y, profile, inside), profile, inside)


def _normalised(
    image: Image, reference: Image, profile: Profile, inside: Mask | None
) -> tuple[Image, Image]:
    if profile.clip:
        image, reference = image.clip(0, 1), reference.clip(0, 1)
    if profile.normalise == "mean":
        return paper_normalise(image, reference, inside)
    if profile.normalise == "maximum":
        image, reference = (x / x.max() if x.max() > 0 else x for x in (image, reference))
    return _middle(image, profile.columns), _middle(reference, profile.columns)


def _middle(image: Image, share: float) -> Image:
    """The middle columns of an image, so large a share of them."""
    width = image.shape[1]
    kept = round(share * width)
    first = (width - kept) // 2
    return image[:, first : first + kept]


def _in(values: Image, inside: Mask | None) -> Image:
    return values if inside is None else values[inside]


def _psnr(image: Image, reference: Image, profile: Profile, inside: Mask | None) -> float:
    error = _in(image - reference, inside)
    squared_error = float(np.mean(error**2))
    peak = profile.peak
    if profile.peak_of == "image":
        peak = max(float(image.max()), 1e-3)  # a blank image has no peak, and a bad score
    floor = peak**2 * 10 ** (-PSNR_CEILING_DB / 10)
    return float(10 * np.log10(peak**2 / max(squared_error, floor)))


def _mae(image: Image, reference: Image, profile: Profile, inside: Mask | None) -> float:
    return float(np.mean(np.abs(_in(image - reference, inside))) / profile.peak)


def _ssim(image: Image, reference: Image, profile: Profile, inside: Mask | None) -> float:
    size = profile.window_size
    if min(image.shape) < size:
        raise DataError(f"slices of {image.shape} pixels", f"at least {size} x {size} for SSIM")
    window = _window(profile)

    def local(values: Image) -> Image:
        return correlate_inside(values, window, window)

    mu_x, mu_y = local(image), local(reference)
    unbiased = size**2 / (size**2 - 1) if profile.sample_covariance else 1.0
    var_x = unbiased * (local(image**2) - mu_x**2)
    var_y = unbiased * (local(reference**2) - mu_y**2)
    cov = unbiased * (local(image * reference) - mu_x * mu_y)
    c1, c2 = (profile.k1 * profile.peak) ** 2, (profile.k2 * profile.peak) ** 2
    # Wang et al. 2004, Eq. 13
    map_ = ((2 * mu_x * mu_y + c1) * (2 * cov + c2)) / (
        (mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2)
    )
    if inside is None:
        return float(map_.mean())
    seen = inside[size // 2 : -(size // 2), size // 2 : -(size // 2)]  # the windows' centres
    return float(map_[seen].mean()) if seen.any() else float(map_.mean())


def _window(profile: Profile) -> Image:
    """The separable SSIM window's one-dimensional weights (window_size,), sum 1."""
    if profile.window == "uniform":
        return np.full(profile.window_size, 1 / profile.window_size)
    at = np.arange(profile.window_size) - profile.window_size // 2
    weights = np.exp(-0.5 * (at / profile.sigma_px) ** 2)
    return weights / weights.sum()


def _pair(image: ArrayLike, reference: ArrayLike) -> tuple[Image, Image]:
    """Both slices as float64; DataError if a value is not finite or the shapes differ."""
    x, y = np.asarray(image, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if x.ndim != 2 or x.shape != y.shape:
        raise DataError(f"slices of shapes {x.shape} and {y.shape}", "one shape (h, w)")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("a slice with NaN or infinite values", "finite values")
    return x, y
