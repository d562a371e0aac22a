"""The signals of a head's tissues in random source scans and in the fixed scans of the targets.

A source is a random T1w, T2w or FLAIR scan. A target shows one fixed protocol of a contrast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from syndiff.phantom.head_signal import (
    FLAIR,
    FSE_T2,
    MPRAGE,
    SPIN_ECHO_T1,
    signal_of,
    with_scalp,
)
from syndiff.phantom.label_maps import INDEX, TISSUES

Signal = NDArray[np.float32]
CONTRASTS = ("T1", "T2", "FLAIR")
TARGET_PEAKS = {"T1": 3.6, "T2": 4.4, "FLAIR": 2.6}  # of white matter; such a target becomes 1
# Where tissue is brighter than elsewhere in T1w, it is darker in the others.
TEXTURE = {"T1": 1.0, "T2": -0.8, "FLAIR": -0.6}
FIXED_T1 = {name: (MPRAGE[name] * SPIN_ECHO_T1[name]) ** 0.5 for name in MPRAGE} | {"fat": 2.6}
FIXED: Mapping[str, Mapping[str, float]] = {
    "T1": FIXED_T1,
    "T2": FSE_T2,
    "FLAIR": {**FLAIR, "fat": 0.6, "marrow": 0.4, "orbit": 0.35},  # fat is suppressed
}
SPREADS: Mapping[str, Mapping[str, float]] = {
    "T1": {
        "csf": 0.2, "fat": 0.2, "marrow": 0.3, "bone": 0.3, "vessel": 0.4, "sinus": 0.45,
        "falx": 0.3, "eye": 0.2, "orbit": 0.2, "mucosa": 0.2, "muscle": 0.1, "scalp_1": 0.15,
    },
    "T2": {
        "csf": 0.15, "fat": 0.2, "marrow": 0.3, "bone": 0.3, "vessel": 0.4, "sinus": 0.45,
        "falx": 0.3, "eye": 0.15, "orbit": 0.2, "mucosa": 0.2, "muscle": 0.2, "scalp_1": 0.15,
        "pallidum": 0.15,
    },
    "FLAIR": {
        "csf": 0.4, "fat": 0.2, "marrow": 0.3, "bone": 0.3, "vessel": 0.4, "sinus": 0.45,
        "falx": 0.3, "eye": 0.4, "orbit": 0.2, "mucosa": 0.2, "muscle": 0.2, "scalp_1": 0.15,
        "pallidum": 0.1, "choroid": 0.3,
    },
}  # fmt: skip


def source_signal(rng: np.random.Generator, fat_layers: float, skin_fat: float) -> Signal:
    """The signal of each tissue (tissues,) in a random T1w scan between MPRAGE and spin echo."""
    share = float(np.clip(rng.uniform(-0.15, 1.15), 0, 1))
    a, b = signal_of(MPRAGE), signal_of(SPIN_ECHO_T1)
    signal = np.exp((1 - share) * np.log(a) + share * np.log(b))
    signal = _spread(rng, signal, "T1")
    signal[INDEX["ventricle"]] = signal[INDEX["csf"]] * np.exp(rng.normal(0, 0.08))
    return _whole(rng, signal, 0.8 * signal[INDEX["csf"]], fat_layers, skin_fat)


def _t2_signal(rng: np.random.Generator, fat_layers: float, skin_fat: float) -> Signal:
    """The signal of each tissue (tissues,) in a random T2w scan of any echo time."""
    signal = _spread(rng, signal_of(FSE_T2) ** rng.uniform(0.7, 1.2), "T2")
    signal[INDEX["ventricle"]] = signal[INDEX["csf"]] * np.exp(rng.normal(0.12, 0.12))
    if rng.random() < 0.2:
        _suppress_fat(rng, signal)
    return _whole(rng, signal, 0.5 * signal[INDEX["white_matter"]], fat_layers, skin_fat)


def _flair_signal(rng: np.random.Generator, fat_layers: float, skin_fat: float) -> Signal:
    """The signal of each tissue (tissues,) in a random FLAIR scan, with or without fat."""
    signal = _spread(rng, signal_of(FLAIR) ** rng.uniform(0.6, 1.3), "FLAIR")
    signal[INDEX["ventricle"]] = signal[INDEX["csf"]] * np.exp(rng.normal(0, 0.2))
    if rng.random() < 0.6:
        _suppress_fat(rng, signal)
    return _whole(rng, signal, 0.3 * signal[INDEX["white_matter"]], fat_layers, skin_fat)


SOURCES: Mapping[str, Callable[[np.random.Generator, float, float], Signal]] = {
    "T1": source_signal,
    "T2": _t2_signal,
    "FLAIR": _flair_signal,
}


def _spread(
    rng: np.random.Generator, signal: NDArray[np.floating], contrast: str
) -> NDArray[np.floating]:
    """Every tissue's signal varied a little, that of some tissues more."""
    signal = signal * np.exp(rng.normal(0, 0.05, len(TISSUES)))
    for name, spread in SPREADS[contrast].items():
        signal[INDEX[name]] *= np.exp(rng.normal(0, spread))
    return signal


def _suppress_fat(rng: np.random.Generator, signal: NDArray[np.floating]) -> None:
    share = rng.uniform(0.15, 0.6)
    for name in ("fat", "marrow", "orbit"):
        signal[INDEX[name]] *= share


def _whole(
    rng: np.random.Generator,
    signal: NDArray[np.floating],
    most_bone: float,
    fat_layers: float,
    skin_fat: float,
) -> Signal:
    """In multiples of white matter, with air, bone no brighter than `most_bone`, and a scalp."""
    signal[INDEX["air"]] = abs(rng.normal(0, 0.015))
    signal[INDEX["bone"]] = min(signal[INDEX["bone"]], most_bone)
    signal /= signal[INDEX["white_matter"]]
    return with_scalp(signal.astype(np.float32), fat_layers, skin_fat)


def fixed_signal(contrast: str, fat_layers: float, skin_fat: float) -> Signal:
    """The signal of each tissue in the fixed scan of a contrast, multiples of white matter."""
    return with_scalp(signal_of(FIXED[contrast]), fat_layers, skin_fat)


def lesion_signal(contrast: str, signal: Signal, depth: float, *, is_source: bool) -> float:
    """A lesion's signal: the darker it is in T1w, the brighter it is in T2w and FLAIR.

    Args:
        contrast: of `CONTRASTS`.
        signal: of the other tissues in the same scan, multiples of white matter.
        depth: 0 to 1.
        is_source: lesions of a source are fainter than those of the fixed T2w and FLAIR, and
            darker than its fluid.
    """
    if contrast == "T1":
        dark = 1 - (1 - signal[INDEX["grey_matter"]]) * (0.4 + 1.1 * depth)
        return float(max(np.float32(dark), 1.1 * signal[INDEX["csf"]]))
    if contrast == "FLAIR":
        return (1.3 if is_source else 1.5) + 0.6 * depth
    if is_source:
        return float(1 + (signal[INDEX["csf"]] - 1) * (0.3 + 0.5 * depth))
    return 2.15 + 0.75 * depth


def blackened(rng: np.random.Generator, contrast: str, signal: Signal) -> Signal:
    """As in scans whose darkest tissue was made black by a correction of their shading."""
    dark = signal[INDEX["csf"]] if contrast != "T2" else 0.4 * signal[INDEX["white_matter"]]
    return np.maximum(signal - rng.uniform(0.3, 1.05) * dark, 0)
