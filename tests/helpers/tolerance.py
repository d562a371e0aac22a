"""How far two computations of the same values may lie apart: by precision, not by a machine.

Processors sum in different orders and with different instructions, so that two renditions of one
network agree to rounding alone. How much rounding that is follows from the precision and the
number of operations; how much of it reaches the result, from the network itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from syndiff.inference import TranslationOptions, translate_slices
from syndiff.translators import Translator

Network = TypeVar("Network", bound=nn.Module)


def rounding(operations: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> float:
    """The largest error of a value after so many roundings.

    One rounding is wrong by at most the unit roundoff u = eps / 2 of the value. After n of them
    the worst case is n u; but their signs are as good as random, so that they add up to λ √n u,
    which is exceeded with a probability of 2 exp(-λ²/2) at most (Higham and Mary, SIAM J. Sci.
    Comput. 41, 2019). λ = 6: once in thirty million values.

    Args:
        operations: roundings on the way to one value: additions of the longest sum, times layers.
        scale: size of the values that are summed, not of their sum, which may be small.
        dtype: precision of the computation.
    """
    return 6 * operations**0.5 * torch.finfo(dtype).eps / 2 * scale


def longest_sum(network: nn.Module) -> int:
    """Summands of the longest sum that a layer with weights makes."""
    return max(p[0].numel() for p in network.parameters() if p.dim() > 1)


def shaken(network: Network, seed: int = 0) -> Network:
    """A copy whose every weight is wrong by the rounding of the longest sum.

    A sum in floating point is the exact sum of terms that are each wrong by no more than this (its
    backward error). So the copy's result lies about as far from the exact one as that of any
    rendition may, however much the layers behind make of an error.
    """
    result = copy.deepcopy(network)
    relative = rounding(longest_sum(network))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in result.parameters():
            p *= 1 + relative * (torch.rand(p.shape, generator=draw) * 2 - 1)
    return result


def of_results(run: Callable[[Any], Any], network: nn.Module) -> float:
    """The distance that two renditions of `run(network)` may have.

    Args:
        run: from the network to its result, an array or a tensor.
        network: with weights.
    """
    with torch.no_grad():
        exact, *others = (
            np.asarray(run(n)) for n in (network, shaken(network), shaken(network, 1))
        )
    # Each of the two may lie as far from the exact result as a shaken network's does.
    return 2 * max(float(np.abs(other - exact).max()) for other in others)


def of_translation(translator: Translator, images: np.ndarray, **options: Any) -> float:
    """The distance that two translations of the same images may have, in [0, 1]."""

    def run(of: Translator) -> np.ndarray:
        return translate_slices(of, images, TranslationOptions(device="cpu", **options))

    return of_results(run, translator)


def stepped_apart(a: Tensor, b: Tensor, step: float) -> float:
    """The fraction of weights that differ by more than a third of an optimizer's step.

    Adam divides a gradient by its size. Where a gradient is nearly 0, its sign is rounding, and
    Adam makes a whole step of it; so no bound holds for every weight, but for nearly all.
    """
    return float(((a - b).abs() > step / 3).float().mean())
