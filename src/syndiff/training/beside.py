"""What costs nothing, on the validation slices: the figures that a training must beat."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from syndiff.anatomy.check import spread
from syndiff.errors import DataError
from syndiff.evaluation.baselines import copy, fit_histogram
from syndiff.evaluation.metrics import psnr, ssim
from syndiff.evaluation.pairs import head_finder
from syndiff.evaluation.profiles import profile_for
from syndiff.preparation.manifest import Manifest
from syndiff.training.validation import Slices, ValidationSlices, mean

MOST_SCANS = 8  # of each modality, for the histograms; a report takes all


def baseline_scores(
    manifest: Manifest, slices: ValidationSlices, source: str, target: str
) -> dict[str, float]:
    """PSNR and SSIM of copying and of matching histograms: "copy_psnr_db", "histogram_ssim", …

    Args:
        manifest: of the prepared data.
        slices: of `validation_slices`.
        source: a translator's `source`; of several modalities the first is taken.
        target: its target.

    Returns:
        Nothing where there are no references.
    """
    images, reference = slices.sources.get(source), slices.references.get(target)
    if images is None or reference is None or not images.shape[1]:
        return {}
    profile = profile_for(slices.scales[target].unit)
    found = {}
    for name, predict in _baselines(manifest, source.split("+")[0], target).items():
        pairs = list(zip(predict(images[:, 0]), reference, strict=True))
        found[f"{name}_psnr_db"] = mean(psnr(a, b, profile) for a, b in pairs)
        found[f"{name}_ssim"] = mean(ssim(a, b, profile) for a, b in pairs)
    return found


def _baselines(
    manifest: Manifest, source: str, target: str
) -> dict[str, Callable[[Slices], Slices]]:
    """Histograms are matched to those of at most eight training scans, evenly spread."""

    def few(modality: str) -> list[Slices]:
        scans = manifest.scans("train", modality)
        return [scans[i].load() for i in spread(len(scans), MOST_SCANS)]

    found: dict[str, Callable[[Slices], Slices]] = {"copy": copy}
    with suppress(DataError):  # training scans without tissue: nothing to match
        found["histogram"] = fit_histogram(
            few(source),
            few(target),
            source_foreground=head_finder(manifest.scale(source)),
            target_foreground=head_finder(manifest.scale(target)),
        )
    return found
