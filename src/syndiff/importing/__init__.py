"""Convert an official SynDiff checkpoint to a translator folder.

The official training (github.com/icon-lab/SynDiff) writes

    gen_diffusive_1_50.pth   weights that make contrast 1 from contrast 2, averaged with --use_ema
    gen_diffusive_2_50.pth   weights of the other direction
    content.pth              the state for resuming, with the options; its weights are those of the
                             last step, and their average is in the optimizer's state

The sizes of the networks are read from the weights. The user must state what no file contains: the
spacing, the orientation and the intensity scale of the training slices.
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

# Options that the shapes of the weights do not show, with the values in the official README.
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
        checkpoint: the file of a generator's state dict, or `content.pth`.
        out: the folder to make; it must be new or empty.
        source, target: names of the modalities in the new translator.
        trained_on: the training slices, see `importing.training_data`.
        contrast1: the modality that was --contrast1 in the official training; needed unless the
            file contains its options.
        generator: 1 or 2; needed if the file's name does not contain the number.
        options: official network options by name; options that the shapes of the weights show
            are only checked.

    Returns:
        Lines for the user that state which options were read and which were assumed.

    Raises:
        OptionError: an option is missing or contradicts the file.
        ModelError: the file is not a usable checkpoint of a diffusive generator.
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
    """The official options of a diffusive generator: from its weights, its file, or the user.

    Args:
        state: the state dict of the generator.
        stored: the options that the file contains.
        given: the options of the user; None for options that were not given.

    Raises:
        OptionError: a given option contradicts the weights.
        ModelError: the weights are not those of a diffusive generator with one source image.
    """
    seen = legacy.options_of(state)
    levels = seen.pop("attention_levels")
    wanted = {name: value for name, value in given.items() if value is not None}
    fixed = {name: stored[name] for name in legacy.FIXED if name in stored}
    config = {name: stored.get(name, value) for name, value in UNSEEN.items()}
    # The official command line cannot change the resolution at which attention is used, so the
    # level of the attention block determines the image size.
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
    """The translator's configuration, except for the network."""
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
    """Lines that list the options read from the weights and the options assumed."""
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
