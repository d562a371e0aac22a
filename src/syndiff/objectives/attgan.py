"""AttGAN: cGAN whose generators are attention U-Nets.

Oktay et al., Attention U-Net: Learning Where to Look for the Pancreas, arXiv:1804.03999, 2018;
SynDiff's [72]. Objective, discriminators and training are cGAN's: see `cyclegan`. What differs is
the generator:

    G(x) = tanh of a U-Net in which each skip connection x^l is replaced by α^l x^l
    α^l  = σ(ψᵀ ReLU(W_x x^l + W_g g + b_g) + b_ψ)        (Oktay et al., Eqs. 1, 2)

with g the decoder's features one level below; `networks/attention_unet.py` has the symbol table.

Departures. Oktay et al. segment volumes and train supervised. Only their network is used here, in
two dimensions, with tanh at its end and instance instead of batch normalisation. As there, the
finest skip connection has no gate (`finest_gate`; earlier runs have one). The paper does not name
AttGAN's adversarial loss; here it is cGAN's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from syndiff.networks.attention_unet import AttentionUNetSettings
from syndiff.networks.patchgan import PatchSettings
from syndiff.objectives import cyclegan, old_names
from syndiff.objectives.cyclegan import CycleGAN, CycleSettings
from syndiff.objectives.method import Method

# SynDiff, Sec. IV-B.5: "100 epochs, 2×10^{-4} learning rate linearly decayed to 0 in the last 50
# epochs", the same as for cGAN.
TRAINING = cyclegan.TRAINING


@dataclass(frozen=True, kw_only=True)
class AttGANSettings(CycleSettings):
    """AttGAN's hyper-parameters; the weights are the paper's (Sec. IV-B.5)."""

    generator: AttentionUNetSettings = field(default_factory=AttentionUNetSettings)


# For two CPU cores at 64×64; λ_cyc as in cGAN's.
SMALL = AttGANSettings(
    cycle=2.0,
    generator=AttentionUNetSettings(channels=16, levels=4),
    discriminator=PatchSettings(channels=32, halvings=2),
)


class AttGAN(CycleGAN):
    """cGAN with the generators of `AttGANSettings`."""

    method = "attgan"


METHOD = Method(
    name="attgan",
    title="AttGAN",
    paper="Oktay et al., 2018",
    objective=AttGAN,
    settings=AttGANSettings,
    small=SMALL,
    training=TRAINING,
    stochastic=False,
    pairs=True,
    renamed=old_names.ATTENTION_UNET | old_names.PATCH,
    before={"generator.finest_gate": True},
)
