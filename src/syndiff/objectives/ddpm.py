"""DDPM: improved denoising diffusion conditioned on the source, trained on one-shot guesses.

Nichol, Dhariwal, Improved Denoising Diffusion Probabilistic Models, ICML 2021 (I; the paper's
[74]); the non-diffusive module is that of SynDiff (S): Özbey et al., IEEE TMI 42(12), 2023.

For each modality m, the other one being o, the one-shot generator guesses the image y of o that
was never acquired; with y as condition, a U-Net learns the noise in x_t and the variance of the
reverse step. Once trained, the condition is an acquired image of o, and T steps lead from noise to
the image of m.

    L_hybrid = |ε - ε_θ(x_t, y, t)|² + λ L_vlb,   L_vlb = Σ_t L_t               (I 4, 14, 16)
    L_G = Σ_m  L_hybrid - λ_adv log D_φ(y) + λ_cyc |x_0 - x̌_0|_1          (S 17, 22, 23)
    L_D = Σ_m  λ_adv [-log D_φ(x_0) - log(1 - D_φ(y))]                         (S 18, 24)

| code                           | paper      | what                                            |
|--------------------------------|------------|-------------------------------------------------|
| generators["one_shot_to_m"]    | S G_φ^m    | o → m in one pass                               |
| generators["diffusive_m"]      | I ε_θ, v   | (x_t of m, condition of o, t) → noise, variance |
| discriminators["one_shot_m"]   | S D_φ^m    | acquired m or G_φ^m's                           |
| diffusion                      | I q, p_θ   | the two processes, with T steps                 |
| guess                          | S ỹ^o      | the other modality of this anatomy              |
| round_trip                     | S x̌_0^m    | guess translated back                           |
| noise, epsilon                 | I ε, ε_θ   | drawn, estimated                                |
| v                              | I v        | reverse variance: 0 is β̃_t, 1 is β_t            |
| variational                    | I λ        | weight of the bound, 0.001                      |

L_vlb is estimated by one t per sample, drawn uniformly, times T, in bits and as a mean over the
pixels, as in Nichol and Dhariwal's code. Its gradient flows through the variance, not through the
noise estimate (I Sec. 3.1). L_0 is the probability of one of 256 grey levels, as there
(`GaussianDiffusion.bound_term`), though a scan's values need not lie on them.

Departures. λ_adv is 1 as in SynDiff, because the text gives no value. The
diffusive reconstruction |x_0 - x̂_0|_1 of S 22 is left out: L_hybrid is the loss that the text
adopts for that module. `structure` adds a term to the one-shot module that neither paper has; it
is 0 except in `SMALL`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from syndiff import losses
from syndiff.diffusion.small_steps import GaussianDiffusion
from syndiff.networks.patchgan import PatchDiscriminator, PatchSettings
from syndiff.networks.resnet import ResNetSettings
from syndiff.networks.unet import UNet, UNetSettings
from syndiff.objectives import old_names
from syndiff.objectives.base import DIRECTIONS, Batch, Draw, Fakes, Objective
from syndiff.objectives.method import Method
from syndiff.objectives.pairs import cycle_or_pixel
from syndiff.translators import GaussianDiffusionTranslator, Translator
from syndiff.translators.one_shot import generator, generator_arguments

# SynDiff, Sec. IV-B.7: "50 epochs, 10^{-4} learning rate, T=1000, k=1, and 1000 diffusion steps.
# A cosine noise schedule was used as in [74]. Weight for cycle-consistency loss was 1."
# Sec. IV-C: "Adam optimizer with β1=0.5, β2=0.9". The batch size is SynDiff's.
TRAINING = {
    "epochs": 50,
    "generator_lr": 1e-4,
    "discriminator_lr": 1e-4,
    "linear_decay_epochs": 0,
    "batch_size": 1,
    "adam_betas": (0.5, 0.9),
}


@dataclass(frozen=True)
class DDPMSettings:
    """DDPM's hyper-parameters; the networks are those of the two papers at 256×256.

    Attributes:
        steps: T, steps of the diffusion process.
        variational: λ, weight of the variational bound.
        cycle: λ_cyc, weight of the one-shot cycle-consistency.
        adversarial: λ_adv, weight of the one-shot adversarial terms.
        structure: weight of the structure term between an image and its one-shot translation.
        structure_radius_mm: its radius, see `losses.structure`; 0 is the term of earlier runs.
        denoiser: the denoisers' network.
        one_shot: the one-shot generators' network.
        discriminator: the one-shot discriminators' network.
    """

    steps: int = 1000
    variational: float = 0.001
    cycle: float = 1.0
    adversarial: float = 1.0
    structure: float = 0.0
    structure_radius_mm: float = 0.0
    denoiser: UNetSettings = field(default_factory=UNetSettings)
    one_shot: ResNetSettings = field(default_factory=ResNetSettings)
    discriminator: PatchSettings = field(default_factory=PatchSettings)

    @property
    def network(self) -> dict[str, Any]:
        """Arguments of a denoiser, as a translator's configuration keeps them."""
        return {"out_channels": 2, **asdict(self.denoiser)}  # noise and variance

    @property
    def diffusion(self) -> dict[str, Any]:
        return {"T": self.steps}


SMALL = DDPMSettings(
    cycle=2.0,
    structure=5.0,
    structure_radius_mm=2.0,
    denoiser=UNetSettings(
        channels=16, multipliers=(1, 2, 3, 4), blocks=1, attention_levels=(3,), heads=2
    ),
    one_shot=ResNetSettings(channels=16, blocks=3, upsampling="resize"),
    discriminator=PatchSettings(channels=48, halvings=2),
)


class DDPM(Objective):
    """One reverse step per modality and batch, at a random t, beside SynDiff's one-shot module."""

    def __init__(self, settings: DDPMSettings) -> None:
        super().__init__()
        self.settings = s = settings
        self.diffusion = GaussianDiffusion(**s.diffusion)
        self.generators, self.discriminators = nn.ModuleDict(), nn.ModuleDict()
        for m, _ in DIRECTIONS:
            self.generators[f"one_shot_to_{m}"] = generator(generator_arguments(s.one_shot))
            self.generators[f"diffusive_{m}"] = UNet(**s.network)
            self.discriminators[f"one_shot_{m}"] = PatchDiscriminator(**asdict(s.discriminator))

    def generate(self, batch: Batch, draw: Draw) -> Fakes:
        G, q, fakes = self.generators, self.diffusion, Fakes()
        for m, o in DIRECTIONS:
            x_0 = batch[m]
            t = draw.integers(self.settings.steps, len(x_0))
            noise = draw.normal(*x_0.shape)
            x_t = q.diffuse(x_0, t, noise)  # I Eq. 9
            guess = G[f"one_shot_to_{o}"](x_0)  # S Eq. 16
            round_trip = G[f"one_shot_to_{m}"](guess)  # S Eq. 21
            condition = batch.acquired(o, otherwise=guess)
            epsilon, v = G[f"diffusive_{m}"](x_t, condition, q.time[t]).chunk(2, dim=1)
            for name, value in {
                "t": t,
                "noise": noise,
                "x_t": x_t,
                "guess": guess,
                "round_trip": round_trip,
                "epsilon": epsilon,
                "v": v,
            }.items():
                fakes[name][m] = value
        return fakes

    def discriminator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        D, s, terms = self.discriminators, self.settings, {}
        for m, o in DIRECTIONS:
            terms[f"one_shot_{m}"] = s.adversarial * losses.adversarial_discriminator(
                D[f"one_shot_{m}"](batch[m]), D[f"one_shot_{m}"](fakes["guess"][o])
            )  # S Eq. 18
        return terms

    def at_chance(self) -> dict[str, float]:
        weight = self.settings.adversarial
        return {f"one_shot_{m}": weight * losses.SOFTPLUS_AT_CHANCE for m, _ in DIRECTIONS}

    def generator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        D, s, terms = self.discriminators, self.settings, {}
        for m, o in DIRECTIONS:
            x_0, guess = batch[m], fakes["guess"][m]
            terms[f"simple_{m}"] = F.mse_loss(fakes["epsilon"][m], fakes["noise"][m])  # I Eq. 14
            terms[f"variational_{m}"] = s.variational * self._bound(m, x_0, fakes)  # I Eq. 16
            terms[f"one_shot_{o}"] = s.adversarial * losses.adversarial_generator(
                D[f"one_shot_{o}"](guess)
            )  # S Eq. 17
            terms |= cycle_or_pixel(
                batch, m, o, s.cycle, guess, fakes["round_trip"][m]
            )  # S Eq. 22
            if s.structure:
                terms[f"structure_{m}"] = s.structure * losses.structure(
                    x_0, guess, s.structure_radius_mm, self.spacing_mm
                )
        return terms

    def _bound(self, m: str, x_0: Tensor, fakes: Fakes) -> Tensor:
        """L_vlb: T times the mean of its terms at the drawn t."""
        q, t, x_t = self.diffusion, fakes["t"][m], fakes["x_t"][m]
        mean = q.mean(x_t, t, fakes["epsilon"][m].detach())  # I Sec. 3.1: the gradient stops here
        log_variance = q.reverse_log_variance(fakes["v"][m], t)  # I Eq. 15
        return self.settings.steps * q.bound_term(x_0, x_t, t, mean, log_variance).mean()

    def translator(
        self, generators: nn.ModuleDict, to: str, card: Mapping[str, Any]
    ) -> Translator:
        return GaussianDiffusionTranslator(
            {"target": generators[f"diffusive_{to}"]},
            self.diffusion,
            {
                **card,
                "method": "ddpm",
                "network": self.settings.network,
                "diffusion": self.settings.diffusion,
                "settings": asdict(self.settings),
            },
        )


METHOD = Method(
    name="ddpm",
    title="DDPM",
    paper="Nichol and Dhariwal, ICML 2021",
    objective=DDPM,
    settings=DDPMSettings,
    small=SMALL,
    training=TRAINING,
    stochastic=True,
    pairs=True,
    several_sources=False,
    renamed=old_names.UNET | old_names.ONE_SHOT | old_names.PATCH,
)
