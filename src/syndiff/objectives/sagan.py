"""SAGAN: cGAN whose generators attend to the whole image in their last residual blocks.

Zhang, Goodfellow, Metaxas, Odena, Self-Attention Generative Adversarial Networks, ICML 2019;
SynDiff's [73]. Objective, discriminators and training are cGAN's: see `cyclegan`. What differs is
the generator, a ResNet with a self-attention layer after each of its last two residual blocks:

    y_j = γ o_j + x_j,   o_j = W_v Σ_i β_ji W_h x_i,   β_ji = softmax_i (W_f x_i)ᵀ (W_g x_j)

(Zhang et al., Eqs. 1 to 3); `PixelAttention` in `networks/resnet.py` has the symbol table.

Departures. Zhang et al. make natural images of noise and a class, with the hinge loss and spectral
normalisation in generator and discriminator. SynDiff's paper uses their attention in a
cycle-consistent GAN trained with cGAN's values, and does not name the adversarial loss. Here the
loss is cGAN's least squares, the patch discriminators are cGAN's too, and there is no spectral
normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from syndiff.networks.patchgan import PatchSettings
from syndiff.networks.resnet import AttendingResNetSettings
from syndiff.objectives import cyclegan, old_names
from syndiff.objectives.cyclegan import CycleGAN, CycleSettings
from syndiff.objectives.method import Method

# SynDiff, Sec. IV-B.6: "100 epochs, 2×10^{-4} learning rate linearly decayed to 0 in the last 50
# epochs", the same as for cGAN.
TRAINING = cyclegan.TRAINING


@dataclass(frozen=True, kw_only=True)
class SAGANSettings(CycleSettings):
    """SAGAN's hyper-parameters; the weights are the paper's (Sec. IV-B.6).

    Attributes:
        generator: cGAN's, and the number of its blocks, the last ones, that attention follows.
    """

    generator: AttendingResNetSettings = field(
        default_factory=lambda: AttendingResNetSettings(blocks=9)
    )


# For two CPU cores at 64×64; λ_cyc as in cGAN's.
SMALL = SAGANSettings(
    cycle=2.0,
    generator=AttendingResNetSettings(channels=24, blocks=3, upsampling="resize"),
    discriminator=PatchSettings(channels=32, halvings=2),
)


class SAGAN(CycleGAN):
    """cGAN with the generators of `SAGANSettings`."""

    method = "sagan"


METHOD = Method(
    name="sagan",
    title="SAGAN",
    paper="Zhang et al., ICML 2019",
    objective=SAGAN,
    settings=SAGANSettings,
    small=SMALL,
    training=TRAINING,
    stochastic=False,
    pairs=True,
    renamed=old_names.RESNET | {"attention": "generator.attention"} | old_names.PATCH,
)
