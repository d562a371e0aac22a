"""SynDiff: unpaired translation by a cycle-consistent adversarial diffusion process.

Özbey, Dalmaz, Dar, Bedel, Özturk, Güngör, Çukur: Unsupervised Medical Image Translation with
Adversarial Diffusion Models, IEEE TMI 42(12), 2023.

Each modality m (the other one is o) has a one-shot pair (G_φ, D_φ) and a diffusive pair
(G_θ, D_θ). From an image x_0 of m, the one-shot generator guesses the image of o that was never
acquired; with that guess as condition the diffusive generator learns to take noise off x_0. Once
trained, the condition is an acquired image of o and only G_θ is needed.

    L_G = Σ_m  λ_2φ L_Gφ + λ_2θ L_Gθ + λ_1φ |x_0 - x̌_0|_1 + λ_1θ |x_0 - x̂_0|_1   (Eqs. 22, 23)
    L_D = Σ_m  λ_2φ L_Dφ + λ_2θ (L_Dθ + η |∇ D_θ|²)                               (Eqs. 12, 24)

| code                           | paper   | what                                                |
|--------------------------------|---------|-----------------------------------------------------|
| generators["one_shot_to_m"]    | G_φ^m   | o → m in one pass (Eq. 16)                          |
| generators["diffusive_m"]      | G_θ^m   | (x_t of m, condition of o, t, z) → x_0 (Eq. 19)     |
| discriminators["one_shot_m"]   | D_φ^m   | acquired m or G_φ^m's                               |
| discriminators["diffusive_m"]  | D_θ^m   | x_{t-k} of the data or of G_θ^m, given x_t and t    |
| guess                          | ỹ^o     | the other modality of this anatomy                  |
| round_trip                     | x̌_0^m   | guess translated back (Eq. 21)                      |
| denoised                       | x̂_0^m   | the diffusive estimate (Eq. 19)                     |
| x_prev, denoised_prev          | x_{t-k} | drawn from the data, drawn through G_θ (Eq. 20)     |

Departures. The discriminators are not given the source image as a condition, as in the official
code (the paper's notation suggests it for D_φ and then omits it). The gradient penalty may be
taken at every n-th step only. `structure` adds a term that the paper does not have; it is 0 in
the presets `paper` and `github`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from syndiff import losses
from syndiff.diffusion import Schedule
from syndiff.networks.ncsnpp import NCSNpp
from syndiff.networks.patchgan import PatchDiscriminator
from syndiff.networks.resnet import ResNetGenerator
from syndiff.networks.step_discriminator import StepDiscriminator
from syndiff.objectives.base import Batch, Draw, Fakes, Objective
from syndiff.translators import AdversarialDiffusionTranslator, Translator

DIRECTIONS = (("source", "target"), ("target", "source"))  # (modality m, the other one o)


@dataclass(frozen=True)
class SynDiffSettings:
    """SynDiff's hyper-parameters; the values here are the `default` preset's.

    Attributes:
        steps: T/k, reverse steps of the diffusion process.
        beta_min, beta_max: bounds of the noise schedule (Eq. 10).
        cycle_one_shot, cycle_diffusive: λ_1φ and λ_1θ (Eq. 22).
        adversarial_one_shot, adversarial_diffusive: λ_2φ and λ_2θ (Eqs. 23, 24).
        gradient_penalty: η (Eq. 12).
        gradient_penalty_interval: steps between two penalties; 1 is the paper's.
        structure: weight of the structure term between an image and its one-shot translation.
        deviation_group: samples that share a minibatch-deviation channel; 1 is off.
        channels, multipliers, blocks, attention_levels, time_dim, latent_dim, latent_embedding,
            latent_layers: of the diffusive generators, see `NCSNpp`.
        one_shot_channels, one_shot_blocks, upsampling: of the one-shot generators, see
            `ResNetGenerator`.
        step_stem, step_widths, step_time_dim: of the diffusive discriminators, see
            `StepDiscriminator`.
        patch_channels, patch_halvings: of the one-shot discriminators, see `PatchDiscriminator`.
    """

    steps: int = 4
    beta_min: float = 0.1
    beta_max: float = 20.0
    cycle_one_shot: float = 0.5
    cycle_diffusive: float = 0.5
    adversarial_one_shot: float = 1.0
    adversarial_diffusive: float = 1.0
    gradient_penalty: float = 0.5
    gradient_penalty_interval: int = 10
    structure: float = 0.0
    deviation_group: int = 4
    channels: int = 64
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    blocks: int = 2
    attention_levels: tuple[int, ...] = (4,)
    time_dim: int = 64
    latent_dim: int = 100
    latent_embedding: int = 256
    latent_layers: int = 4
    one_shot_channels: int = 64
    one_shot_blocks: int = 6
    upsampling: str = "transposed"
    step_stem: int = 128
    step_widths: tuple[int, ...] = (256, 512, 512, 512, 512, 512)
    step_time_dim: int = 256
    patch_channels: int = 64
    patch_halvings: int = 3

    @property
    def network(self) -> dict[str, Any]:
        """Arguments of the diffusive generator, as a translator's configuration keeps them."""
        return {
            "in_channels": 2,
            "channels": self.channels,
            "multipliers": self.multipliers,
            "blocks": self.blocks,
            "attention_levels": self.attention_levels,
            "time_dim": self.time_dim,
            "latent_dim": self.latent_dim,
            "latent_embedding": self.latent_embedding,
            "latent_layers": self.latent_layers,
        }

    @property
    def schedule(self) -> dict[str, Any]:
        return {"steps": self.steps, "beta_min": self.beta_min, "beta_max": self.beta_max}


class SynDiff(Objective):
    """The paper's algorithm: `generate` is Fig. 2, the losses are Eqs. 11, 12, 17, 18, 22."""

    def __init__(self, settings: SynDiffSettings) -> None:
        super().__init__()
        self.settings = s = settings
        self.schedule = Schedule(**s.schedule)
        self.generators, self.discriminators = nn.ModuleDict(), nn.ModuleDict()
        for m, _ in DIRECTIONS:
            self.generators[f"one_shot_to_{m}"] = ResNetGenerator(
                channels=s.one_shot_channels, blocks=s.one_shot_blocks, upsampling=s.upsampling
            )
            self.generators[f"diffusive_{m}"] = NCSNpp(**s.network)
            self.discriminators[f"one_shot_{m}"] = PatchDiscriminator(
                channels=s.patch_channels, halvings=s.patch_halvings
            )
            self.discriminators[f"diffusive_{m}"] = StepDiscriminator(
                stem=s.step_stem,
                widths=s.step_widths,
                time_dim=s.step_time_dim,
                deviation_group=s.deviation_group,
            )

    def generate(self, batch: Batch, draw: Draw) -> Fakes:
        G, fakes = self.generators, Fakes()
        for m, o in DIRECTIONS:
            x_0 = batch[m]
            b = len(x_0)
            t = draw.integers(self.settings.steps, b)  # t ~ U{k, 2k, …, T}, Eq. 11
            x_prev, x_t = self.schedule.diffuse(  # Eqs. 8, 9
                x_0, t, draw.normal(*x_0.shape), draw.normal(*x_0.shape)
            )
            z = draw.normal(b, self.settings.latent_dim)
            guess = G[f"one_shot_to_{o}"](x_0)  # Eq. 16
            round_trip = G[f"one_shot_to_{m}"](guess)  # Eq. 21
            denoised = G[f"diffusive_{m}"](x_t, guess, t, z)  # Eq. 19
            denoised_prev = self.schedule.sample_posterior(  # Eqs. 15, 20
                denoised, x_t, t, draw.normal(*x_0.shape)
            )
            for name, value in {
                "t": t,
                "x_prev": x_prev,
                "x_t": x_t,
                "guess": guess,
                "round_trip": round_trip,
                "denoised": denoised,
                "denoised_prev": denoised_prev,
            }.items():
                fakes[name][m] = value
        return fakes

    def discriminator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        D, s, terms = self.discriminators, self.settings, {}
        penalised = draw.step % s.gradient_penalty_interval == 0
        for m, o in DIRECTIONS:
            x_t, x_prev, t = fakes["x_t"][m], fakes["x_prev"][m], fakes["t"][m]
            terms[f"diffusive_{m}"] = s.adversarial_diffusive * losses.adversarial_discriminator(
                D[f"diffusive_{m}"](x_prev, x_t, t),
                D[f"diffusive_{m}"](fakes["denoised_prev"][m], x_t, t),
            )  # Eq. 12
            terms[f"one_shot_{m}"] = s.adversarial_one_shot * losses.adversarial_discriminator(
                D[f"one_shot_{m}"](batch[m]), D[f"one_shot_{m}"](fakes["guess"][o])
            )  # Eq. 18
            if penalised:
                critic = partial(D[f"diffusive_{m}"], x_t=x_t, t=t)
                weight = s.adversarial_diffusive * s.gradient_penalty
                terms[f"penalty_{m}"] = weight * losses.gradient_penalty(critic, x_prev)  # Eq. 12
        return terms  # their sum is Eq. 24

    def generator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        D, s, terms = self.discriminators, self.settings, {}
        for m, o in DIRECTIONS:
            x_0, x_t, t = batch[m], fakes["x_t"][m], fakes["t"][m]
            logits = D[f"diffusive_{m}"](fakes["denoised_prev"][m], x_t, t)
            terms[f"diffusive_{m}"] = s.adversarial_diffusive * losses.adversarial_generator(
                logits
            )  # Eq. 11
            logits = D[f"one_shot_{o}"](fakes["guess"][m])
            terms[f"one_shot_{o}"] = s.adversarial_one_shot * losses.adversarial_generator(
                logits
            )  # Eq. 17
            terms[f"cycle_one_shot_{m}"] = s.cycle_one_shot * losses.cycle(
                fakes["round_trip"][m], x_0
            )  # Eq. 22
            terms[f"cycle_diffusive_{m}"] = s.cycle_diffusive * losses.cycle(
                fakes["denoised"][m], x_0
            )  # Eq. 22
            if s.structure:
                terms[f"structure_{m}"] = s.structure * losses.structure(x_0, fakes["guess"][m])
        return terms  # their sum is Eq. 23

    def translator(
        self, generators: nn.ModuleDict, to: str, card: Mapping[str, Any]
    ) -> Translator:
        return AdversarialDiffusionTranslator(
            cast(NCSNpp, generators[f"diffusive_{to}"]),
            self.schedule,
            {
                **card,
                "method": "syndiff",
                "network": self.settings.network,
                "schedule": self.settings.schedule,
                "settings": asdict(self.settings),
            },
        )
