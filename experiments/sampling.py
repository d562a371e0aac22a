"""Three ways of sampling from one translator: what each is worth, and what it costs.

    python -m experiments.sampling DATA [MODEL]     prepared data with test pairs; the demo's model

Prints for each way: PSNR and SSIM (profile `paper`), sharpness (mean gradient magnitude relative
to the reference's), offset, and seconds per slice.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from syndiff.anatomy.offset import stack_offset
from syndiff.evaluation.metrics import psnr, ssim
from syndiff.evaluation.profiles import get_profile
from syndiff.inference import TranslationOptions, translate_slices
from syndiff.preparation.manifest import read_manifest
from syndiff.translators import load_translator
from syndiff.translators.sampling import Sampling

WAYS = (
    Sampling("chain"),
    Sampling("expectation", samples=2),
    Sampling("expectation", samples=8),
    Sampling("regression"),
)
EVERY = 2  # slices


def slope(images: NDArray[np.float32]) -> float:
    """Mean gradient magnitude."""
    dy, dx = np.gradient(images, axis=(1, 2))
    return float(np.hypot(dy, dx).mean())


def main(data: Path, model: str) -> None:
    translator, manifest = load_translator(model), read_manifest(data)
    stacks = [
        np.concatenate([s.load()[::EVERY] for s in manifest.scans("test", modality)])
        for modality in (translator.source, translator.target)
    ]
    source, reference = stacks
    profile = get_profile("paper")
    print(f"{len(source)} slices")
    print("| way | PSNR (dB) | SSIM | sharpness | offset (px) | s per slice |")
    for way in WAYS:
        translate_slices(translator, source[:2], TranslationOptions(sampling=way, device="cpu"))
        started = time.perf_counter()
        made = translate_slices(
            translator, source, TranslationOptions(sampling=way, batch_size=32, device="cpu")
        )
        seconds = (time.perf_counter() - started) / len(source)
        pairs = list(zip(made, reference, strict=True))
        name = f"{way.way} of {way.samples}" if way.way == "expectation" else way.way
        offset = stack_offset(made, reference).magnitude
        print(
            f"| {name} | {np.mean([psnr(a, b, profile) for a, b in pairs]):.2f} "
            f"| {np.mean([ssim(a, b, profile) for a, b in pairs]):.3f} "
            f"| {slope(made) / slope(reference):.3f} | {offset:.2f} "
            f"| {seconds:.4f} |"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if sys.argv[2:] else "demo")
