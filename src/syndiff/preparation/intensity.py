"""Intensities: segmentation of the head, and conversion of values to [0, 1] and back.

Three rules (docs/architecture.md, "Intensities"; the paper's Sec. IV-A):

robust  value / mean over the head, then the training subjects' 99.9th percentile becomes 1
paper   value / mean over the whole volume, then the training subjects' maximum becomes 1
window  CT: a fixed window of HU becomes [0, 1], whatever the subject

CT by the rule "paper" is HU + 1024, so that air is 0, before it is divided.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.errors import OptionError, VolumeError

HU_WINDOW = (-1024.0, 3000.0)
NARROW = 0.1  # of a window above its lower end: there begins tissue (fat, in the soft one)
BODY_HU = -300.0  # air and the air-like foam of head rests lie below, skin above
PERCENTILE = 99.9
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # of tissue: what a manifest and a translator keep
PAPER = "paper"
RULES = ("robust", PAPER)
CT_WINDOWS = {"soft": (-160.0, 240.0), "bone": (-500.0, 1300.0), "full": HU_WINDOW}
# fmt: off
CT_NAMES = frozenset((
    "CT", "CBCT", "SCT", "PCT", "NCCT", "NECT", "CECT", "LDCT", "HRCT", "MDCT", "DECT", "MVCT",
    "KVCT", "QCT", "CTA", "CTV", "CTP", "CTAC", "CCTA",
))
# fmt: on
Rule = Literal["robust", "paper", "window"]
Unit = Literal["a.u.", "HU"]


@dataclass(frozen=True)
class IntensityScale:
    """One modality's rule between acquired values and [0, 1].

    Attributes:
        rule: "robust", "paper" or "window" (see the module's docstring).
        unit: "a.u." (MRI) or "HU" (CT).
        scale: the value divided by the volume's own mean that becomes 1; 1 for CT.
        training_mean: median over the training subjects of that mean, the brightness given to
            synthetic MRI; 0 for CT.
        window: (low, high) in HU for CT by the rule "window", else None.
    """

    rule: Rule
    unit: Unit
    scale: float
    training_mean: float
    window: tuple[float, float] | None = None

    @property
    def background(self) -> float:
        """The normalised value of air."""
        return 0.0

    @property
    def air(self) -> float:
        """The acquired value of air, which is subtracted before values are divided by the mean."""
        return HU_WINDOW[0] if self.unit == "HU" else 0.0

    @property
    def tissue_above(self) -> float:
        """The HU above which CT that this rule restored is tissue.

        A narrow window shows air as its lower end: what lies clearly above that is tissue.
        """
        low, high = self.window or HU_WINDOW
        return max(BODY_HU, low + NARROW * (high - low))

    @property
    def peak(self) -> float:
        """The output value (in `unit`) of the normalised value 1."""
        return float(self.restore(np.ones(1, np.float32))[0])

    def reference_mean(self, array: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> float:
        """The mean that `normalise` divides by: over the head, or for "paper" over everything.

        Args:
            array: any shape, acquired values.
            mask: the head, found if not given.
        """
        if self.rule == "window":
            return 1.0
        return reference_mean(array - np.float32(self.air), self.rule, mask)

    def normalise(self, array: NDArray[Any], foreground_mean: float) -> NDArray[np.float32]:
        """Acquired values → float32 in [0, 1]; any shape.

        Args:
            array: acquired values, in HU for CT.
            foreground_mean: `reference_mean` of the whole volume; not used for CT.
        """
        values = np.asarray(array, dtype=np.float32)
        if self.window is not None:
            low, high = self.window
            return np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
        if not (math.isfinite(foreground_mean) and foreground_mean > 0):
            raise VolumeError(f"a mean intensity of {foreground_mean:g}", "a positive mean")
        if self.air:
            values = values - np.float32(self.air)
        return np.clip(values / np.float32(foreground_mean * self.scale), 0, 1)

    def restore(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """[0, 1] → output values: HU for CT, the training subjects' brightness for MRI."""
        values = np.asarray(array, dtype=np.float32)
        if self.window is not None:
            low, high = self.window
            return values * np.float32(high - low) + np.float32(low)
        restored = values * np.float32(self.scale * self.training_mean)
        return restored + np.float32(self.air) if self.air else restored

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> IntensityScale:
        """Inverse of `to_dict`."""
        window = content.get("window")
        return cls(**{**content, "window": tuple(window) if window is not None else None})


def is_ct(modality: str) -> bool:
    """Whether a modality is given in Hounsfield units: CT, NCCT, CTA, CT-bone, low_dose_CT, …"""
    return any(word in CT_NAMES for word in re.split(r"[-_. ]", modality.upper()))


def window_scale(window: tuple[float, float] = HU_WINDOW) -> IntensityScale:
    """The fixed rule for CT: a window of (low, high) HU."""
    return IntensityScale("window", "HU", 1.0, 0.0, window)


def ct_window(text: str) -> tuple[float, float]:
    """(low, high) in HU of a window's name or "LO,HI".

    Raises:
        OptionError: it is neither.
    """
    if text in CT_WINDOWS:
        return CT_WINDOWS[text]
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not (-1024 <= low < high <= 65535):
        raise OptionError(
            f"the `ct_window` {text!r}",
            f"{', '.join(CT_WINDOWS)}, {PAPER}, or two HU from -1024 up, lower first: -200,400",
        )
    return low, high


def fit_scale(
    rule: str, means: Iterable[float], peaks: Iterable[float], unit: Unit = "a.u."
) -> IntensityScale:
    """The rule of a modality from its training subjects.

    Args:
        rule: "robust" or "paper".
        means: each subject's `reference_mean`.
        peaks: each subject's `peak_value` divided by its mean.
        unit: "HU" for CT that is not windowed.
    """
    means, peaks = list(means), list(peaks)
    if rule not in RULES:
        raise OptionError(f"the intensity rule {rule!r}", " or ".join(RULES))
    if not means:
        raise OptionError("no training subject to take the intensity scale from")
    # "robust": the median over subjects of each one's percentile, so that one hot scan among few
    # does not darken the others; "paper": the cohort's maximum, literally.
    scale = float(np.median(peaks)) if rule == "robust" else float(max(peaks))
    return IntensityScale(rule, unit, scale, float(np.median(means)))  # type: ignore[arg-type]


def acquired_quantiles(tissue: NDArray[Any]) -> list[float]:
    """The `QUANTILES` of tissue in acquired units, as the first pass notes them."""
    return [float(q) for q in np.quantile(tissue, QUANTILES)]


def tissue_quantiles(normal: NDArray[Any], mask: NDArray[np.bool_]) -> list[float]:
    """The `QUANTILES` of normalised tissue: a scan's fingerprint."""
    return [round(float(q), 4) for q in np.quantile(normal[mask], QUANTILES)]


def peak_value(array: NDArray[Any], mask: NDArray[np.bool_], rule: str) -> float:
    """A volume's value that counts as bright: 99.9th percentile in the head, or the maximum."""
    if rule == "paper":
        return float(array.max())
    return float(np.percentile(array[mask], PERCENTILE))


def reference_mean(array: NDArray[Any], rule: str, mask: NDArray[np.bool_] | None = None) -> float:
    """The mean that the rule divides by: over the head, or for "paper" over the whole volume."""
    if rule == "paper":
        mean = float(np.mean(array, dtype=np.float64))
        if mean <= 0:
            raise VolumeError(f"a mean intensity of {mean:g}", "a positive mean")
        return mean
    return foreground_mean(array, foreground_mask(array) if mask is None else mask)


def foreground_mean(array: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    """Mean of the values inside the mask.

    Raises:
        VolumeError: the mask is empty, or the mean is not positive.
    """
    if not mask.any():
        raise VolumeError("no foreground: the image holds nothing that looks like tissue")
    mean = float(np.mean(array[mask], dtype=np.float64))
    if mean <= 0:
        raise VolumeError(f"a mean intensity of {mean:g} in the foreground", "a positive mean")
    return mean


def foreground_mask(
    array: NDArray[Any], unit: Unit | None = None, above_hu: float = BODY_HU
) -> NDArray[np.bool_]:
    """The head (or body) with skull and everything inside it: one piece without holes.

    Args:
        array: three axes in any order, acquired values.
        unit: "HU" for CT; guessed from the values if not given.
        above_hu: what counts as tissue in CT, see `IntensityScale.tissue_above`.

    Returns:
        bool, the shape of `array`; all False where nothing stands out.
    """
    values = np.asarray(array, dtype=np.float32)
    if unit is None:
        unit = "HU" if values.min() < -500 else "a.u."
    # A pixel's noise is averaged away; axes of few slices are thick and need none of it.
    sigma = [1.0 if n >= 16 else 0.0 for n in values.shape]
    smooth = ndimage.gaussian_filter(values, sigma, truncate=3.0)
    tissue = smooth > (above_hu if unit == "HU" else _air_threshold(smooth))
    # Bridges of a voxel or two (to a table, a headphone, a ghost) are cut before the largest
    # piece is chosen, and what the cut took from that piece is given back.
    cut = ndimage.binary_erosion(tissue, iterations=1)
    head = _largest_piece(cut if cut.any() else tissue)
    head = ndimage.binary_dilation(head, iterations=2, mask=tissue)
    return without_holes(head)


def _air_threshold(smooth: NDArray[np.float32]) -> float:
    """A threshold between air and the darkest tissue of an MR image.

    Otsu's threshold lies between dark and bright tissue when fat or CSF is very bright; on the
    square root of the values the bright ones weigh less, and half of the way down from there to
    the level of air keeps dark skull and lung borders.
    """
    positive = np.sqrt(np.maximum(smooth, 0.0))
    top = float(np.percentile(positive, 99.5))
    if top <= 0:
        return math.inf
    counts, edges = np.histogram(np.minimum(positive, top), bins=256, range=(0.0, top))
    centres = (edges[:-1] + edges[1:]) / 2
    split = _otsu(counts, centres)
    air = positive[positive < split]
    level = float(np.median(air)) if air.size else 0.0
    return float((level + 0.6 * (split - level)) ** 2)


def _otsu(counts: NDArray[Any], centres: NDArray[Any]) -> float:
    """The value that splits a histogram into two classes of greatest variance between them."""
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = sums[:-1] / below - (sums[-1] - sums[:-1]) / above
        between = np.nan_to_num(below * above * gap**2)
    best = np.flatnonzero(between == between.max())  # a plateau where the histogram is empty
    return float(centres[best].mean() + (centres[1] - centres[0]) / 2)


def _largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected piece of a mask."""
    labels, count = ndimage.label(mask)
    if count <= 1:
        return np.asarray(mask, dtype=bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def without_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill what is enclosed in any plane along any axis: sinuses, dark skull, ventricles."""
    filled = mask
    plane = ndimage.generate_binary_structure(2, 1)
    for axis in range(3):
        structure = np.expand_dims(plane, axis)
        filled = filled | ndimage.binary_fill_holes(mask, structure)
    return filled
