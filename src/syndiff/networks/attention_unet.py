"""The attention U-Net: a U-Net whose skip connections the decoder weights by a gate.

Oktay et al., Attention U-Net: Learning Where to Look for the Pancreas, arXiv:1804.03999, 2018; the
U-Net itself is Ronneberger et al., MICCAI 2015. As a generator it ends in tanh. It has instance
normalisation because batches are small. The finest skip connection is not gated, as in
their Sec. 2.2: its features do not yet say much about the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from syndiff.networks.blocks import Recomputable
from syndiff.networks.resnet import init_kaiming


class ConvBlock(Recomputable, nn.Sequential):
    """Two 3×3 convolutions, each normalised and rectified; b c h w → b c' h w."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        layers: list[nn.Module] = []
        for c in (in_channels, out_channels):
            layers += [
                nn.Conv2d(c, out_channels, 3, padding=1, padding_mode="reflect"),
                nn.InstanceNorm2d(out_channels),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class AttentionGate(nn.Module):
    """Additive attention on a skip connection.

    | code    | Oktay et al. | what                                                            |
    |---------|--------------|-----------------------------------------------------------------|
    | x       | x^l          | features of the skip connection                                 |
    | g       | g            | gating signal: the decoder's features at half the resolution    |
    | from_x  | W_x          | 2×2 convolution of stride 2, to the grid of g                   |
    | from_g  | W_g, b_g     | 1×1 convolution                                                 |
    | score   | ψ, b_ψ       | 1×1 convolution to one channel                                  |
    """

    def __init__(self, channels: int, gate_channels: int) -> None:
        super().__init__()
        self.from_x = nn.Conv2d(channels, channels, 2, stride=2, bias=False)
        self.from_g = nn.Conv2d(gate_channels, channels, 1)
        self.score = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        """b c h w, b c' h/2 w/2 → b c h w."""
        return x * self.coefficients(x, g)

    def coefficients(self, x: Tensor, g: Tensor) -> Tensor:
        """α in (0, 1), one for each pixel: b 1 h w."""
        q = self.score(F.relu(self.from_x(x) + self.from_g(g)))  # Eq. 1: b 1 h/2 w/2
        return F.interpolate(torch.sigmoid(q), scale_factor=2, mode="bilinear")  # Eq. 2


@dataclass(frozen=True)
class AttentionUNetSettings:
    """The sizes of an `AttentionUNet` that a user chooses, described there."""

    channels: int = 64
    levels: int = 5
    finest_gate: bool = False
    name: str = "attention_unet"


class AttentionUNet(nn.Module):
    """One-shot translator; (b, in_channels, h, w) in [-1, 1] → (b, out_channels, h, w).

    Args:
        in_channels: channels of the image to translate.
        out_channels: channels of the result.
        channels: width at full resolution; it doubles with each halving.
        levels: number of resolutions, one more than the number of halvings.
        finest_gate: the finest skip connection is gated, too, as it was in earlier runs.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: int = 64,
        levels: int = 5,
        finest_gate: bool = True,
    ) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(levels)]
        coarser = list(pairwise(widths))  # (width of a level, width of the next coarser one)
        self.down = nn.ModuleList(
            ConvBlock(i, o) for i, o in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        self.gates = nn.ModuleList(
            AttentionGate(fine, coarse) for fine, coarse in coarser[0 if finest_gate else 1 :]
        )
        self.doublings = nn.ModuleList(
            nn.Conv2d(coarse, fine, 3, padding=1, padding_mode="reflect")
            for fine, coarse in coarser
        )
        self.up = nn.ModuleList(ConvBlock(2 * fine, fine) for fine, _ in coarser)
        self.out_conv = nn.Conv2d(channels, out_channels, 1)
        self.apply(init_kaiming)

    def forward(self, x: Tensor) -> Tensor:
        h, *skips = self._encode(x)
        gates = [*reversed(self.gates), *[None] * (len(skips) - len(self.gates))]
        for skip, gate, doubling, up in zip(
            skips, gates, reversed(self.doublings), reversed(self.up), strict=True
        ):
            gated = gate(skip, h) if gate else skip
            h = doubling(F.interpolate(h, scale_factor=2, mode="bilinear"))
            h = up(torch.cat([gated, h], dim=1))
        return torch.tanh(self.out_conv(h))

    def _encode(self, x: Tensor) -> list[Tensor]:
        """Features of every level, the coarsest level first."""
        features: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            features.insert(0, x)
        return features

    @property
    def size_multiple(self) -> int:
        """Heights and widths must be multiples of this, and at least twice as large."""
        return 2 ** len(self.doublings)
