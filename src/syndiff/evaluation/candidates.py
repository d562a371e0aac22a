"""Translators as functions of prepared slices, and the check of their common direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from syndiff.anatomy.check import check_anatomy
from syndiff.errors import ModelError, OptionError, UserError
from syndiff.evaluation.pairs import convert
from syndiff.evaluation.scoring import Check, Predict, Slices
from syndiff.preparation.intensity import IntensityScale
from syndiff.preparation.manifest import Manifest

if TYPE_CHECKING:  # torch is imported only when a translator is read
    from syndiff.inference import TranslationOptions
    from syndiff.translators import Translator


@dataclass(frozen=True)
class How:
    """How the models translate.

    Attributes:
        seed, batch_size, device, precision: see `syndiff.inference.translate_slices`.
        sampling, samples: see `syndiff.translators.sampling.Sampling`.
        sampling_steps: number of steps of models whose chains can be respaced; 0: as in training.
    """

    seed: int = 0
    batch_size: int = 8
    device: str = "auto"
    precision: str = "32"
    sampling: str = "chain"
    samples: int = 8
    sampling_steps: int = 0

    def options(self, translator: Translator) -> TranslationOptions:
        """The options of a translation; steps are only set if the translator can be respaced."""
        from syndiff.inference import TranslationOptions
        from syndiff.translators.sampling import Sampling

        steps = self.sampling_steps if translator.respaceable else 0
        return TranslationOptions(
            seed=self.seed,
            batch_size=self.batch_size,
            device=self.device,
            precision=self.precision,
            sampling=Sampling(self.sampling, self.samples, steps),
        )


def load(name: str, path: Path) -> Translator:
    """Read a translator; torch is imported only here, so that bad options fail early.

    Raises:
        ModelError: the folder is not a translator folder, or is damaged.
    """
    from syndiff.translators import load_translator

    try:
        return load_translator(path)
    except UserError as error:
        raise ModelError(f"model {name}: {error.found}", error.expected, error.remedy) from error


def direction(
    translators: Mapping[str, Translator], source: str | None, target: str | None
) -> tuple[tuple[str, ...], str]:
    """The sources and the target of the models.

    Raises:
        OptionError: the models differ in direction from each other or from `source` and `target`,
            or no direction is given.
    """
    claims: dict[tuple[str, str], str] = {}
    for name, translator in translators.items():
        translator.require_source()
        has = ("+".join(translator.sources), translator.target)
        if has != (source or has[0], target or has[1]):
            raise OptionError(
                f"model {name} translates {has[0]} to {has[1]}",
                f"{source or has[0]} to {target or has[1]}, as `source` and `target` say",
                "leave these out or give the other direction's translator",
            )
        claims.setdefault(has, name)
    if len(claims) > 1:
        what = ", ".join(f"{name} {a} to {b}" for (a, b), name in claims.items())
        raise OptionError(
            f"the models translate differently ({what})",
            "models of one direction",
            "evaluate each direction by itself",
        )
    if not claims and not (source and target):
        raise OptionError("neither a model nor a direction", remedy="give a `model` NAME=PATH")
    joined, target = next(iter(claims), (source or "", target or ""))
    return tuple(joined.split("+")), target


def predictor(translator: Translator, how: How) -> Predict:
    """The translator as a function of slices in its own intensity scale."""
    from syndiff.inference import translate_slices

    options = how.options(translator)
    ready = translator.for_precision(how.precision)
    return lambda slices: translate_slices(ready, slices, options)


def anatomy_check(path: Path, translator: Translator, manifest: Manifest, how: How) -> Check:
    """The check of the anatomy, with the way back if the folder has the other direction, too."""
    back = other_direction(path, translator)
    return partial(
        check_anatomy,
        source_scale=manifest.scale(translator.sources[0]),
        target_scale=manifest.scale(translator.target),
        spacing_mm=manifest.spacing_mm,
        translate_back=in_its_scale(predictor(back, how), back, manifest) if back else None,
    )


def other_direction(path: Path, translator: Translator) -> Translator | None:
    """The translator of the other direction from the same run, or None."""
    from syndiff.translators import other_direction as beside

    return beside(path, translator)


def in_its_scale(predict: Predict, translator: Translator, manifest: Manifest) -> Predict:
    """Convert slices to the intensity scale of the translator's training, and the result back.

    `syndiff translate` does the same with a new scan, so both give the same images.
    """
    own = {m: IntensityScale.from_dict(c) for m, c in translator.config["intensity"].items()}
    target = translator.target

    def adapted(slices: Slices) -> Slices:
        channels = slices[:, None] if slices.ndim == 3 else slices
        scaled = [
            convert(channels[:, i], manifest.scale(source), own[source])
            for i, source in enumerate(translator.sources)
        ]
        result = predict(scaled[0] if slices.ndim == 3 else np.stack(scaled, axis=1))
        return convert(result, own[target], manifest.scale(target))

    return adapted


def of_first_source(predict: Predict) -> Predict:
    """Let a baseline use only the first of several sources: (n, c, h, w) → (n, h, w)."""
    return lambda slices: predict(slices if slices.ndim == 3 else slices[:, 0])
