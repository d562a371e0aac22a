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

Extensions of the paper's discussion (Sec. VI). Several source modalities are channels of one
source image. A batch may hold pairs: G_θ is then conditioned on the acquired image of o instead of
the guess, and |guess - acquired o|_1 replaces the one-shot cycle; |x_0 - x̂_0|_1 becomes a
pixel-wise loss by that alone. What a run does not need is not built:

| run                          | left out                                                         |
|------------------------------|------------------------------------------------------------------|
| several sources              | the diffusive pair towards the source: sources are not made      |
| every sample is one of pairs | the one-shot pairs: there is nothing to guess                    |

Departures. The discriminators are not given the source image as a condition, as in the official
code (the paper's notation suggests it for D_φ and then omits it). The gradient penalty may be
taken at every n-th step only. `spectral_norm` is the paper's own remedy for unstable training, off
by default. `structure` adds a term that the paper does not have; it is 0 in
the presets `paper` and `github`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from syndiff import losses
from syndiff.diffusion import Schedule
from syndiff.networks.ncsnpp import NCSNpp
from syndiff.networks.patchgan import PatchDiscriminator
from syndiff.networks.resnet import ResNetGenerator
from syndiff.networks.spectral import normalise_spectrally
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
        spectral_norm: spectral normalisation of all discriminators.
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
    spectral_norm: bool = False

    @property
    def network(self) -> dict[str, Any]:
        """Arguments of a diffusive generator with one source, as `config.json` keeps them."""
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
    """The paper's algorithm: `generate` is Fig. 2, the losses are Eqs. 11, 12, 17, 18, 22.

    Args:
        settings: hyper-parameters.
        source_channels: number of source modalities.
        supervised: every sample of every batch is paired.
    """

    def __init__(
        self, settings: SynDiffSettings, source_channels: int = 1, supervised: bool = False
    ) -> None:
        super().__init__()
        self.settings = s = settings
        self.channels = {"source": source_channels, "target": 1}
        self.supervised = supervised
        self.makes = ("target", "source") if source_channels == 1 else ("target",)
        self.schedule = Schedule(**s.schedule)
        self.generators, self.discriminators = nn.ModuleDict(), nn.ModuleDict()
        for m, o in DIRECTIONS:
            if not supervised:
                self.generators[f"one_shot_to_{m}"] = ResNetGenerator(
                    in_channels=self.channels[o],
                    out_channels=self.channels[m],
                    channels=s.one_shot_channels,
                    blocks=s.one_shot_blocks,
                    upsampling=s.upsampling,
                )
            if m in self.makes:
                self.generators[f"diffusive_{m}"] = NCSNpp(**self._network(m))
            if not supervised:
                self.discriminators[f"one_shot_{m}"] = PatchDiscriminator(
                    self.channels[m], channels=s.patch_channels, halvings=s.patch_halvings
                )
            if m in self.makes:
                self.discriminators[f"diffusive_{m}"] = StepDiscriminator(
                    stem=s.step_stem,
                    widths=s.step_widths,
                    time_dim=s.step_time_dim,
                    deviation_group=s.deviation_group,
                )
        if s.spectral_norm:
            normalise_spectrally(self.discriminators)

    def _network(self, m: str) -> dict[str, Any]:
        """Arguments of G_θ^m: x_t and the other modality are its input channels."""
        o = "target" if m == "source" else "source"
        return self.settings.network | {"in_channels": 1 + self.channels[o]}

    def generate(self, batch: Batch, draw: Draw) -> Fakes:
        G, fakes = self.generators, Fakes()
        for m, o in DIRECTIONS:
            x_0, made = batch[m], {}
            condition = batch[o]  # the acquired image, where there are pairs
            if not self.supervised:
                guess = made["guess"] = G[f"one_shot_to_{o}"](x_0)  # Eq. 16
                condition = batch.acquired(o, otherwise=guess)
                if not batch.paired.all():
                    made["round_trip"] = G[f"one_shot_to_{m}"](guess)  # Eq. 21
            if m in self.makes:
                made |= self._denoise(m, x_0, condition, draw)
            for name, value in made.items():
                fakes[name][m] = value
        return fakes

    def _denoise(self, m: str, x_0: Tensor, condition: Tensor, draw: Draw) -> dict[str, Tensor]:
        """One reverse step of the diffusive module, from an x_t of the data."""
        t = draw.integers(self.settings.steps, len(x_0))  # t ~ U{k, 2k, …, T}, Eq. 11
        x_prev, x_t = self.schedule.diffuse(  # Eqs. 8, 9
            x_0, t, draw.normal(*x_0.shape), draw.normal(*x_0.shape)
        )
        z = draw.normal(len(x_0), self.settings.latent_dim)
        denoised = self.generators[f"diffusive_{m}"](x_t, condition, t, z)  # Eq. 19
        denoised_prev = self.schedule.sample_posterior(  # Eqs. 15, 20
            denoised, x_t, t, draw.normal(*x_0.shape)
        )
        return {
            "t": t,
            "x_prev": x_prev,
            "x_t": x_t,
            "denoised": denoised,
            "denoised_prev": denoised_prev,
        }

    def discriminator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        D, s, terms = self.discriminators, self.settings, {}
        penalised = draw.step % s.gradient_penalty_interval == 0
        for m, o in DIRECTIONS:
            if m in self.makes:
                x_t, t = fakes["x_t"][m], fakes["t"][m]
                x_prev = fakes["x_prev"][m].requires_grad_(penalised)
                with full_precision(x_prev, penalised):
                    real = D[f"diffusive_{m}"](x_prev, x_t, t)
                    if penalised:
                        weight = s.adversarial_diffusive * s.gradient_penalty
                        terms[f"penalty_{m}"] = weight * losses.gradient_penalty(real, x_prev)
                fake = D[f"diffusive_{m}"](fakes["denoised_prev"][m], x_t, t)
                terms[f"diffusive_{m}"] = (
                    s.adversarial_diffusive * losses.adversarial_discriminator(real, fake)
                )  # Eq. 12, the penalty included
            if not self.supervised:
                logits = D[f"one_shot_{m}"](batch[m]), D[f"one_shot_{m}"](fakes["guess"][o])
                terms[f"one_shot_{m}"] = s.adversarial_one_shot * losses.adversarial_discriminator(
                    *logits
                )  # Eq. 18
        return terms  # their sum is Eq. 24

    def generator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        D, s, terms = self.discriminators, self.settings, {}
        for m, o in DIRECTIONS:
            x_0 = batch[m]
            if m in self.makes:
                x_t, t = fakes["x_t"][m], fakes["t"][m]
                logits = D[f"diffusive_{m}"](fakes["denoised_prev"][m], x_t, t)
                terms[f"diffusive_{m}"] = s.adversarial_diffusive * losses.adversarial_generator(
                    logits
                )  # Eq. 11
            if not self.supervised:
                logits = D[f"one_shot_{o}"](fakes["guess"][m])
                terms[f"one_shot_{o}"] = s.adversarial_one_shot * losses.adversarial_generator(
                    logits
                )  # Eq. 17
                terms |= self._one_shot_distances(batch, fakes, m, o)
            if m in self.makes:
                terms[f"cycle_diffusive_{m}"] = s.cycle_diffusive * losses.cycle(
                    fakes["denoised"][m], x_0
                )  # Eq. 22; with an acquired condition this is a pixel-wise loss
            if s.structure and not self.supervised:
                terms[f"structure_{m}"] = s.structure * losses.structure(
                    *by_channel(x_0, fakes["guess"][m])
                )
        return terms  # their sum is Eq. 23

    def _one_shot_distances(self, batch: Batch, fakes: Fakes, m: str, o: str) -> dict[str, Tensor]:
        """The one-shot cycle of the unpaired samples, the pixel-wise loss of the paired ones."""
        weight, paired, terms = self.settings.cycle_one_shot, batch.paired, {}
        if not paired.all():
            terms[f"cycle_one_shot_{m}"] = weight * distance(
                fakes["round_trip"][m], batch[m], ~paired
            )  # Eq. 22
        if paired.any():
            terms[f"pixel_{o}"] = weight * distance(fakes["guess"][m], batch[o], paired)  # Sec. VI
        return terms

    def translator(
        self, generators: nn.ModuleDict, to: str, card: Mapping[str, Any]
    ) -> Translator:
        return AdversarialDiffusionTranslator(
            cast(NCSNpp, generators[f"diffusive_{to}"]),
            self.schedule,
            {
                **card,
                "method": "syndiff",
                "network": self._network(to),
                "schedule": self.settings.schedule,
                "settings": asdict(self.settings),
            },
        )


def full_precision(x: Tensor, wanted: bool) -> AbstractContextManager[Any]:
    """Switches mixed precision off where a gradient is differentiated again, if wanted."""
    return torch.autocast(x.device.type, enabled=False) if wanted else nullcontext()


def distance(made: Tensor, acquired: Tensor, counted: Tensor) -> Tensor:
    """ℓ1 over a batch of which only some samples count; the others count as 0.

    Args:
        made, acquired: (b, c, h, w).
        counted: (b,) bool, on the host.
    """
    if counted.all():
        return losses.cycle(made, acquired)
    each = (made - acquired).abs().mean(dim=(1, 2, 3))  # b
    return (each * counted.to(each.device, each.dtype, non_blocking=True)).mean()


def by_channel(x_0: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
    """Each channel of one image beside each of the other: b c h w, b d h w → 2 × b·c·d 1 h w."""
    left, right = torch.broadcast_tensors(x_0[:, :, None], guess[:, None])  # b c d h w
    return left.flatten(0, 2)[:, None], right.flatten(0, 2)[:, None]
