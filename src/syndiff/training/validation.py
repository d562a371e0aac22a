"""Validation: real reverse sampling with the averaged weights on slices of validation subjects.

The shift of the anatomy is measured on any subject that has the sources. PSNR, SSIM and the offset
to a reference need subjects that have the target too, on the same grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from syndiff.anatomy.check import AnatomyCheck, check_anatomy, spread
from syndiff.anatomy.offset import median_offset
from syndiff.evaluation.metrics import psnr, ssim
from syndiff.evaluation.profiles import profile_for
from syndiff.inference import TranslationOptions, translate_slices
from syndiff.preparation.intensity import IntensityScale
from syndiff.preparation.manifest import Manifest
from syndiff.reporting import SILENT, Reporter
from syndiff.training.best import distribution_error
from syndiff.training.guard import DivergedError
from syndiff.training.subjects import stacks
from syndiff.translators import Translator
from syndiff.translators.sampling import Sampling

MAX_SLICES = 16
AT_ONCE = 4  # slices, so that whoever waits sees them go by
MAX_SAMPLING_STEPS = 20  # of the methods whose chains are long and can be respaced
Slices = NDArray[np.float32]


@dataclass(frozen=True)
class ValidationSlices:
    """At most 16 slices for each direction, spread evenly over the validation subjects.

    Attributes:
        sources: a translator's `source` → (n, c, h, w) float32 in [0, 1]; a direction for which
            there is no validation subject is left out. An unconditional one's is "", with c = 0.
        references: target modality → (n, h, w), slice i belonging to slice i of the sources;
            empty without paired subjects.
        scales: each modality's intensity rule.
        spacing_mm: pixel size.
    """

    sources: dict[str, Slices]
    references: dict[str, Slices]
    scales: dict[str, IntensityScale]
    spacing_mm: float

    def first(self, count: int) -> ValidationSlices:
        """So many of them."""
        return replace(
            self,
            sources={name: images[:count] for name, images in self.sources.items()},
            references={name: images[:count] for name, images in self.references.items()},
        )

    @property
    def paired(self) -> bool:
        """Whether there are references."""
        return bool(self.references)


@dataclass(frozen=True)
class Validation:
    """The result of one direction: its scores, its anatomy check, and rows of slices to show.

    Without a source there is nothing to score or check.

    Attributes:
        rows: what each of the pictures shows.
    """

    scores: dict[str, float]
    check: AnatomyCheck | None
    pictures: tuple[Slices, ...]
    rows: tuple[str, ...]


def validation_slices(manifest: Manifest, sources: Sequence[str], target: str) -> ValidationSlices:
    """Read the validation slices: of paired subjects if there are any, else of all others."""
    modalities = (*sources, target)
    scales = {m: manifest.intensity[m] for m in modalities}
    found, references = {}, {}
    pairs = _read(manifest, modalities)
    if pairs is not None:
        images = dict(zip(modalities, np.moveaxis(pairs, 1, 0), strict=True))
        found = {"+".join(sources): pairs[:, :-1], target: pairs[:, -1:]}
        references = {m: images[m] for m in (target, *sources)} if sources else {}
    else:
        for names in (tuple(sources), (target,)):
            slices = _read(manifest, names)
            if slices is not None:
                found["+".join(names)] = slices
    return ValidationSlices(found, references, scales, manifest.spacing_mm)


def _read(manifest: Manifest, modalities: Sequence[str]) -> Slices | None:
    """(n, c, h, w) of validation subjects that have all modalities; None if there is nobody."""
    subjects = stacks(manifest, "val", modalities)
    places = [(scans, i) for scans in subjects.values() for i in range(scans[0].count)]
    picked = [places[place] for place in spread(len(places), MAX_SLICES)]
    if not picked:
        return None
    return np.stack([[scan.load()[i] for scan in scans] for scans, i in picked])


def validate(
    translator: Translator,
    back: Translator | None,
    slices: ValidationSlices,
    seed: int,
    device: str,
    report: Reporter = SILENT,
) -> Validation | None:
    """Translate the validation slices, compare with their sources and with references if any.

    Args:
        translator: the direction to judge.
        back: translator of the other direction, for the way back.
        slices: result of `validation_slices`.
        seed, device: see `translate_slices`.
        report: told how many slices are translated.

    Returns:
        None where there is no slice to translate. A score that cannot be measured is NaN.

    Raises:
        DivergedError: the translator makes values that are not finite.
    """
    source = slices.sources.get(translator.source)
    if source is None:
        return None

    def translate(by: Translator, report: Reporter = SILENT) -> Callable[[Slices], Slices]:
        long = by.respaceable and by.sampling_steps > MAX_SAMPLING_STEPS
        few = Sampling(steps=MAX_SAMPLING_STEPS if long else 0)
        options = TranslationOptions(
            seed=seed,
            device=device,
            batch_size=AT_ONCE,
            sampling=few,
            shared_noise=bool(by.sources),
        )
        return lambda images: translate_slices(by, images, options, report=report)

    made = translate(translator, report)(source)
    if not np.isfinite(made).all():
        step = int(translator.config["training"]["steps"]) - 1
        raise DivergedError(step, [f"images of {translator.name}"])
    if not translator.sources:
        acquired = slices.sources[translator.target][:, 0]
        return Validation({}, None, (made, acquired), ("made", "acquired, others"))
    check = check_anatomy(
        source,
        made,
        source_scale=slices.scales[translator.sources[0]],
        target_scale=slices.scales[translator.target],
        spacing_mm=slices.spacing_mm,
        translate_back=translate(back) if back else None,
    )
    reference = slices.references.get(translator.target)
    scores: dict[str, float] = {}
    if reference is not None:
        profile = profile_for(slices.scales[translator.target].unit)
        pairs = list(zip(made, reference, strict=True))
        scores = {
            "psnr_db": mean(psnr(a, b, profile) for a, b in pairs),
            "ssim": mean(ssim(a, b, profile) for a, b in pairs),
            "offset_px": median_offset(made, reference),
        }
    elif translator.target in slices.sources:  # acquired slices of other people
        acquired = slices.sources[translator.target]
        scores = {"distribution_error": distribution_error(made, acquired)}
    names = ["source_offset_px", "foreground_dice"] + ["way_back_error"] * (back is not None)
    scores |= dict.fromkeys(names, math.nan) | check.scores()
    rows = [*np.moveaxis(source, 1, 0), made] + ([reference] if reference is not None else [])
    words = [*translator.sources, f"synthetic {translator.target}"]
    words += [f"acquired {translator.target}"] if reference is not None else []
    return Validation(scores, check, tuple(rows), tuple(words))


def mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def panel(images: Sequence[Slices], columns: int = 4) -> Slices:
    """Rows of source, synthetic and reference slices side by side; (h·rows, w·columns)."""
    count = len(images[0])
    chosen = np.linspace(0, count - 1, min(columns, count)).round().astype(int)
    return np.concatenate(
        [np.concatenate(list(stack[chosen]), axis=1) for stack in images], axis=0
    )
