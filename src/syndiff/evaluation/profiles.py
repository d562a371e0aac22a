"""Profiles: exact, named procedures of comparing a synthetic image with the acquired one.

PSNR depends on cropping and normalisation: the same noise scores 27 dB on a tightly cropped head
and 31 dB on a padded one, and some normalisations hide a gain of 20 % completely. Every score
therefore belongs to a *profile*, one entry of `PROFILES`, whose exact parameters are stored with
the results. docs/evaluation.md has the formula of each, and says which one to use when.

    subject       body or brain mask, fixed range, three-dimensional per subject: the default
    paper         the paper's: each slice ÷ its own mean, then both ÷ the reference's maximum
    github        the score that the official script prints
    selfrdb       the score of SelfRDB's script, without its optional mask
    synthrad2023  the SynthRAD 2023 challenge's, for CT in HU
    synthrad2025  the SynthRAD 2025 challenge's, for CT in HU
    brasyn        the BraSyn challenge's: each image's own percentiles become [0, 1]
    fixed         whole slices, nothing is normalised: what validation of CT uses

Mean normalisation hides a wrong gain, so it is wrong for CT, whose values are physical.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from syndiff.errors import OptionError
from syndiff.preparation.intensity import HU_WINDOW

PSNR_CEILING_DB = 100.0
DEFAULT = "subject"


@dataclass(frozen=True)
class Profile:
    """An exact definition of how two images are compared.

    Attributes:
        name: the profile's name in the results.
        about: its source, for the reader of the results.
        defines: the metrics that the named procedure has itself; the others are computed from
            the same values.
        scope: "volume": one value per subject, over its three-dimensional image (slices are
            scored too, by the same rule in two dimensions); "slice": slices are scored, and a
            subject has the mean of its slices.
        unit: "HU": the values are Hounsfield units, for CT only; "normal": values in [0, 1].
        low, high: the fixed range of the values, in `unit`.
        clip: what is clipped to the range before anything else: "none", "all", or "not_mae"
            (everything but the mean error).
        normalise: "mean": each image ÷ its own mean, then both ÷ the reference's maximum; "max":
            each ÷ its own maximum; "percentile": each image's own percentiles become 0 and 1;
            "none". Means and maxima are over all of the image, or the mask if there is one.
        percentiles: the two percentiles in per cent; the lower value is at least 0.
        columns: share of the slice's columns, the middle ones, that are compared.
        peak: PSNR's peak and SSIM's range: "range" (high - low) or "image_max" (the synthetic
            image's maximum in what is compared, which rewards one bright pixel). What is divided
            by the reference's maximum has 1.
        mask: "none": everything is compared; "inside": only what is in the mask.
        outside: for SSIM, what lies outside the mask is "kept" or set to the range's "low" end.
        window: shape of the SSIM window.
        window_size: its width in pixels (odd).
        sigma_px: its standard deviation in pixels, Gaussian only.
        sample_covariance: divide by N - 1 instead of N in the window's covariances, uniform only.
        k1, k2: SSIM's stabilising constants.
        border: SSIM where the window reaches beyond the image: "left_out"; "mirror": the image
            is mirrored there; "low": it goes on with the range's low end.
        pad_small: MS-SSIM of an image too small for five scales: continue its edges; otherwise
            there is none.
    """

    name: str
    about: str
    defines: tuple[str, ...] = ("psnr_db", "ssim")
    scope: Literal["slice", "volume"] = "slice"
    unit: Literal["normal", "HU"] = "normal"
    low: float = 0.0
    high: float = 1.0
    clip: Literal["none", "all", "not_mae"] = "none"
    normalise: Literal["none", "mean", "max", "percentile"] = "none"
    percentiles: tuple[float, float] | None = None
    columns: float = 1.0
    peak: Literal["range", "image_max"] = "range"
    mask: Literal["none", "inside"] = "none"
    outside: Literal["kept", "low"] = "kept"
    window: Literal["gaussian", "uniform"] = "gaussian"
    window_size: int = 11
    sigma_px: float = 1.5
    sample_covariance: bool = False
    k1: float = 0.01
    k2: float = 0.03
    border: Literal["left_out", "mirror", "low"] = "left_out"
    pad_small: bool = False

    @property
    def width(self) -> float:
        """The width of the fixed range, in `unit`."""
        return self.high - self.low

    def parameters(self) -> dict[str, Any]:
        """Everything that defines the numbers, for the result files."""
        return {
            **asdict(self),
            "psnr_ceiling_db": PSNR_CEILING_DB,
            "ms_ssim_weights": list(MS_SSIM_WEIGHTS),
        }


# Wang, Simoncelli and Bovik 2003: exponents of the five scales, fine to coarse
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

_SUBJECT = Profile(
    "subject",
    "mask of body or brain, fixed range, one three-dimensional image per subject",
    ("psnr_db", "ssim", "ms_ssim", "mae", "nmse"),
    scope="volume",
    clip="all",
    mask="inside",
    outside="low",
    border="low",
)
_SYNTHRAD2023 = Profile(
    "synthrad2023",
    "SynthRAD 2023 challenge (Huijben et al., Medical Image Analysis 97, 2024)",
    ("mae", "psnr_db", "ssim"),
    scope="volume",
    unit="HU",
    low=HU_WINDOW[0],
    high=HU_WINDOW[1],
    clip="not_mae",
    mask="inside",
    outside="low",
    window="uniform",
    window_size=7,
    sample_covariance=True,
)

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        _SUBJECT,
        Profile(
            "paper",
            "SynDiff (Özbey et al., IEEE TMI 42, 2023), Sec. IV; the window of SSIM, which it "
            "does not state, is that of Wang et al., 2004",
            normalise="mean",
        ),
        Profile(
            "github",
            "test.py of the official SynDiff code",
            ("psnr_db",),
            normalise="max",
            columns=152 / 256,
            peak="image_max",
        ),
        Profile(
            "selfrdb",
            "utils.py of the official SelfRDB code, without a mask; it gives SSIM times 100",
            clip="all",
            normalise="mean",
            window="uniform",
            window_size=7,
            sample_covariance=True,
        ),
        _SYNTHRAD2023,
        replace(
            _SYNTHRAD2023,
            name="synthrad2025",
            about="SynthRAD 2025 challenge, image metrics",
            defines=("mae", "psnr_db", "ms_ssim"),
            pad_small=True,
        ),
        Profile(
            "brasyn",
            "BraSyn challenge of BraTS; its SSIM is that of torchmetrics",
            ("ssim",),
            scope="volume",
            normalise="percentile",
            percentiles=(0.5, 99.5),
            border="mirror",
        ),
        Profile("fixed", "whole slices in [0, 1] as they are"),
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
    """The profile of validation during training, without masks: `fixed` for HU, else `paper`."""
    return PROFILES["fixed" if unit.upper() == "HU" else "paper"]


def check_unit(profile: Profile, unit: str) -> None:
    """Check that a profile suits a unit.

    Raises:
        OptionError: the profile is for CT and the images are not in HU.
    """
    if profile.unit == "HU" and unit.upper() != "HU":
        raise OptionError(
            f"the profile {profile.name} for images in {unit}",
            "a CT in HU",
            f"`profile` {DEFAULT} compares images of any modality",
        )
