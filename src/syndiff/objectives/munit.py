"""MUNIT: an image as content, shared by both modalities, and style, specific to its modality.

Huang, Liu, Belongie, Kautz, Multimodal Unsupervised Image-to-Image Translation, ECCV 2018.

For each modality m, the other one being o, with content c_m = E_m^c(x_m), style s_m = E_m^s(x_m),
a drawn style s_o ~ N(0, I) and the translation x_mo = G_o(c_m, s_o):

    L_G = Σ_m  λ_x |G_m(c_m, s_m) - x_m|_1                       (Eq. 1: image)
             + λ_c |E_o^c(x_mo) - c_m|_1                         (Eq. 2: content)
             + λ_s |E_o^s(x_mo) - s_o|_1                         (Eq. 3: style)
             + λ_adv Σ_scales (D_o(x_mo) - 1)²                   (Eq. 4: adversarial)
    L_D = Σ_m  λ_adv Σ_scales [(D_m(x_m) - 1)² + D_m(x_om)²]     (Eq. 4)

| code                                 | Huang et al.  | what                                 |
|--------------------------------------|---------------|--------------------------------------|
| generators["content_m"], ["style_m"] | E_m^c, E_m^s  | encoders                             |
| generators["decoder_m"]              | G_m           | content and style → image            |
| discriminators["m"]                  | D_m           | acquired m or translated             |
| content[m]                           | c_m           | content of x_m                       |
| style[m]                             | s_m ~ q(s_m)  | the style drawn for translated[m]    |
| translated[m]                        | x_om          | an image of o made to be m           |
| reconstruction[m]                    |               | G_m(c_m, s_m), s_m that of x_m       |
| content_again[m], style_again[m]     |               | both, encoded from the translation   |
| image, content, style                | λ_x, λ_c, λ_s | weights                              |

The adversarial loss is Huang et al.'s: least squares, at several resolutions. There is no cycle
over images. Their optional style-augmented cycle and perceptual loss are left out, because
SynDiff's text names neither.

Departures. The learning rate stays constant (Huang et al. halve it every 100 000 steps; SynDiff's
text names no decay). The content encoder has the first layers of this package's ResNet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from syndiff import losses
from syndiff.networks.content_style import (
    ContentEncoder,
    ContentStyleSettings,
    StyleDecoder,
    StyleEncoder,
)
from syndiff.networks.patchgan import MultiScaleDiscriminator, MultiScaleSettings
from syndiff.objectives import old_names
from syndiff.objectives.base import DIRECTIONS, Batch, Draw, Fakes, Objective
from syndiff.objectives.method import Method
from syndiff.translators import StyleTranslator, Translator

# SynDiff, Sec. IV-B.4: "100 epochs, 10^{-4} learning rate"; Sec. IV-C: "Adam optimizer with
# β1=0.5, β2=0.9". The batch size is Huang et al.'s.
TRAINING = {
    "epochs": 100,
    "generator_lr": 1e-4,
    "discriminator_lr": 1e-4,
    "linear_decay_epochs": 0,
    "batch_size": 1,
    "adam_betas": (0.5, 0.9),
}


@dataclass(frozen=True)
class MUNITSettings:
    """MUNIT's hyper-parameters; the four weights are the paper's, the networks Huang et al.'s.

    Attributes:
        image: λ_x, weight of the ℓ1 between an image and its reconstruction.
        content, style: λ_c and λ_s, weights of the ℓ1 of content and style encoded again from a
            translation.
        adversarial: λ_adv.
        generator: the networks of encoders and decoders.
        discriminator: the discriminators' network.
    """

    image: float = 10.0
    content: float = 1.0
    style: float = 1.0
    adversarial: float = 1.0
    generator: ContentStyleSettings = field(default_factory=ContentStyleSettings)
    discriminator: MultiScaleSettings = field(default_factory=MultiScaleSettings)


# For two CPU cores at 64×64; the paper's weights. With three halvings the discriminators see 22
# pixels; their accuracy stayed at chance.
SMALL = MUNITSettings(
    generator=ContentStyleSettings(channels=16, blocks=2, hidden=64),
    discriminator=MultiScaleSettings(channels=24, halvings=4, scales=2),
)


class MUNIT(Objective):
    """Huang et al.'s Eq. 5.

    Args:
        settings: hyper-parameters.
        source_channels: number of source modalities; with several, only the target is made.
    """

    def __init__(self, settings: MUNITSettings, source_channels: int = 1) -> None:
        super().__init__()
        self.settings = s = settings
        self.channels = {"source": source_channels, "target": 1}
        self.makes = ("target", "source") if source_channels == 1 else ("target",)
        self.generators, self.discriminators = nn.ModuleDict(), nn.ModuleDict()
        for m, c in self.channels.items():
            self.generators[f"content_{m}"] = ContentEncoder(**self._encoder(m))
            self.generators[f"style_{m}"] = StyleEncoder(
                c, s.generator.channels, s.generator.style_dim
            )
            self.generators[f"decoder_{m}"] = StyleDecoder(**self._decoder(m))
            self.discriminators[m] = MultiScaleDiscriminator(c, **asdict(s.discriminator))

    def _encoder(self, m: str) -> dict[str, Any]:
        """Arguments of a content encoder, as a translator's configuration keeps them."""
        g = self.settings.generator
        return {"in_channels": self.channels[m], "channels": g.channels, "blocks": g.blocks}

    def _decoder(self, m: str) -> dict[str, Any]:
        """Arguments of a decoder, as a translator's configuration keeps them."""
        return {"out_channels": self.channels[m], **asdict(self.settings.generator)}

    def generate(self, batch: Batch, draw: Draw) -> Fakes:
        G, fakes = self.generators, Fakes()
        for m, o in DIRECTIONS:
            x = batch[m]
            content = G[f"content_{m}"](x)  # c_m
            style = draw.normal(len(x), self.settings.generator.style_dim)  # s_o ~ N(0, I)
            translated = G[f"decoder_{o}"](content, style)  # x_mo
            fakes["content"][m], fakes["style"][o] = content, style
            fakes["translated"][o] = translated
            fakes["reconstruction"][m] = G[f"decoder_{m}"](content, G[f"style_{m}"](x))
            if batch.paired.any():  # with a drawn style there is nothing to compare with
                fakes["styled"][o] = G[f"decoder_{o}"](content, G[f"style_{o}"](batch[o]))
            fakes["content_again"][m] = G[f"content_{o}"](translated)
            fakes["style_again"][o] = G[f"style_{o}"](translated)
        return fakes

    def discriminator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        D, s, terms = self.discriminators, self.settings, {}
        for m, _ in DIRECTIONS:
            logits = zip(D[m](batch[m]), D[m](fakes["translated"][m]), strict=True)
            terms[f"adversarial_{m}"] = s.adversarial * total(
                losses.least_squares_discriminator(real, fake) for real, fake in logits
            )  # Eq. 4
        return terms

    def at_chance(self) -> dict[str, float]:
        s = self.settings
        at_chance = s.adversarial * s.discriminator.scales * losses.LEAST_SQUARES_AT_CHANCE
        return {f"adversarial_{m}": at_chance for m, _ in DIRECTIONS}

    def generator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        D, s, terms = self.discriminators, self.settings, {}
        for m, _ in DIRECTIONS:
            logits = D[m](fakes["translated"][m])
            terms[f"adversarial_{m}"] = s.adversarial * total(
                losses.least_squares_generator(fake) for fake in logits
            )  # Eq. 4
            for name, weight, made, original in (
                ("image", s.image, fakes["reconstruction"][m], batch[m]),  # Eq. 1
                ("content", s.content, fakes["content_again"][m], fakes["content"][m]),  # Eq. 2
                ("style", s.style, fakes["style_again"][m], fakes["style"][m]),  # Eq. 3
            ):
                terms[f"{name}_{m}"] = weight * F.l1_loss(made, original)
            if batch.paired.any():  # not of Huang et al.
                terms[f"pixel_{m}"] = s.image * losses.distance(
                    fakes["styled"][m], batch[m], batch.paired
                )
        return terms  # their sum is Eq. 5

    def translator(
        self, generators: nn.ModuleDict, to: str, card: Mapping[str, Any]
    ) -> Translator:
        made_from = dict(DIRECTIONS)[to]
        return StyleTranslator(
            cast(ContentEncoder, generators[f"content_{made_from}"]),
            cast(StyleDecoder, generators[f"decoder_{to}"]),
            {
                **card,
                "method": "munit",
                "network": {"encoder": self._encoder(made_from), "decoder": self._decoder(to)},
                "settings": asdict(self.settings),
            },
        )


def total(terms: Iterable[Tensor]) -> Tensor:
    """Sum over the resolutions."""
    return torch.stack(list(terms)).sum()


METHOD = Method(
    name="munit",
    title="MUNIT",
    paper="Huang et al., ECCV 2018",
    objective=MUNIT,
    settings=MUNITSettings,
    small=SMALL,
    training=TRAINING,
    stochastic=True,
    pairs=True,
    renamed=old_names.CONTENT_STYLE | old_names.MULTI_SCALE,
)
