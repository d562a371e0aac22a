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

from dataclasses import dataclass
from typing import Any

from syndiff.objectives import cyclegan
from syndiff.objectives.cyclegan import CycleGAN, CycleSettings
from syndiff.objectives.method import Method

# SynDiff, Sec. IV-B.5: "100 epochs, 2×10^{-4} learning rate linearly decayed to 0 in the last 50
# epochs", the same as for cGAN.
TRAINING = cyclegan.TRAINING


@dataclass(frozen=True)
class AttGANSettings(CycleSettings):
    """AttGAN's hyper-parameters; the weights are the paper's (Sec. IV-B.5).

    Attributes:
        channels, levels, finest_gate: of the generators, see `AttentionUNet`.
    """

    channels: int = 64
    levels: int = 5
    finest_gate: bool = False

    @property
    def network(self) -> dict[str, Any]:
        return {
            "name": "attention_unet",
            "channels": self.channels,
            "levels": self.levels,
            "finest_gate": self.finest_gate,
        }


# For two CPU cores at 64×64; λ_cyc as in cGAN's.
SMALL = AttGANSettings(cycle=2.0, channels=16, levels=4, patch_channels=32, patch_halvings=2)


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
    before={"finest_gate": True},
)
