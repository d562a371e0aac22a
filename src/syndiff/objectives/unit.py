"""UNIT: both modalities pass through one latent space; two coupled VAEs with discriminators.

Liu, Breuel, Kautz, Unsupervised Image-to-Image Translation Networks, NIPS 2017.

For each modality m, the other one being o, with the code z_m = E_m(x_m) + η, η ~ N(0, I), the
translation x_mo = G_o(z_m) and its code z_mo = E_o(x_mo) + η':

    L_VAE = λ_kl KL(q(z_m|x_m) ‖ N(0, I)) + λ_rec |G_m(z_m) - x_m|_1
    L_CC  = λ_kl KL(q(z_mo|x_mo) ‖ N(0, I)) + λ_cyc |G_m(z_mo) - x_m|_1
    L_GAN = -λ_adv log D_o(x_mo)
    L_G   = Σ_m  L_VAE + L_CC + L_GAN
    L_D   = -Σ_m  λ_adv [log D_m(x_m) + log(1 - D_m(x_om))]

| code                                        | Liu et al.     | what                         |
|---------------------------------------------|----------------|------------------------------|
| generators["encoder_m"], ["shared_encoder"] | E_1, E_2       | image → mean of its code     |
| generators["shared_decoder"], ["decoder_m"] | G_1, G_2       | code → image                 |
| discriminators["m"]                         | D_1, D_2       | acquired m or translated     |
| code[m], code_again[m]                      | E_μ,1, E_μ,2   | means of z_m and of z_mo     |
| reconstruction[m]                           | G_1(z_1), …    | x_m through its own VAE      |
| translated[m]                               | G_1(z_2), …    | an image of o made to be m   |
| round_trip[m]                               | the cycle's    | x_m there and back           |
| adversarial; kl                             | λ_0; λ_1 = λ_3 | weights                      |
| reconstruction; cycle                       | λ_2; λ_4       | weights                      |

The encoders' last block and the decoders' first are one module each for both modalities: the
shared latent space. The adversarial loss is the paper's logarithm in its non-saturating form.

Sources. SynDiff adopts "architecture and loss functions" from Liu et al., so the adversarial loss
is theirs. Its weights 10, 1 and 10 are those of the authors' later code (NVlabs/MUNIT), where
the KL terms have 0.01 and the adversarial loss is least squares. That code computes a KL term as
the mean of μ², which is twice the divergence. So λ_kl is 0.02 here, on the divergence itself: the
same penalty. Runs from before had half of it. The 0.01 is from memory; the configuration file of
that code could not be looked up.

Departures. All terms are means, over pixels or over
the code, instead of sums. Encoders and decoders consist of the layers of this package's ResNet,
with instance normalisation (`networks/shared_latent.py`). Translation takes the mean of the code,
so that it is deterministic, as SynDiff's discussion says of UNIT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from syndiff import losses
from syndiff.networks.patchgan import CascadeDiscriminator, CascadeSettings
from syndiff.networks.shared_latent import (
    SharedLatentGenerator,
    SharedLatentSettings,
    image_decoder,
    image_encoder,
    shared_block,
)
from syndiff.objectives import old_names
from syndiff.objectives.base import DIRECTIONS, Batch, Draw, Fakes, Objective
from syndiff.objectives.method import Method
from syndiff.objectives.pairs import cycle_or_pixel
from syndiff.translators import OneShotTranslator, Translator
from syndiff.translators.one_shot import generator_arguments

# SynDiff, Sec. IV-B.3: "100 epochs, 10^{-4} learning rate"; Sec. IV-C: "Adam optimizer with
# β1=0.5, β2=0.9". The batch size is Liu et al.'s: one image of each modality.
TRAINING = {
    "epochs": 100,
    "generator_lr": 1e-4,
    "discriminator_lr": 1e-4,
    "linear_decay_epochs": 0,
    "batch_size": 1,
    "adam_betas": (0.5, 0.9),
}


@dataclass(frozen=True)
class UNITSettings:
    """UNIT's hyper-parameters; cycle, adversarial and reconstruction are the paper's.

    Attributes:
        cycle: λ_cyc, weight of the ℓ1 after two translations.
        adversarial: λ_adv.
        reconstruction: λ_rec, weight of the ℓ1 within a modality.
        kl: λ_kl, weight of either divergence from the standard normal.
        generator: the network of encoders and decoders.
        discriminator: the discriminators' network.
    """

    cycle: float = 10.0
    adversarial: float = 1.0
    reconstruction: float = 10.0
    kl: float = 0.02
    generator: SharedLatentSettings = field(default_factory=SharedLatentSettings)
    discriminator: CascadeSettings = field(default_factory=lambda: CascadeSettings(halvings=5))


# For two CPU cores at 64×64. The paper's weights except the adversarial one are divided by five,
# so that the contrast can change. With three halvings the discriminators see 22 pixels and learn
# much more slowly.
SMALL = UNITSettings(
    cycle=2.0,
    reconstruction=2.0,
    kl=0.004,
    generator=SharedLatentSettings(channels=20, blocks=2),
    discriminator=CascadeSettings(channels=32, halvings=4),
)


def kl_to_standard_normal(mean: Tensor) -> Tensor:
    """KL(N(mean, I) ‖ N(0, I)) = mean² / 2 for each entry of a code, averaged."""
    return mean.float().square().mean() / 2


class UNIT(Objective):
    """Liu et al.'s L_VAE, L_GAN and L_CC for both modalities.

    Args:
        settings: hyper-parameters.
        source_channels: number of source modalities; with several, only the target is made.
    """

    def __init__(self, settings: UNITSettings, source_channels: int = 1) -> None:
        super().__init__()
        self.settings = s = settings
        self.channels = {"source": source_channels, "target": 1}
        self.makes = ("target", "source") if source_channels == 1 else ("target",)
        self.generators, self.discriminators = nn.ModuleDict(), nn.ModuleDict()
        g = s.generator
        self.generators["shared_encoder"] = shared_block(g.channels)
        self.generators["shared_decoder"] = shared_block(g.channels)
        for m, c in self.channels.items():
            self.generators[f"encoder_{m}"] = image_encoder(c, g.channels, g.blocks)
            self.generators[f"decoder_{m}"] = image_decoder(c, g.channels, g.blocks, g.upsampling)
            self.discriminators[m] = CascadeDiscriminator(c, **asdict(s.discriminator))

    def generate(self, batch: Batch, draw: Draw) -> Fakes:
        fakes = Fakes()
        for m, o in DIRECTIONS:
            code = self._encode(m, batch[m])
            z = code + draw.normal(*code.shape)  # z_m ~ q(z|x_m)
            translated = self._decode(o, z)  # x_mo
            code_again = self._encode(o, translated)
            z_again = code_again + draw.normal(*code.shape)  # z_mo ~ q(z|x_mo)
            fakes["code"][m], fakes["code_again"][m] = code, code_again
            fakes["reconstruction"][m] = self._decode(m, z)
            fakes["translated"][o] = translated
            fakes["round_trip"][m] = self._decode(m, z_again)
        return fakes

    def _encode(self, m: str, image: Tensor) -> Tensor:
        return self.generators["shared_encoder"](self.generators[f"encoder_{m}"](image))

    def _decode(self, m: str, z: Tensor) -> Tensor:
        return self.generators[f"decoder_{m}"](self.generators["shared_decoder"](z))

    def discriminator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        D, s, terms = self.discriminators, self.settings, {}
        for m, _ in DIRECTIONS:
            terms[f"adversarial_{m}"] = s.adversarial * losses.adversarial_discriminator(
                D[m](batch[m]), D[m](fakes["translated"][m])
            )
        return terms  # L_D

    def at_chance(self) -> dict[str, float]:
        weight = self.settings.adversarial
        return {f"adversarial_{m}": weight * losses.SOFTPLUS_AT_CHANCE for m, _ in DIRECTIONS}

    def generator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        D, s, terms = self.discriminators, self.settings, {}
        for m, o in DIRECTIONS:
            x = batch[m]
            terms[f"kl_{m}"] = s.kl * kl_to_standard_normal(fakes["code"][m])
            terms[f"reconstruction_{m}"] = s.reconstruction * F.l1_loss(
                fakes["reconstruction"][m], x
            )  # with the term above L_VAE
            terms[f"kl_cycle_{m}"] = s.kl * kl_to_standard_normal(fakes["code_again"][m])
            terms |= cycle_or_pixel(
                batch, m, o, s.cycle, fakes["translated"][o], fakes["round_trip"][m]
            )  # with the term above L_CC
            terms[f"adversarial_{m}"] = s.adversarial * losses.adversarial_generator(
                D[m](fakes["translated"][m])
            )  # L_GAN
        return terms  # their sum is L_G

    def translator(
        self, generators: nn.ModuleDict, to: str, card: Mapping[str, Any]
    ) -> Translator:
        made_from = dict(DIRECTIONS)[to]
        network = SharedLatentGenerator(
            generators[f"encoder_{made_from}"],
            generators["shared_encoder"],
            generators["shared_decoder"],
            generators[f"decoder_{to}"],
        )
        return OneShotTranslator(
            network,
            {
                **card,
                "method": "unit",
                "network": generator_arguments(
                    self.settings.generator, self.channels[made_from], self.channels[to]
                ),
                "settings": asdict(self.settings),
            },
        )


METHOD = Method(
    name="unit",
    title="UNIT",
    paper="Liu et al., NeurIPS 2017",
    objective=UNIT,
    settings=UNITSettings,
    small=SMALL,
    renamed=old_names.RESNET | old_names.CASCADE,
    before={"kl": 0.01},
    training=TRAINING,
    stochastic=False,
    pairs=True,
)
