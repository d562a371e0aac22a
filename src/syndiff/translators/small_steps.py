"""Translators of DDPM and UNIT-DDPM: a noise estimate run through many small reverse steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from syndiff.diffusion.small_steps import GaussianDiffusion, reverse
from syndiff.networks.unet import UNet
from syndiff.translators.base import Translator
from syndiff.translators.explicit import Explicit, Noise


class ChainTranslator(Translator):
    """A chain of reverse steps that can be respaced; the base of both translators.

    Attributes:
        networks: "target", the denoiser of the target modality, and any further denoiser.
    """

    stochastic = True
    respaceable = True
    networks: nn.ModuleDict

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        diffusion: GaussianDiffusion,
        config: Mapping[str, Any],
    ) -> None:
        super().__init__(config)
        self.networks, self.diffusion = nn.ModuleDict(networks), diffusion

    @property
    def size_multiple(self) -> int:
        return cast(UNet, self.networks["target"]).size_multiple

    @property
    def sampling_steps(self) -> int:
        return self.diffusion.steps

    def _diffusion(self, steps: int) -> GaussianDiffusion:
        """The process of a chain of `steps` steps, see `chain_steps`."""
        taken = self.chain_steps(steps)
        return self.diffusion if taken == self.diffusion.steps else self.diffusion.respaced(taken)


class GaussianDiffusionTranslator(ChainTranslator):
    """DDPM's: the source is the condition of every reverse step."""

    kind = "gaussian_diffusion"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> GaussianDiffusionTranslator:
        networks = {"target": UNet(**config["network"])}
        return cls(networks, GaussianDiffusion(**config["diffusion"]), config)

    def forward(self, source: Tensor, noise: Noise, steps: int = 0) -> Tensor:
        h, w = source.shape[-2:]
        diffusion = self._diffusion(steps)

        def predict(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            return self._predict(diffusion, x_t, source, t)

        x_T = noise.normal(1, h, w)
        return reverse(diffusion, predict, x_T, lambda: noise.normal(1, h, w))

    def explicit(self, steps: int = 0) -> Explicit:
        diffusion = self._diffusion(steps)

        def step(x_t: Tensor, source: Tensor, t: Tensor, noise: Tensor) -> Tensor:
            return diffusion.step(x_t, t, *self._predict(diffusion, x_t, source, t), noise)

        return Explicit(step, {"noise": (1, "height", "width")}, diffusion.steps)

    def _predict(
        self, diffusion: GaussianDiffusion, x_t: Tensor, source: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Estimates of ε and log Σ, each b 1 h w."""
        network = self.networks["target"]
        epsilon, v = network(x_t, source, diffusion.time[t]).chunk(2, dim=1)
        return epsilon, diffusion.reverse_log_variance(v, t)


class ParallelDiffusionTranslator(ChainTranslator):
    """UNIT-DDPM's: the condition of a reverse step is the source with that step's noise.

    Down to the release time the noisy source is drawn from the forward process; below it the
    source's own denoiser denoises it. With a release time of 1 that never happens, and the
    translator has no such second network.
    """

    kind = "parallel_diffusion"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ParallelDiffusionTranslator:
        sides = ("target", "source") if config["release_time"] > 1 else ("target",)
        networks = {side: UNet(**config["network"]) for side in sides}
        return cls(networks, GaussianDiffusion(**config["diffusion"]), config)

    def forward(self, source: Tensor, noise: Noise, steps: int = 0) -> Tensor:
        diffusion = self._diffusion(steps)
        release_time = self.config["release_time"]
        times = diffusion.time.tolist() if release_time > 1 else diffusion.steps * [release_time]
        released = [time + 1 < release_time for time in times]

        def step(side: str, x_t: Tensor, other: Tensor, t: Tensor) -> Tensor:
            epsilon = self.networks[side](x_t, other, diffusion.time[t])
            log_variance = diffusion.reverse_log_variance(0, t)  # σ_t² = β̃_t
            return diffusion.step(x_t, t, epsilon, log_variance, noise.normal(*x_t.shape[1:]))

        x, y = noise.normal(1, *source.shape[-2:]), source
        for index, t in diffusion.down(source.shape[0]):
            if not released[index]:
                y = diffusion.diffuse(source, t, noise.normal(*source.shape[1:]))
            y_prev = step("source", y, x, t) if index and released[index - 1] else y
            x, y = step("target", x, y, t), y_prev
        return x
