"""Weights from an untrusted source, compared with the described network before it is built.

The network is first built without memory, on torch's "meta" device. Each of its weights must be in
the file, so that the network cannot be larger than the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch.overrides import TorchFunctionMode

from syndiff.errors import ModelError
from syndiff.translators.base import CONFIG, Translator

FLOATS = {"F16", "BF16", "F32", "F64"}


class MetaWeights(TorchFunctionMode):
    """Inside, layers get weights that have a shape and no memory (torch's "meta" device).

    Layers make their weights, and nothing else, by `torch.empty`. `torch.device("meta")` would
    include the diffusion's coefficients, for which torch loads its compiler: 1.5 s.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func is torch.empty:
            options["device"] = "meta"
        return func(*args, **options)


def checked_weights(file: Path, outline: Mapping[str, torch.Tensor]) -> None:
    """Make sure that a file holds the weights of a network. Only its header is read.

    Args:
        file: safetensors.
        outline: name → tensor of the network; only shapes are compared.

    Raises:
        FileNotFoundError: the file does not exist.
        ModelError: the file is damaged or holds other weights.
    """
    if not file.is_file():
        raise FileNotFoundError(file)
    expected = {name: list(tensor.shape) for name, tensor in outline.items()}
    try:
        with safe_open(file, framework="numpy") as weights:
            names = set(weights.keys())
            found = {n: weights.get_slice(n) for n in names & set(expected)}
            shapes = {name: list(part.get_shape()) for name, part in found.items()}
            types = {name: str(part.get_dtype()) for name, part in found.items()}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"the weights {file} are damaged ({error})") from error
    misfit = f"the weights {file} do not fit the network in {CONFIG}"
    for name, shape in expected.items():
        if name not in names:
            raise ModelError(f"{misfit}: there is no {name}", f"one of shape {shape}")
        if shapes[name] != shape:
            raise ModelError(f"{misfit}: {name} has the shape {shapes[name]}", f"{shape}")
        if types[name] not in FLOATS:
            raise ModelError(f"{misfit}: {name} holds {types[name]}", "floating-point numbers")
    if further := sorted(names - set(expected)):
        raise ModelError(f"{misfit}: it has no {further[0]}", f"{len(expected)} tensors")


def check_finite(translator: Translator, file: Path) -> None:
    """Refuse weights that are not finite.

    Raises:
        ModelError: a weight is NaN or infinite.
    """
    for name, weight in translator.state_dict().items():
        if not bool(weight.isfinite().all()):
            raise ModelError(
                f"the weights {file} are not finite ({name})", remedy="take them from elsewhere"
            )
