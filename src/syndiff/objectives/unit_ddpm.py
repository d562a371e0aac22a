"""UNIT-DDPM: two diffusions side by side, each conditioned on the other's noisy image.

Sasaki, Willcocks, Breckon, UNIT-DDPM: Unpaired Image Translation with Denoising Diffusion
Probabilistic Models, arXiv:2104.05358, 2021; with the cosine schedule of Nichol and Dhariwal, ICML
2021.

For each modality m, the other one being o, a translation function g makes x̃_0 of o from x_0 of m.
Both are noised to the same step t. The denoiser of m learns the noise in x_t with x̃_t beside it:

    L_θ = Σ_m  |ε - ε_θ^m(x_t, x̃_t, t)|²                              trains the denoisers only
    L_φ = Σ_m  |ε̃ - ε_θ^o(x̃_t, x_t, t)|² + λ_cyc |g^m(g^o(x_0)) - x_0|_1    trains g only

so that g is trained without a discriminator: its images must look to the denoiser of o like images
of o, and the way back must restore x_0. Translation does not use g: at each reverse step of the
target the acquired source is noised to that step (`translators.ParallelDiffusionTranslator`).

| code                         | paper           | what                                         |
|------------------------------|-----------------|----------------------------------------------|
| generators["denoise_m"]      | ε_θ^A, ε_θ^B    | (x_t of m, noisy image of o, t) → noise      |
| generators["translate_to_m"] | g_φ^B, g_φ^A    | o → m in one pass, for training only         |
| diffusion                    | q, p_θ          | the two processes, with T steps              |
| x_t; noise; epsilon          | x_t^A; ε; ε_θ^A | of the acquired image                        |
| other_t; other_noise, …      | x̃_t^B; ε; ε_θ^B | of the translated image                      |
| other_0                      | g^A(x_0^A), x̃_0 | an image of m translated to o                |
| round_trip                   | g^B(g^A(x_0^A)) | x_0 there and back                           |
| cycle                        | λ_cyc           | 1 in SynDiff's comparison                    |
| release_time                 | t_r             | 1: new noise for the source at every step    |

Departures. Denoisers and translation functions are updated together, each on its own loss, instead
of alternately. The reverse variance is fixed to β̃_t, the lower of the two that Ho et al. (2020)
tried, which suits fewer steps better. The denoisers are the U-Net of the DDPM comparison with the
noise as its only output, and g is SynDiff's one-shot ResNet, so that the compared methods differ
in their losses and not in their networks. `structure` adds a term to L_φ that Sasaki et al. do not
have; it is 0 except in `SMALL`. Without it, g soon made empty images there: they are the easiest
to denoise, and an invisibly faint trace was enough to restore x_0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from syndiff import losses
from syndiff.diffusion.small_steps import GaussianDiffusion
from syndiff.networks.resnet import ResNetSettings
from syndiff.networks.unet import UNet, UNetSettings
from syndiff.objectives import old_names
from syndiff.objectives.base import DIRECTIONS, Batch, Draw, Fakes, Objective
from syndiff.objectives.method import Method
from syndiff.objectives.pairs import cycle_or_pixel
from syndiff.translators import ParallelDiffusionTranslator, Translator
from syndiff.translators.one_shot import generator, generator_arguments

# SynDiff, Sec. IV-B.8: "50 epochs, 10^{-4} learning rate, T=1000, k=1, and 1000 diffusion steps.
# A cosine noise schedule was used [74]. Weight for cycle-consistency loss was 1, and the release
# time was 1 as in [54]." Sec. IV-C: "Adam optimizer with β1=0.5, β2=0.9". The batch size is
# SynDiff's. There are no discriminators; their rate has no effect.
TRAINING = {
    "epochs": 50,
    "generator_lr": 1e-4,
    "discriminator_lr": 1e-4,
    "linear_decay_epochs": 0,
    "batch_size": 1,
    "adam_betas": (0.5, 0.9),
}


@dataclass(frozen=True)
class UnitDDPMSettings:
    """UNIT-DDPM's hyper-parameters.

    Attributes:
        steps: T, steps of the diffusion process.
        cycle: λ_cyc, weight of the cycle-consistency of the translation functions.
        release_time: t_r, from 1 to T: the step, counted from the image, below which a translation
            denoises the source too instead of adding new noise to it.
        structure: weight of the structure term between an image and its translation.
        structure_radius_mm: its radius, see `losses.structure`; 0 is the term of earlier runs.
        denoiser: the denoisers' network.
        one_shot: the translation functions' network.
    """

    steps: int = 1000
    cycle: float = 1.0
    release_time: int = 1
    structure: float = 0.0
    structure_radius_mm: float = 0.0
    denoiser: UNetSettings = field(default_factory=UNetSettings)
    one_shot: ResNetSettings = field(default_factory=ResNetSettings)

    @property
    def network(self) -> dict[str, Any]:
        """Arguments of a denoiser, as a translator's configuration keeps them."""
        return {"out_channels": 1, **asdict(self.denoiser)}

    @property
    def diffusion(self) -> dict[str, Any]:
        return {"T": self.steps}


SMALL = UnitDDPMSettings(
    cycle=2.0,
    structure=5.0,
    structure_radius_mm=2.0,
    denoiser=UNetSettings(
        channels=16, multipliers=(1, 2, 3, 4), blocks=1, attention_levels=(3,), heads=2
    ),
    one_shot=ResNetSettings(channels=16, blocks=3, upsampling="resize"),
)


class UnitDDPM(Objective):
    """Two diffusions: `generate` draws them and estimates their noise; losses L_θ and L_φ."""

    def __init__(self, settings: UnitDDPMSettings) -> None:
        super().__init__()
        self.settings = s = settings
        self.diffusion = GaussianDiffusion(**s.diffusion)
        self.generators, self.discriminators = nn.ModuleDict(), nn.ModuleDict()
        for m, _ in DIRECTIONS:
            self.generators[f"translate_to_{m}"] = generator(generator_arguments(s.one_shot))
            self.generators[f"denoise_{m}"] = UNet(**s.network)

    def generate(self, batch: Batch, draw: Draw) -> Fakes:
        G, q, fakes = self.generators, self.diffusion, Fakes()
        for m, o in DIRECTIONS:
            x_0 = batch[m]
            t = draw.integers(self.settings.steps, len(x_0))
            noise, other_noise = draw.normal(*x_0.shape), draw.normal(*x_0.shape)
            other_0 = G[f"translate_to_{o}"](x_0)  # x̃_0
            round_trip = G[f"translate_to_{m}"](other_0)
            x_t, other_t = q.diffuse(x_0, t, noise), q.diffuse(other_0, t, other_noise)
            beside = q.diffuse(batch.acquired(o, otherwise=other_0.detach()), t, other_noise)
            epsilon = G[f"denoise_{m}"](x_t, beside, q.time[t])  # L_θ leaves g alone
            other_epsilon = fixed(G[f"denoise_{o}"], other_t, x_t, q.time[t])  # L_φ leaves ε_θ
            for name, value in {
                "noise": noise,
                "other_noise": other_noise,
                "other_0": other_0,
                "round_trip": round_trip,
                "epsilon": epsilon,
                "other_epsilon": other_epsilon,
            }.items():
                fakes[name][m] = value
        return fakes

    def discriminator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        return {}

    def generator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        s, terms = self.settings, {}
        for m, o in DIRECTIONS:
            terms[f"denoise_{m}"] = F.mse_loss(fakes["epsilon"][m], fakes["noise"][m])  # L_θ
            terms[f"translate_to_{o}"] = F.mse_loss(
                fakes["other_epsilon"][m], fakes["other_noise"][m]
            )  # L_φ
            terms |= cycle_or_pixel(
                batch, m, o, s.cycle, fakes["other_0"][m], fakes["round_trip"][m]
            )  # L_cyc, in L_φ
            if s.structure:  # in L_φ, too
                terms[f"structure_{m}"] = s.structure * losses.structure(
                    batch[m], fakes["other_0"][m], s.structure_radius_mm, self.spacing_mm
                )
        return terms

    def translator(
        self, generators: nn.ModuleDict, to: str, card: Mapping[str, Any]
    ) -> Translator:
        sides = {"target": to, "source": "target" if to == "source" else "source"}
        if self.settings.release_time == 1:
            del sides["source"]
        return ParallelDiffusionTranslator(
            {side: generators[f"denoise_{m}"] for side, m in sides.items()},
            self.diffusion,
            {
                **card,
                "method": "unit_ddpm",
                "network": self.settings.network,
                "diffusion": self.settings.diffusion,
                "release_time": self.settings.release_time,
                "settings": asdict(self.settings),
            },
        )


def fixed(network: nn.Module, *inputs: Tensor) -> Tensor:
    """A network's output whose gradient reaches the inputs but not the network."""
    constants = {name: p.detach() for name, p in network.named_parameters()}
    return functional_call(network, constants, inputs)


METHOD = Method(
    name="unit_ddpm",
    title="UNIT-DDPM",
    paper="Sasaki et al., 2021",
    objective=UnitDDPM,
    settings=UnitDDPMSettings,
    small=SMALL,
    training=TRAINING,
    stochastic=True,
    pairs=True,
    several_sources=False,
    renamed=old_names.UNET | old_names.ONE_SHOT,
)
