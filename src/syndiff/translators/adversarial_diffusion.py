"""SynDiff's translator: the diffusive generator run through the reverse process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from syndiff.diffusion import Schedule, reverse
from syndiff.networks.ncsnpp import NCSNpp
from syndiff.translators.base import SliceNoise, Translator


class AdversarialDiffusionTranslator(Translator):
    """SynDiff's: the diffusive generator run through the reverse process (Sec. III-B.3)."""

    kind = "adversarial_diffusion"
    stochastic = True

    def __init__(self, network: NCSNpp, schedule: Schedule, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.network, self.schedule = network, schedule

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> AdversarialDiffusionTranslator:
        return cls(NCSNpp(**config["network"]), Schedule(**config["schedule"]), config)

    @property
    def size_multiple(self) -> int:
        return self.network.size_multiple

    def forward(self, source: Tensor, noise: SliceNoise) -> Tensor:
        h, w = source.shape[-2:]

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            return self.network(x_t, source, t, noise.normal(self.network.latent_dim))

        x_T = noise.normal(1, h, w)
        return reverse(self.schedule, denoise, x_T, lambda: noise.normal(1, h, w))
