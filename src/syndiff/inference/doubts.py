"""Reasons to think that a volume is unlike a translator's training data, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from syndiff.inference.likeness import Likeness, modality_of, nearest
from syndiff.preparation.fingerprint import NAMES, fingerprint
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
    return found + modality_doubts(config, volume, mask, mean, modality)


def modality_doubts(
    config: Mapping[str, Any],
    volume: Volume,
    mask: NDArray[np.bool_],
    mean: float,
    modality: str,
) -> list[str]:
    """Whether a scan is unlike those of the modality that a translator was trained on.

    Args:
        config: the translator's. Newer ones hold the fingerprints of their training scans; older
            ones only the quantiles of their normalised tissue, which tell less.
        volume, mask, mean, modality: as in `doubts`.
    """
    scale = IntensityScale.from_dict(config["intensity"][modality])
    if config.get("fingerprints"):
        if tuple(config["fingerprints"]["names"]) != NAMES:
            return [
                f"whether {volume.name} is like the training scans was not checked: another "
                "version of syndiff took their fingerprints"
            ]
        known = Likeness.of_card(config["fingerprints"])
        row = fingerprint(volume.array, mask, volume.spacing_mm, scale.unit)
    elif config.get("tissue_quantiles"):
        known = Likeness.of_quantiles(config["tissue_quantiles"])
        row = tissue_quantiles(scale.normalise(volume.array, mean), mask)
    else:
        return []
    own = {kind: like for kind, like in known.items() if modality_of(kind) == modality}
    if not own:
        return []
    like = own[nearest(own, row)]
    other = modality_of(kind := nearest(known, row))
    # Within a wide limit, too, a scan that fits another modality better is doubted.
    halfway = like.distance(row) > 0.5 * like.limit
    elsewhere = other != modality and halfway
    if like.accepts(row) and not elsewhere:
        return []
    differs = like.differs(row)
    if other != modality and known[kind].accepts(row):
        return [f"{volume.name} looks like {other}, not {modality}: {differs}"]
    near = other != modality and known[kind].distance(row) < 2 * known[kind].limit
    closest = f", and nearer to {other}" if near else ""
    if len(own) > 1:  # it knows stripped heads too
        return [
            f"{volume.name} is unlike the {modality} scans that the translator was trained on"
            f"{closest}: {differs}; is it the right modality, and a head?"
        ]
    return [
        f"{volume.name} is unlike the {modality} scans that the translator was trained on"
        f"{closest}: {differs}; is it the right modality, a whole head, not stripped or masked?"
    ]
