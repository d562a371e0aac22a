"""SynDiff's translator: the diffusive generator run through the reverse process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from syndiff.diffusion.large_steps import Schedule, reverse
from syndiff.errors import ModelError
from syndiff.networks.denoisers import Denoiser, build_denoiser
from syndiff.preparation.orientation import OURS, SliceOrientation
from syndiff.translators.base import Translator
from syndiff.translators.explicit import Explicit, Noise


class AdversarialDiffusionTranslator(Translator):
    """SynDiff's: the diffusive generator run through the reverse process (Sec. III-B.3).

    A network that was trained elsewhere may know slices that lie otherwise than ours
    (`slice_orientation` in the configuration): they are turned to it, and the result back.

    Without source modalities it is unconditional: its source is an image without channels, of
    which only the batch and the size matter. A network that was trained without the adversarial
    loss says so (`respaceable` in the configuration), and its chain can be cut short.
    """

    kind = "adversarial_diffusion"
    stochastic = True

    def __init__(self, network: Denoiser, schedule: Schedule, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.network, self.schedule = network, schedule
        self.respaceable = bool(self.config.get("respaceable"))
        self.orientation = SliceOrientation(self.config.get("slice_orientation", OURS))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> AdversarialDiffusionTranslator:
        return cls(build_denoiser(config["network"]), Schedule(**config["schedule"]), config)

    @property
    def size_multiple(self) -> int:
        return self.network.size_multiple

    def forward(self, source: Tensor, noise: Noise, steps: int = 0) -> Tensor:
        h, w = source.shape[-2:]
        source, schedule = self._turned(source), self._schedule(steps)

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            z = noise.normal(self.network.latent_dim)
            return self.network(x_t, source, schedule.time[t], z)

        def normal() -> Tensor:
            return self._turned(noise.normal(1, h, w))

        return self._turned_back(reverse(schedule, denoise, normal(), normal))

    @property
    def sampling_steps(self) -> int:
        return self.schedule.steps

    def _schedule(self, steps: int) -> Schedule:
        """Of a chain of so many steps."""
        taken = self.chain_steps(steps)
        return self.schedule if taken == self.schedule.steps else self.schedule.respaced(taken)

    def estimate(self, source: Tensor, noise: Noise) -> Tensor:
        """x_0 as estimated from pure noise at the first of the reverse steps (Eq. 19)."""
        x_T = self._turned(noise.normal(1, *source.shape[-2:]))
        z = noise.normal(self.network.latent_dim)
        last = self.schedule.time[-1:].expand(len(source))
        return self._turned_back(self.network(x_T, self._turned(source), last, z))

    def explicit(self, steps: int = 0) -> Explicit:
        if not self.sources:
            raise ModelError(f"{self.name} makes images from noise alone: it cannot be exported")
        schedule = self._schedule(steps)

        def step(x_t: Tensor, source: Tensor, t: Tensor, z: Tensor, noise: Tensor) -> Tensor:
            """One step of `forward`, all images as our slices lie; b 1 h w."""
            x_t, source, noise = self._turned(x_t), self._turned(source), self._turned(noise)
            x_0 = self.network(x_t, source, schedule.time[t], z)  # Eq. 19
            return self._turned_back(schedule.sample_posterior(x_0, x_t, t, noise))  # Eq. 15

        draws = {"z": (self.network.latent_dim,), "noise": (1, "height", "width")}
        return Explicit(step, draws, schedule.steps)

    def _turned(self, image: Tensor) -> Tensor:
        """b c y x → b c rows columns, as the network's training slices lay."""
        image = image.flip(self.orientation.reversed_axes)
        return image.mT.contiguous() if self.orientation.transposed else image

    def _turned_back(self, image: Tensor) -> Tensor:
        """Inverse of `_turned`."""
        image = image.mT if self.orientation.transposed else image
        return image.flip(self.orientation.reversed_axes)
