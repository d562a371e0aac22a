"""Reasons to think that a volume is unlike a translator's training data, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from syndiff.preparation.intensity import IntensityScale, tissue_quantiles
from syndiff.translators import Translator

if TYPE_CHECKING:  # nibabel is needed for volumes only, not for slices
    from syndiff.io.volume import Volume


def doubts(
    translator: Translator,
    volume: Volume,
    mask: NDArray[np.bool_],
    mean: float,
    modality: str = "",
) -> list[str]:
    """Reasons to think that the volume is unlike the translator's training data, in words.

    `modality` says which source it is where there are several.
    """
    config, name, modality = translator.config, volume.name, modality or translator.source
    found = []
    x, y, _ = volume.spacing_mm
    if min(x, y) < 0.9 * translator.spacing_mm:
        found.append(
            f"{name} has pixels of {y:.2f}×{x:.2f} mm, finer than the {translator.spacing_mm:.2f} "
            "mm of the translator's training data: the result has their coarser detail"
        )
    elif max(x, y) > 1.5 * translator.spacing_mm:
        found.append(
            f"{name} has pixels of {y:.2f}×{x:.2f} mm, coarser than the "
            f"{translator.spacing_mm:.2f} mm of the training data: expect a blurred result"
        )
    if volume.array.shape[2] == 1:
        found.append(f"{name} is a single slice: is it axial?")
    extent = np.ptp(np.argwhere(mask.any(axis=2)), axis=0) * (x, y)
    if extent.min() < 40 or extent.max() > 600:
        found.append(
            f"the tissue in {name} measures {extent[0]:.0f}×{extent[1]:.0f} mm: is it a head?"
        )
    statistics = config.get("tissue_quantiles")
    if statistics:
        scale = IntensityScale.from_dict(config["intensity"][modality])
        found += _modality_doubts(
            tissue_quantiles(scale.normalise(volume.array, mean), mask),
            statistics,
            modality,
            name,
        )
    return found


def _modality_doubts(
    quantiles: list[float], statistics: dict[str, Any], modality: str, name: str
) -> list[str]:
    """Compare a scan's quantiles with those of the training subjects of every modality."""

    def distance(other: str) -> float:
        subjects = np.asarray(statistics[other])
        return float(np.abs(subjects - quantiles).mean(axis=1).min())

    subjects = np.asarray(statistics[modality])
    spread = float(np.abs(subjects - np.median(subjects, axis=0)).mean(axis=1).max())
    if distance(modality) <= max(3 * spread, 0.06):
        return []
    nearest = min(statistics, key=distance)
    if nearest != modality:
        return [f"the intensities of {name} look like {nearest}, not {modality}"]
    return [
        f"the intensities of {name} are unlike the {modality} scans that the translator "
        "was trained on: is it the right modality?"
    ]
