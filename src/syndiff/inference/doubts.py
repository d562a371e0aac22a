"""Warnings that a volume differs from a translator's training data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from syndiff.inference.likeness import Likeness, modality_of, nearest
from syndiff.preparation.contrast import head_contrast
from syndiff.preparation.fingerprint import NAMES, fingerprint
from syndiff.preparation.intensity import IntensityScale, tissue_quantiles
from syndiff.translators import Translator

SEEN = {
    "T1": "fluid is dark, and the cortex darker than white matter",
    "T2": "fluid is bright",
    "FLAIR": "fluid is dark, and the cortex brighter than white matter",
}

if TYPE_CHECKING:  # nibabel is needed for volumes only, not for slices
    from syndiff.io.volume import Volume


def doubts(
    translator: Translator,
    volume: Volume,
    mask: NDArray[np.bool_],
    mean: float,
    modality: str = "",
) -> list[str]:
    """Warnings that a volume differs from the translator's training data.

    Args:
        translator: the translator that will be applied.
        volume: the source volume in acquired units.
        mask: (x, y, z) the tissue.
        mean: the mean by which intensities are divided.
        modality: which source the volume is; the translator's only source if empty.

    Returns:
        One sentence for each difference; an empty list if the volume is like the training data.
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
    """Warnings that a scan differs from the training scans of its modality.

    Args:
        config: the translator's configuration. Newer configurations hold the fingerprints of the
            training scans. Older ones hold only quantiles of the normalised tissue, which tell
            less about a scan.
        volume, mask, mean, modality: as in `doubts`.

    Returns:
        At most one sentence.
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
    if (config.get("fingerprints") or {}).get("of_any_scanner"):
        found = contrast_doubts(volume, mask, modality)
        if found:
            return found
    like = own[nearest(own, row)]
    other = modality_of(kind := nearest(known, row))
    # The limit of a varied cohort is wide. A scan that is nearer to another modality is therefore
    # doubted from half the limit on.
    halfway = like.distance(row) > 0.5 * like.limit
    elsewhere = other != modality and halfway
    if like.accepts(row) and not elsewhere:
        return []
    differs = like.differs(row)
    if other != modality and known[kind].accepts(row):
        return [f"{volume.name} looks like {other}, not {modality}: {differs}"]
    near = other != modality and known[kind].distance(row) < 2 * known[kind].limit
    closest = f", and nearer to {other}" if near else ""
    if len(own) > 1:  # the translator knows stripped heads, too
        return [
            f"{volume.name} is unlike the {modality} scans that the translator was trained on"
            f"{closest}: {differs}; is it the right modality, and a head?"
        ]
    return [
        f"{volume.name} is unlike the {modality} scans that the translator was trained on"
        f"{closest}: {differs}; is it the right modality, a whole head, not stripped or masked?"
    ]


def contrast_doubts(volume: Volume, mask: NDArray[np.bool_], modality: str) -> list[str]:
    """Whether fluid and cortex of a head are as bright as another modality shows them."""
    looks = head_contrast(volume.array, mask, volume.spacing_mm)
    if looks in ("", modality) or modality not in SEEN:
        return []
    if looks == "none":
        return [f"{volume.name} shows no fluid within the brain: is it a {modality} of a head?"]
    return [f"{volume.name} looks like {looks}, not {modality}: in it {SEEN[looks]}"]
