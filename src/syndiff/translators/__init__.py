"""Translators: what remains of a method after training.

A translator is a self-describing folder: `config.json` (modalities, grid, intensity scales,
network, provenance) and `model.safetensors` (weights, nothing executable).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from syndiff.errors import ModelError, UserError
from syndiff.io.atomic import read_json
from syndiff.io.checked import inside
from syndiff.translators.base import CONFIG, FORMAT, WEIGHTS, SliceNoise, Translator
from syndiff.translators.config import checked_config
from syndiff.translators.explicit import Explicit, Noise, Shape, explicit_noise
from syndiff.translators.large_steps import AdversarialDiffusionTranslator
from syndiff.translators.one_shot import OneShotTranslator
from syndiff.translators.onnx import OnnxTranslator, TorchProgramTranslator
from syndiff.translators.small_steps import (
    GaussianDiffusionTranslator,
    ParallelDiffusionTranslator,
)
from syndiff.translators.style import StyleTranslator
from syndiff.translators.weights import MetaWeights, check_finite, checked_weights

__all__ = [
    "CONFIG",
    "FORMAT",
    "KINDS",
    "ONLY_FOR",
    "SHIPPED",
    "WEIGHTS",
    "AdversarialDiffusionTranslator",
    "Explicit",
    "GaussianDiffusionTranslator",
    "Noise",
    "OneShotTranslator",
    "OnnxTranslator",
    "ParallelDiffusionTranslator",
    "Shape",
    "SliceNoise",
    "StyleTranslator",
    "TorchProgramTranslator",
    "Translator",
    "explicit_noise",
    "load_translator",
    "locate",
    "only_for",
    "other_direction",
    "read_config",
]

# Translators of real heads that ship with the package (docs/models.md).
BRAINS = ("brain-t1-t2",)
# Name of a translator that ships with the package → its folder.
SHIPPED = {"demo": Path(__file__).parents[1] / "demo" / "T1_to_T2"} | {
    name: Path(__file__).parents[1] / "models" / name for name in BRAINS
}
# Limits of the use of a shipped translator, beyond its modalities.
ONLY_FOR = {"demo": "virtual heads of 'syndiff phantom': it has never seen a person's scan"}

KINDS: dict[str, type[Translator]] = {
    kind.kind: kind
    for kind in (
        AdversarialDiffusionTranslator,
        GaussianDiffusionTranslator,
        OneShotTranslator,
        OnnxTranslator,
        ParallelDiffusionTranslator,
        StyleTranslator,
        TorchProgramTranslator,
    )
}


def load_translator(path: str | Path, device: str = "cpu") -> Translator:
    """Load a translator folder, ready to translate.

    Args:
        path: a folder with `config.json` and weights, or the name of a shipped one.
        device: "cpu", "cuda", "cuda:1", …

    Raises:
        ModelError: the folder is no translator, is damaged, has a newer format, or its weights do
            not fit the network in its configuration.
    """
    folder = locate(path)
    config = read_config(folder)
    try:
        with MetaWeights():
            outline = KINDS[config["kind"]].from_config(config)
        weights = inside(folder, outline.weights, ModelError)
        if outline.state_dict():
            checked_weights(weights, outline.state_dict())
        translator = KINDS[config["kind"]].from_config(config)
        translator.load_weights(folder)
        check_finite(translator, weights)
    except FileNotFoundError as error:
        raise ModelError(f"no weights in {folder}", remedy="export it again") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(f"the weights in {folder} are damaged ({error})") from error
    except (KeyError, TypeError, ValueError, RuntimeError, ArithmeticError, IndexError) as error:
        raise ModelError(
            f"the configuration {folder / CONFIG} does not describe a translator ({error!r})",
            "one written by this version of syndiff",
        ) from error
    return translator.to(device).eval().requires_grad_(False)


def locate(path: str | Path) -> Path:
    """The folder of a translator, given by its path or by a name in `SHIPPED`."""
    shipped = SHIPPED.get(str(path))
    if shipped is not None and not (Path(path) / CONFIG).is_file():
        return shipped  # also where `make demo` has made a folder of that name
    return Path(path)


def only_for(path: str | Path) -> str:
    """Limits of the use of a shipped translator, in words; empty where there are none."""
    folder = locate(path).resolve()
    names = [name for name, shipped in SHIPPED.items() if shipped.resolve() == folder]
    return ONLY_FOR.get(names[0], "") if names else ""


def other_direction(model: str | Path, translator: Translator) -> Translator | None:
    """The same run's translator of the other direction, if it lies beside `model`; else None."""
    folder = locate(model).resolve().parent / f"{translator.target}_to_{translator.source}"
    try:
        back = load_translator(folder)
    except UserError:
        return None
    ends = (back.sources, back.target) == ((translator.target,), translator.source)
    shared = ("spacing_mm", "size", "intensity")  # what differs between runs
    same = all(back.config[key] == translator.config[key] for key in shared)
    return back if ends and same else None


def read_config(folder: str | Path) -> dict[str, Any]:
    """A translator's configuration, checked.

    Raises:
        ModelError: it is missing, is damaged or has a newer format.
    """
    folder = Path(folder)
    hint = "give a translator folder such as RUN/translators/T1_to_T2"
    if not folder.is_dir():
        raise ModelError(f"no translator folder {folder}", remedy=hint)
    try:
        config = read_json(folder / CONFIG, "translator configuration", hint)
    except UserError as error:
        raise ModelError(error.found, error.expected, error.remedy) from error
    if not isinstance(config, dict) or "format" not in config:
        raise ModelError(f"{folder / CONFIG} lacks format", "a translator", hint)
    if config["format"] != FORMAT:
        raise ModelError(
            f"{folder} has format {config['format']}", f"format {FORMAT}", "update syndiff"
        )
    checked_config(config, folder / CONFIG, hint)
    return config
