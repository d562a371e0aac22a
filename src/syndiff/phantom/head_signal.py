"""Signal of each tissue of a head: MR relative to white matter, CT in HU.

The values of brain tissues follow the statistics of real scans in BBillot/SynthSR (Apache-2.0;
Iglesias et al., NeuroImage 237, 2021). The values of all other tissues follow the usual
appearance in spin-echo and MPRAGE scans at 1.5 and 3 T.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from syndiff.phantom.label_maps import INDEX, TISSUES

MPRAGE: Mapping[str, float] = {
    "air": 0.01, "csf": 0.24, "grey_matter": 0.60, "white_matter": 1.0, "brain_stem": 0.86,
    "thalamus": 0.82, "caudate": 0.67, "putamen": 0.76, "pallidum": 0.93, "hippocampus": 0.58,
    "lesion": 0.72, "oedema": 0.62, "vessel": 0.60, "sinus": 0.40, "muscle": 0.58, "fat": 1.55,
    "bone": 0.12, "marrow": 0.95, "eye": 0.20, "orbit": 0.75, "mucosa": 0.50, "cord": 0.80,
    "choroid": 0.42, "perivascular": 0.45, "falx": 0.60,
}  # fmt: skip
SPIN_ECHO_T1: Mapping[str, float] = {
    **MPRAGE,
    "csf": 0.36, "grey_matter": 0.86, "brain_stem": 0.92, "thalamus": 0.91, "caudate": 0.87,
    "putamen": 0.89, "pallidum": 0.95, "hippocampus": 0.82, "lesion": 0.80, "oedema": 0.70,
    "vessel": 0.30, "sinus": 0.40, "muscle": 0.72, "fat": 2.5, "bone": 0.14, "marrow": 1.7,
    "eye": 0.35, "orbit": 0.80, "mucosa": 0.75, "cord": 0.85, "choroid": 0.55,
    "perivascular": 0.6,
}  # fmt: skip
FSE_T2: Mapping[str, float] = {
    "air": 0.01, "csf": 2.6, "grey_matter": 1.42, "white_matter": 1.0, "brain_stem": 1.08,
    "thalamus": 1.06, "caudate": 1.12, "putamen": 0.98, "pallidum": 0.62, "hippocampus": 1.42,
    "lesion": 2.0, "oedema": 2.3, "vessel": 0.45, "sinus": 0.55, "muscle": 0.50, "fat": 2.7,
    "bone": 0.15, "marrow": 1.3, "eye": 3.3, "orbit": 0.9, "mucosa": 2.0, "cord": 1.0,
    "choroid": 2.2, "perivascular": 2.0, "falx": 0.7,
    "ventricle": 3.2,
}  # fmt: skip

PROTON_DENSITY: Mapping[str, float] = {
    "air": 0.01, "csf": 1.25, "grey_matter": 1.17, "white_matter": 1.0, "brain_stem": 1.0,
    "thalamus": 1.08, "caudate": 1.15, "putamen": 1.08, "pallidum": 0.92, "hippocampus": 1.17,
    "lesion": 1.35, "oedema": 1.4, "vessel": 0.4, "sinus": 0.5, "muscle": 0.9, "fat": 1.35,
    "bone": 0.15, "marrow": 0.9, "eye": 1.25, "orbit": 0.95, "mucosa": 1.25, "cord": 1.0,
    "choroid": 1.2, "perivascular": 1.2, "falx": 0.6,
}  # fmt: skip
FLAIR: Mapping[str, float] = {
    "air": 0.01, "csf": 0.18, "grey_matter": 1.25, "white_matter": 1.0, "brain_stem": 1.0,
    "thalamus": 1.05, "caudate": 1.15, "putamen": 1.05, "pallidum": 0.85, "hippocampus": 1.3,
    "lesion": 1.9, "oedema": 1.9, "vessel": 0.35, "sinus": 0.4, "muscle": 0.6, "fat": 1.5,
    "bone": 0.12, "marrow": 0.9, "eye": 0.2, "orbit": 0.7, "mucosa": 1.3, "cord": 0.95,
    "choroid": 0.8, "perivascular": 0.6, "falx": 0.7,
}  # fmt: skip
CT_HU: Mapping[str, float] = {
    "air": -1000, "csf": 8, "grey_matter": 38, "white_matter": 29, "brain_stem": 30,
    "thalamus": 36, "caudate": 38, "putamen": 38, "pallidum": 40, "hippocampus": 36,
    "lesion": 22, "oedema": 18, "vessel": 45, "sinus": 55, "muscle": 55, "fat": -95,
    "bone": 1150, "marrow": 420, "eye": 12, "orbit": 5, "mucosa": 45, "cord": 32,
    "choroid": 40, "perivascular": 15, "falx": 55,
}  # fmt: skip


def signal_of(table: Mapping[str, float]) -> NDArray[np.float32]:
    """The signal of each code of `TISSUES`, (tissues,).

    All scalp layers have the signal of skin; `with_scalp` sets their fat.
    """
    skin = 0.5 * (table["muscle"] + table["grey_matter"])
    whole = {"ventricle": table["csf"], **{f"scalp_{n}": skin for n in (1, 2, 3, 4)}, **table}
    return np.array([whole[name] for name in TISSUES], np.float32)


def with_scalp(
    signal: NDArray[np.float32], fat_layers: float, skin_fat: float
) -> NDArray[np.float32]:
    """Set the signals of the scalp layers.

    Args:
        signal: (tissues,) as `signal_of` returns it.
        fat_layers: number of layers of fat below the skin, 0 to 3; a fraction mixes with muscle.
        skin_fat: fraction of fat in the outermost layer, 0 to 1.

    Returns:
        (tissues,), a copy.
    """
    mixed = signal.copy()
    skin, fat, muscle = (signal[INDEX[name]] for name in ("scalp_1", "fat", "muscle"))
    mixed[INDEX["scalp_1"]] = (1 - skin_fat) * skin + skin_fat * fat
    for layer in range(3):
        share = float(np.clip(fat_layers - layer, 0, 1))
        mixed[INDEX[f"scalp_{layer + 2}"]] = share * fat + (1 - share) * muscle
    return mixed
