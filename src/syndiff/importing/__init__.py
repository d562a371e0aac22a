"""An official SynDiff checkpoint becomes a translator folder.

The official training (github.com/icon-lab/SynDiff) leaves

    gen_diffusive_1_50.pth   weights that make contrast 1 from contrast 2, averaged with --use_ema
    gen_diffusive_2_50.pth   the other direction
    content.pth              everything that resuming needs, its options among it; the weights in
                             it are the last step's, their average is in the optimizer's state

The networks' sizes are read from the weights. What no file holds must be said: the spacing of the
training slices, how they lay and how their intensities were scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from syndiff.diffusion.large_steps import Schedule
from syndiff.errors import ModelError, OptionError
from syndiff.importing import official as legacy
from syndiff.importing.checkpoint import choose, read
from syndiff.importing.training_data import TrainingData, training_data
from syndiff.io.digest import sha256_of
from syndiff.io.locks import in_use, only_writer
from syndiff.preparation.manifest import check_modality_names
from syndiff.translators import AdversarialDiffusionTranslator

__all__ = [
    "TrainingData",
    "import_checkpoint",
    "official_options",
    "training_data",
]

# What no weight tells, with the values of the official README's commands.
UNSEEN: dict[str, Any] = {"num_timesteps": 4, "beta_min": 0.1, "beta_max": 20.0}
IMAGE_SIZE, ATTENTION_SIZE = 256, 16


def import_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    source: str,
    target: str,
    trained_on: TrainingData,
    contrast1: str = "",
    generator: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[str]:
    """Write a translator folder from an official checkpoint.

    Args:
        checkpoint: a generator's state dict, or the whole `content.pth`.
        out: folder to make; must be new or empty.
        source, target: modalities, as the result shall call them.
        trained_on: see `importing.training_data`.
        contrast1: which of the two the official training was given as --contrast1; needed unless
            the file holds its options.
        generator: 1 or 2, where the file's name does not say.
        options: official network options that must hold, by name; what shapes tell is checked.

    Returns:
        What was read, inferred and assumed, in lines for a person.

    Raises:
        OptionError: an option is missing or contradicts the file.
        ModelError: the file is no usable checkpoint of a diffusive generator.
    """
    check_modality_names((source, target))
    if source == target:
        raise OptionError(f"{source} as source and target", "two modalities")
    _check_out(out)
    weights = choose(read(checkpoint), checkpoint, source, target, contrast1, generator)
    config = official_options(weights.state, weights.options, options or {})
    network = legacy.diffusive_generator(config, weights.state)
    if not all(bool(t.isfinite().all()) for t in network.state_dict().values()):
        raise ModelError(f"{checkpoint} holds weights that are not finite", remedy="take another")
    schedule = {
        "steps": config["num_timesteps"],
        "beta_min": config["beta_min"],
        "beta_max": config["beta_max"],
    }
    card = _card(source, target, trained_on, config) | {
        "network": legacy.network_arguments(config),
        "schedule": schedule,
        "training": {"imported from": checkpoint.name},
        "imported": {
            "sha256": sha256_of(checkpoint),
            "official_options": config,
            "notes": list(weights.notes),
        },
    }
    with only_writer(out):
        AdversarialDiffusionTranslator(network, Schedule(**schedule), card).save(out)
    return [*weights.notes, *_summary(config)]


def official_options(
    state: Mapping[str, Tensor], stored: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """The official options of a diffusive generator: from its shapes, the file, or a person.

    Args:
        state: its weights.
        stored: the options that the file itself holds.
        given: options that a person gave; None for those that were not given.

    Raises:
        OptionError: a given option contradicts the weights.
        ModelError: the weights are not a diffusive generator's with one source image.
    """
    seen = legacy.options_of(state)
    levels = seen.pop("attention_levels")
    wanted = {name: value for name, value in given.items() if value is not None}
    fixed = {name: stored[name] for name in legacy.FIXED if name in stored}
    config = {name: stored.get(name, value) for name, value in UNSEEN.items()}
    # The official command line cannot change the resolution with attention, so that its level
    # tells the size of the image.
    implied = ATTENTION_SIZE * 2 ** levels[0] if len(levels) == 1 else IMAGE_SIZE
    config["image_size"] = stored.get("image_size", implied)
    config |= fixed | {name: value for name, value in wanted.items() if name not in seen}
    size = config["image_size"]
    if size % 2 ** (len(seen["ch_mult"]) - 1):
        raise OptionError(
            f"`image_size` {size} with {len(seen['ch_mult'])} levels",
            f"a multiple of {2 ** (len(seen['ch_mult']) - 1)}",
        )
    seen["attn_resolutions"] = [size // 2**level for level in levels]
    for name, value in wanted.items():
        if name in seen and value != seen[name]:
            raise OptionError(
                f"`{name}` {_words(value)}",
                f"{_words(seen[name])}, as the shapes of the weights say",
                "leave the option out",
            )
    if seen["num_channels"] != 2:
        raise ModelError(
            f"a generator with {seen['num_channels']} input channels",
            "2: the noisy target and one source",
        )
    return {**config, **seen}


def _check_out(out: Path) -> None:
    if in_use(out):
        raise OptionError(f"{out} exists", "a new folder for the translator")


def _card(
    source: str, target: str, data: TrainingData, config: Mapping[str, Any]
) -> dict[str, Any]:
    """What the translator must know besides its network."""
    code = data.orientation.code
    card: dict[str, Any] = {
        "sources": [source],
        "target": target,
        "spacing_mm": data.spacing_mm,
        "size": [config["image_size"]] * 2,
        "axes": f"RAS+; slices (z, y, x), z ascending to superior; turned to {code} for the "
        "network and back",
        "slice_orientation": code,
        "intensity": {name: data.intensity[name].to_dict() for name in (source, target)},
        "method": "syndiff",
    }
    return card | ({"tissue_quantiles": data.tissue_quantiles} if data.tissue_quantiles else {})


def _summary(config: Mapping[str, Any]) -> list[str]:
    """Which options the weights told, and which are taken on trust."""
    assumed = ("image_size", *UNSEEN)
    told = [name for name in config if name not in (*assumed, *legacy.FIXED)]
    return [
        "read from the weights: " + ", ".join(f"{n} {_words(config[n])}" for n in told),
        "not in the weights: " + ", ".join(f"{n} {_words(config[n])}" for n in assumed),
    ]


def _words(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    return str(value)
