"""Validation: real reverse sampling with the averaged weights on paired validation slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.evaluation.metrics import profile_for, psnr, ssim
from syndiff.evaluation.offset import median_offset
from syndiff.inference import translate_slices
from syndiff.preparation.manifest import Manifest
from syndiff.translators import Translator

MAX_SLICES = 16


@dataclass(frozen=True)
class Pairs:
    """Validation slices of both modalities, slice i of one belonging to slice i of the other.

    Attributes:
        images: modality → (n, h, w) float32 in [0, 1]; empty without paired subjects.
        units: modality → "a.u." or "HU".
    """

    images: dict[str, NDArray[np.float32]]
    units: dict[str, str]

    def __len__(self) -> int:
        return min((len(array) for array in self.images.values()), default=0)


def validation_pairs(manifest: Manifest, source: str, target: str) -> Pairs:
    """At most 16 slices per modality, spread evenly over the paired validation subjects."""
    subjects = manifest.paired_subjects("val", source, target)
    units: dict[str, str] = {m: manifest.intensity[m].unit for m in (source, target)}
    scans = {
        m: {scan.subject: scan for scan in manifest.scans("val", m)} for m in (source, target)
    }
    places = [(s, i) for s in subjects for i in range(scans[source][s].count)]
    if not places:
        return Pairs({}, units)
    chosen = np.linspace(0, len(places) - 1, min(MAX_SLICES, len(places)) + 2)[1:-1]
    picked = [places[round(float(c))] for c in chosen] or places[:1]
    images = {
        m: np.stack(
            [np.load(scans[m][s].slices_path, mmap_mode="r")[i] for s, i in picked]
        ).astype(np.float32)
        for m in (source, target)
    }
    return Pairs(images, units)


def score(
    translator: Translator, pairs: Pairs, seed: int, device: str
) -> tuple[dict[str, float], NDArray[np.float32]]:
    """PSNR (dB), SSIM and offset (pixels) of a translator on the pairs, and what it made.

    Without pairs the scores are empty and so is the picture.
    """
    if not len(pairs):
        return {}, np.empty((0, 0, 0), np.float32)
    reference = pairs.images[translator.target]
    made = translate_slices(
        translator, pairs.images[translator.source], seed=seed, device=device, batch_size=16
    )
    profile = profile_for(pairs.units[translator.target])
    scores = {
        "psnr_db": mean(psnr(a, b, profile) for a, b in zip(made, reference, strict=True)),
        "ssim": mean(ssim(a, b, profile) for a, b in zip(made, reference, strict=True)),
        "offset_px": float(median_offset(made, reference)),
    }
    return scores, made


def mean(values: Any) -> float:
    return float(np.mean(list(values)))


def panel(images: Sequence[NDArray[np.float32]], columns: int = 4) -> NDArray[np.float32]:
    """Rows of source, synthetic and reference slices side by side; (h·rows, w·columns)."""
    count = len(images[0])
    chosen = np.linspace(0, count - 1, min(columns, count)).round().astype(int)
    return np.concatenate(
        [np.concatenate(list(stack[chosen]), axis=1) for stack in images], axis=0
    )
