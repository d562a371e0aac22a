"""cGAN: two one-shot generators that invert each other, and two patch discriminators.

Zhu, Park, Isola, Efros, Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial
Networks, ICCV 2017; as Dar et al., Image Synthesis in Multi-Contrast MRI with Conditional
Generative Adversarial Networks, IEEE TMI 38(10), 2019 (SynDiff's [21]) used it for MRI.

For each modality m, the other one being o:

    L_G = Σ_m  λ_adv (D_o(G_o(x_m)) - 1)² + λ_cyc |G_m(G_o(x_m)) - x_m|_1
    L_D = Σ_m  λ_adv [(D_m(x_m) - 1)² + D_m(G_m(x_o))²]

| code                 | Zhu et al.       | what                                  |
|----------------------|------------------|---------------------------------------|
| generators["to_m"]   | G, F             | o → m in one pass                     |
| discriminators["m"]  | D_X, D_Y         | acquired m or G_m's                   |
| translated[m]        | F(y), G(x)       | an image of o made to look like m     |
| round_trip[m]        | F(G(x)), G(F(y)) | an image of m, there and back         |
| cycle                | λ                | of Eq. 3                              |

The adversarial loss is least squares: SynDiff's text adopts the losses of [21], which
has this one, as Zhu et al. have.

Departures. The pool of past fakes for discriminators (50 images in Zhu et al., none in SynDiff's
text) is an option, `image_pool`: without it a loss is a function of its step alone, whatever the
number of processes. The loss of the discriminators is not halved: Adam is invariant. There is no
identity term, which Zhu et al. use for paintings only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from syndiff import losses
from syndiff.networks.patchgan import PatchDiscriminator, PatchSettings
from syndiff.networks.resnet import ResNetSettings
from syndiff.objectives import old_names
from syndiff.objectives.base import DIRECTIONS, Batch, Draw, Fakes, Objective
from syndiff.objectives.method import Method
from syndiff.objectives.pairs import cycle_or_pixel
from syndiff.translators import Translator
from syndiff.translators.one_shot import (
    GeneratorSettings,
    OneShotTranslator,
    generator,
    generator_arguments,
)

# SynDiff, Sec. IV-B.2: "100 epochs, 2×10^{-4} learning rate linearly decayed to 0 in the last 50
# epochs"; Sec. IV-C: "Adam optimizer with β1=0.5, β2=0.9". The batch size is Zhu et al.'s.
TRAINING = {
    "epochs": 100,
    "generator_lr": 2e-4,
    "discriminator_lr": 2e-4,
    "linear_decay_epochs": 50,
    "batch_size": 1,
    "adam_betas": (0.5, 0.9),
}


@dataclass(frozen=True, kw_only=True)
class CycleSettings:
    """Settings that the cycle-consistent methods share; the methods differ in the generator.

    Attributes:
        cycle: λ_cyc, weight of the cycle-consistency.
        adversarial: λ_adv, weight of the adversarial terms.
        image_pool: translations of either modality that are kept; a discriminator sees each new
            one, or half of the time an older one in its place. 0: new ones only.
        generator: the generators' network, one of `translators.one_shot`.
        discriminator: the discriminators' network.
    """

    cycle: float = 100.0
    adversarial: float = 1.0
    image_pool: int = 0
    generator: GeneratorSettings
    discriminator: PatchSettings = field(default_factory=PatchSettings)


@dataclass(frozen=True, kw_only=True)
class CycleGANSettings(CycleSettings):
    """cGAN's hyper-parameters; the weights are the paper's (Sec. IV-B.2).

    Attributes:
        generator: nine blocks are Zhu et al.'s for 256×256.
    """

    generator: ResNetSettings = field(default_factory=lambda: ResNetSettings(blocks=9))


# For two CPU cores at 64×64; λ_cyc as in SynDiff's small preset.
SMALL = CycleGANSettings(
    cycle=2.0,
    generator=ResNetSettings(channels=24, blocks=3, upsampling="resize"),
    discriminator=PatchSettings(channels=32, halvings=2),
)


class CycleGAN(Objective):
    """Zhu et al.'s Eq. 3, with the least-squares loss of their Sec. 4 for Eq. 1.

    Args:
        settings: hyper-parameters.
        source_channels: number of source modalities; with several, only the target is made.
    """

    method = "cyclegan"

    def __init__(self, settings: CycleSettings, source_channels: int = 1) -> None:
        super().__init__()
        self.settings = s = settings
        self.channels = {"source": source_channels, "target": 1}
        self.makes = ("target", "source") if source_channels == 1 else ("target",)
        self.generators, self.discriminators = nn.ModuleDict(), nn.ModuleDict()
        for m, _ in DIRECTIONS:
            self.generators[f"to_{m}"] = generator(self._network(m))
            self.discriminators[m] = PatchDiscriminator(
                self.channels[m], **asdict(s.discriminator)
            )

    def _network(self, to: str) -> dict[str, Any]:
        """Name and arguments of the generator towards a modality."""
        made_from = dict(DIRECTIONS)[to]
        return generator_arguments(
            self.settings.generator, self.channels[made_from], self.channels[to]
        )

    def generate(self, batch: Batch, draw: Draw) -> Fakes:
        G, fakes = self.generators, Fakes()
        for m, o in DIRECTIONS:
            translated = G[f"to_{o}"](batch[m])
            fakes["translated"][o] = translated
            fakes["round_trip"][m] = G[f"to_{m}"](translated)
        return fakes

    def discriminator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        D, s, terms = self.discriminators, self.settings, {}
        for m, _ in DIRECTIONS:
            fake = self._from_pool(m, fakes["translated"][m], draw)
            terms[f"adversarial_{m}"] = s.adversarial * losses.least_squares_discriminator(
                D[m](batch[m]), D[m](fake)
            )  # Eq. 1
        return terms

    def _from_pool(self, m: str, new: Tensor, draw: Draw) -> Tensor:
        """New translations, of which older ones take the place half of the time; (b, c, h, w).

        Shrivastava et al., Learning from Simulated and Unsupervised Images through Adversarial
        Training, CVPR 2017; Zhu et al., Sec. 4.
        """
        size = self.settings.image_pool
        if not size:
            return new
        pool = list(self.kept.get(m, new[:0]))
        shown = []
        for image, place in zip(new, draw.integers(2 * size, len(new)).tolist(), strict=True):
            chosen = image
            if len(pool) < size:
                pool.append(image)
            elif place < size:
                chosen, pool[place] = pool[place], image
            shown.append(chosen)
        self.kept = {**self.kept, m: torch.stack(pool).detach()}
        return torch.stack(shown)

    def at_chance(self) -> dict[str, float]:
        weight = self.settings.adversarial
        return {f"adversarial_{m}": weight * losses.LEAST_SQUARES_AT_CHANCE for m, _ in DIRECTIONS}

    def generator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        D, s, terms = self.discriminators, self.settings, {}
        for m, o in DIRECTIONS:
            terms[f"adversarial_{m}"] = s.adversarial * losses.least_squares_generator(
                D[m](fakes["translated"][m])
            )  # Eq. 1
            terms |= cycle_or_pixel(
                batch, m, o, s.cycle, fakes["translated"][o], fakes["round_trip"][m]
            )  # Eq. 2
        return terms  # their sum is Eq. 3

    def translator(
        self, generators: nn.ModuleDict, to: str, card: Mapping[str, Any]
    ) -> Translator:
        return OneShotTranslator(
            generators[f"to_{to}"],
            {
                **card,
                "method": self.method,
                "network": self._network(to),
                "settings": asdict(self.settings),
            },
        )


METHOD = Method(
    name="cyclegan",
    title="cGAN",
    paper="Zhu et al., ICCV 2017; Dar et al., IEEE TMI 2019",
    objective=CycleGAN,
    settings=CycleGANSettings,
    small=SMALL,
    training=TRAINING,
    stochastic=False,
    pairs=True,
    renamed=old_names.RESNET | old_names.PATCH,
)
