"""The operations that SynDiff's mathematics needs in a training step, from those of each network.

Generators make every image once, and a discriminator judges it once in each of the two updates. No
gradient flows into weights that are not updated, or into acquired images. All operations beyond
these are waste. A step that runs fewer shares more than is assumed here.

| network                  | passes of a step                                                   |
|--------------------------|--------------------------------------------------------------------|
| one-shot generator       | guess: to the weights; round trip: to the weights and the guess    |
| diffusive generator      | once: to the weights and the guess                                 |
| either discriminator     | real and fake: to the weights; generators' update: to the fake     |
| diffusive, for R1 (η)    | on the real pass: to the image, and that backward's own backward   |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn

from syndiff.benchmark.counting import count
from syndiff.objectives.base import DIRECTIONS
from syndiff.objectives.syndiff import SynDiff, SynDiffSettings


@dataclass(frozen=True)
class Passes:
    """Floating-point operations of one network on one image.

    Attributes:
        forward: of the forward pass.
        to_weights, to_input, to_both: of a backward pass that ends there.
    """

    forward: int
    to_weights: int
    to_input: int
    to_both: int


class _Probe:
    """A network with its inputs. Call 0 differentiates by weights, 1 by an input, 2 by both."""

    def __init__(self, network: nn.Module, inputs: Sequence[Tensor], towards: int) -> None:
        self.network, self.inputs, self.towards = network, inputs, towards
        self.networks = {"": network}

    def counted(self, number: int) -> None:
        self.network.requires_grad_(number != 1)
        self.inputs[self.towards].requires_grad_(number != 0)
        self.network(*self.inputs).sum().backward()


def passes(settings: SynDiffSettings, size: int) -> dict[str, Passes]:
    """Operations of SynDiff's four kinds of network, by name: "generators.one_shot" …

    Args:
        settings: settings of the networks.
        size: rows and columns of the image, in pixels.
    """

    def probe(group: str, kind: str) -> _Probe:
        objective, x = SynDiff(settings), torch.zeros(1, 1, size, size)
        t = torch.zeros(1, dtype=torch.long)
        if kind == "one_shot":
            name = "one_shot_to_target" if group == "generators" else "one_shot_target"
            return _Probe(getattr(objective, group)[name], [x], 0)
        network = getattr(objective, group)["diffusive_target"]
        if group == "generators":  # (x_t, guess, t, z)
            z = torch.zeros(1, settings.generator.latent_dim)
            return _Probe(network, [x, x.clone(), t, z], 1)
        return _Probe(network, [x, x.clone(), t], 0)  # (x_prev, x_t, t)

    found = {}
    for group in ("generators", "discriminators"):
        for kind in ("one_shot", "diffusive"):
            counts = count(partial(probe, group, kind), (0, 1, 2), warm=False)
            backward = [c.backward.total() for c in counts]
            found[f"{group}.{kind}"] = Passes(counts[0].forward.total(), *backward)
    return found


@cache
def needed_step(settings: SynDiffSettings, size: int) -> tuple[int, int]:
    """Operations per cross-section of a step without the gradient penalty, and of the penalty."""
    one = passes(settings, size)
    guess, denoise = one["generators.one_shot"], one["generators.diffusive"]
    plain = 2 * guess.forward + guess.to_weights + guess.to_both
    plain += denoise.forward + denoise.to_both
    for judge in (one["discriminators.one_shot"], one["discriminators.diffusive"]):
        plain += 3 * judge.forward + 2 * judge.to_weights + judge.to_input
    judge = one["discriminators.diffusive"]
    # The backward pass of a convolution is two convolutions again: by weight and by gradient.
    penalty = judge.to_input + judge.to_both
    return len(DIRECTIONS) * plain, len(DIRECTIONS) * penalty
