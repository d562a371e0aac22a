"""Read an official checkpoint, and choose the generator of the requested direction."""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from syndiff.errors import ModelError, OptionError
from syndiff.importing import official as legacy

EXPECTED_FILES = "gen_diffusive_1_….pth, gen_diffusive_2_….pth or content.pth"


@dataclass(frozen=True)
class Weights:
    """The weights of one diffusive generator.

    Attributes:
        state: the generator's state dict.
        options: the official options, if the file contains them.
        notes: lines for the user on direction, epochs and averaging.
    """

    state: Mapping[str, Tensor]
    options: Mapping[str, Any]
    notes: tuple[str, ...]


def read(path: Path) -> Mapping[str, Any]:
    """The dictionary in a checkpoint; no code of the file is executed.

    Raises:
        ModelError: the file cannot be read, or is not a checkpoint that holds only tensors and
            options.
    """
    try:
        # `content.pth` holds its options as a Namespace, which only contains named values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(
            f"the checkpoint {path} cannot be read ({error.strerror})", EXPECTED_FILES
        ) from error
    except pickle.UnpicklingError as error:
        if not re.search("Unsupported (global|class)|unrecognized function", str(error)):
            raise ModelError(f"{path} is no checkpoint of PyTorch", EXPECTED_FILES) from error
        raise ModelError(
            f"{path} holds Python objects, which could run code when they are loaded",
            "nothing but tensors",
            "save the network's state_dict() instead of the network",
        ) from error
    except Exception as error:  # torch raises many kinds; each means "not a whole checkpoint"
        raise ModelError(
            f"{path} is damaged or no checkpoint of PyTorch ({type(error).__name__})",
            EXPECTED_FILES,
            "copy or download it again",
        ) from error
    if not isinstance(content, dict) or not content:
        raise ModelError(f"{path} holds a {type(content).__name__}", EXPECTED_FILES)
    return content


def choose(
    content: Mapping[str, Any],
    path: Path,
    source: str,
    target: str,
    contrast1: str,
    generator: int | None,
) -> Weights:
    """Choose the generator that makes `target` from `source`.

    Args:
        content: the dictionary in the checkpoint, see `read`.
        path: the file, for messages and for the generator's number in its name.
        source, target: names of the modalities.
        contrast1: the modality that was --contrast1 in the official training; may be empty if the
            file contains its options.
        generator: 1 or 2; None if the file's name contains the number.

    Raises:
        OptionError: the direction is ambiguous, or contradicts the file.
        ModelError: the file does not contain a diffusive generator.
    """
    whole = any(key.startswith("gen_diffusive_") for key in content)
    if not whole:
        _check_state(content, path)
    options = _options_in(content) if whole else {}
    first = _first_contrast(options, path, (source, target), contrast1)
    wanted = 1 if first == target else 2
    if whole:
        return _from_content(content, options, wanted, source, target)
    number = _number_of(path.name, generator)
    if number != wanted:
        raise OptionError(
            f"gen_diffusive_{number} makes contrast {number} from contrast {3 - number}: with "
            f"`contrast1` {first} it makes {source} from {target}",
            f"`source` {target} and `target` {source}",
            f"or import gen_diffusive_{wanted}, which makes {target} from {source}",
        )
    return Weights(content, {}, (_direction(number, source, target),))


def _first_contrast(
    options: Mapping[str, Any], path: Path, modalities: tuple[str, str], contrast1: str
) -> str:
    """The modality that was contrast1 in the official training."""
    trained = tuple(str(options.get(name, "")) for name in ("contrast1", "contrast2"))
    if any(trained) and set(trained) != set(modalities):
        raise OptionError(
            f"{path.name} was trained with contrast1 {trained[0]} and contrast2 {trained[1]}",
            f"these two as `source` and `target`, not {' and '.join(modalities)}",
        )
    first = trained[0] or contrast1
    if contrast1 not in ("", first):
        raise OptionError(f"`contrast1` {contrast1}", f"{first}, as {path.name} says")
    if first not in modalities:
        raise OptionError(
            f"{f'`contrast1` {first}' if first else 'no `contrast1`'}: gen_diffusive_1 makes "
            "contrast 1 FROM contrast 2, and gen_diffusive_2 the reverse",
            " or ".join(f"`contrast1` {name}" for name in modalities),
            "give what the official training was given",
        )
    return first


def _from_content(
    content: Mapping[str, Any], options: Mapping[str, Any], number: int, source: str, target: str
) -> Weights:
    """A generator from `content.pth`, with averaged weights if the file contains them."""
    name = f"gen_diffusive_{number}"
    state = content.get(f"{name}_dict")
    if not isinstance(state, dict):
        raise ModelError(f"the checkpoint has no {name}_dict", EXPECTED_FILES)
    _check_state(state, Path(name))
    averaged = _averages(state, content.get(f"optimizer_{name}"))
    which = "their moving average" if averaged else "those of the last step, not averaged"
    notes = (
        _direction(number, source, target),
        f"after {content.get('epoch', 'an unknown number of')} epochs; the weights are {which}",
    )
    return Weights(averaged or state, options, notes)


def _averages(state: Mapping[str, Tensor], optimizer: Any) -> dict[str, Tensor]:
    """The averaged weights, which the official EMA stores in the optimizer's state; else {}.

    The entries are numbered in the order of the parameters, which is the order of the state dict.
    """
    entries = optimizer.get("state", {}) if isinstance(optimizer, Mapping) else {}
    found = {name: entries.get(i, {}).get("ema") for i, name in enumerate(state)}
    fits = all(
        isinstance(found[name], Tensor) and found[name].shape == state[name].shape
        for name in state
    )
    return found if fits else {}


def _options_in(content: Mapping[str, Any]) -> dict[str, Any]:
    args = content.get("args")
    return vars(args) if isinstance(args, argparse.Namespace) else {}


def _number_of(name: str, generator: int | None) -> int:
    """The generator's number, from a name such as gen_diffusive_1_50.pth or from the user."""
    found = re.search(r"gen_diffusive_([12])(?!\d)", name)
    number = int(found[1]) if found else generator
    if number is None:
        raise OptionError(
            f"the name {name} does not say which generator it is",
            "gen_diffusive_1_….pth (makes contrast 1 from contrast 2) or gen_diffusive_2_….pth",
            "say `generator` 1 or 2",
        )
    if generator not in (None, number):
        raise OptionError(f"`generator` {generator}", f"{number}, as the name {name} says")
    return number


def _check_state(state: Mapping[str, Any], path: Path) -> None:
    """Raise ModelError unless the tensors are a diffusive generator's."""
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path.name} holds other things than tensors", EXPECTED_FILES)
    kind = legacy.kind_of(state)
    if kind != legacy.DIFFUSIVE_GENERATOR:
        raise ModelError(
            f"{path.name} is {kind or 'no network of the official code'}",
            f"{legacy.DIFFUSIVE_GENERATOR}: {EXPECTED_FILES}",
        )


def _direction(number: int, source: str, target: str) -> str:
    return (
        f"gen_diffusive_{number} makes contrast {number} ({target}) from contrast {3 - number} "
        f"({source})"
    )
