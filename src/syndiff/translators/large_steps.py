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

    A network that was trained elsewhere may expect another slice orientation
    (`slice_orientation` in the configuration). Slices are then brought to that orientation, and
    the result back to this package's.

    Without source modalities the translator is unconditional: its source is an image without
    channels, of which only the batch and the size matter. The chain of a network that was trained
    without the adversarial loss can take fewer steps (`respaceable` in the configuration).
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
        source, schedule = self._to_network(source), self._schedule(steps)

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            z = noise.normal(self.network.latent_dim)
            return self.network(x_t, source, schedule.time[t], z)

        def normal() -> Tensor:
            return self._to_network(noise.normal(1, h, w))

        return self._from_network(reverse(schedule, denoise, normal(), normal))

    @property
    def sampling_steps(self) -> int:
        return self.schedule.steps

    def _schedule(self, steps: int) -> Schedule:
        """The schedule of a chain of `steps` steps, see `chain_steps`."""
        taken = self.chain_steps(steps)
        return self.schedule if taken == self.schedule.steps else self.schedule.respaced(taken)

    def estimate(self, source: Tensor, noise: Noise) -> Tensor:
        """x_0 as estimated from pure noise at the first of the reverse steps (Eq. 19)."""
        x_T = self._to_network(noise.normal(1, *source.shape[-2:]))
        z = noise.normal(self.network.latent_dim)
        last = self.schedule.time[-1:].expand(len(source))
        return self._from_network(self.network(x_T, self._to_network(source), last, z))

    def explicit(self, steps: int = 0) -> Explicit:
        if not self.sources:
            raise ModelError(f"{self.name} makes images from noise alone: it cannot be exported")
        schedule = self._schedule(steps)

        def step(x_t: Tensor, source: Tensor, t: Tensor, z: Tensor, noise: Tensor) -> Tensor:
            """One step of `forward`; all images, b 1 h w, in this package's orientation."""
            x_t, source, noise = (
                self._to_network(x_t),
                self._to_network(source),
                self._to_network(noise),
            )
            x_0 = self.network(x_t, source, schedule.time[t], z)  # Eq. 19
            return self._from_network(schedule.sample_posterior(x_0, x_t, t, noise))  # Eq. 15

        draws = {"z": (self.network.latent_dim,), "noise": (1, "height", "width")}
        return Explicit(step, draws, schedule.steps)

    def _to_network(self, image: Tensor) -> Tensor:
        """b c y x → b c rows columns, in the orientation of the network's training slices."""
        image = image.flip(self.orientation.reversed_axes)
        return image.mT.contiguous() if self.orientation.transposed else image

    def _from_network(self, image: Tensor) -> Tensor:
        """The inverse of `_to_network`."""
        image = image.mT if self.orientation.transposed else image
        return image.flip(self.orientation.reversed_axes)
