"""A translator as a function of tensors, its noise included, so that it can be exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

Shape = Sequence[int | str]  # "batch", "height" and "width" stand for the input's sizes


class Noise(Protocol):
    """Draws the standard normal values of a batch of slices, as `SliceNoise` does."""

    def normal(self, *shape: int) -> Tensor:
        """(b, *shape)."""


@dataclass(frozen=True)
class Explicit:
    """A translator's `forward` as a function that draws no noise itself.

    Attributes:
        function: without steps (source, *draws) → image; with steps one reverse step
            (x_t, source, t, *draws) → x_{t-1}, t being (b,) step indices.
        draws: name → shape of one sample's standard normal values, in the order in which `forward`
            draws them: once, or at each step, and then x_T (1, height, width) before them all.
        steps: reverse steps of the whole chain; 0 for one pass.
    """

    function: Callable[..., Tensor]
    draws: Mapping[str, Shape] = field(default_factory=dict)
    steps: int = 0


def explicit_noise(
    noise: Noise, draws: Mapping[str, Shape], steps: int, height: int, width: int
) -> dict[str, Tensor]:
    """The values that a translator's `forward` would draw from `noise`, by name.

    Args:
        noise: of the batch.
        draws, steps: see `Explicit`.
        height, width: of the image.

    Returns:
        Without steps each draw as (b, *shape). With steps `x_T` (b, 1, height, width) and each
        draw as (b, steps, *shape), the noisiest step first.
    """
    sizes = {"height": height, "width": width}

    def draw_all() -> dict[str, Tensor]:
        return {
            name: noise.normal(*(n if isinstance(n, int) else sizes[n] for n in shape))
            for name, shape in draws.items()
        }

    if not steps:
        return draw_all()
    x_T = noise.normal(1, height, width)
    each = [draw_all() for _ in range(steps)]
    return {"x_T": x_T} | {name: torch.stack([d[name] for d in each], dim=1) for name in draws}
