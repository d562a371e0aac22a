"""A U-Net with batch normalisation whose receptive field covers a head, for one-shot translators.

Ronneberger et al., MICCAI 2015, with batch normalisation (Ioffe and Szegedy, ICML 2015): its
statistics are fixed after training and folded into the convolutions, so that neither the air
around a head nor the size of the image changes anything. With five halvings the receptive
field of every pixel is wider than a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvBlock(nn.Sequential):
    """Two 3×3 convolutions, each normalised (unless folded) and rectified; b c h w → b c' h w."""

    def __init__(self, in_channels: int, out_channels: int, folded: bool) -> None:
        layers: list[nn.Module] = []
        for c in (in_channels, out_channels):
            layers += [
                nn.Conv2d(c, out_channels, 3, padding=1, bias=folded),
                nn.Identity() if folded else nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class ContextUNet(nn.Module):
    """One-shot translator; (b, in_channels, h, w) in [-1, 1] → (b, out_channels, h, w).

    The result is not bounded; the caller clips it.

    Args:
        in_channels: channels of the image to translate.
        out_channels: channels of the result.
        widths: channels at each resolution, the finest first.
        folded: build no normalisation layers, as in a network that `folded` returns.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: Sequence[int] = (16, 32, 96, 128, 160, 160),
        folded: bool = False,
    ) -> None:
        super().__init__()
        self.channels = in_channels, out_channels
        self.widths = list(widths)
        coarser = list(pairwise(widths))  # (width of a level, width of the next coarser one)
        self.down = nn.ModuleList(
            ConvBlock(i, o, folded)
            for i, o in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        self.up = nn.ModuleList(ConvBlock(coarse + fine, fine, folded) for fine, coarse in coarser)
        self.out_conv = nn.Conv2d(widths[0], out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 1  # air becomes 0, the value that the convolutions pad with
        features: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            features.append(x)
        x = features.pop()
        for block in reversed(self.up):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(torch.cat([x, features.pop()], dim=1))
        return self.out_conv(x) - 1

    @property
    def size_multiple(self) -> int:
        """Heights and widths must be multiples of this."""
        return 2 ** len(self.up)


@torch.no_grad()
def folded(network: ContextUNet) -> ContextUNet:
    """An equal network for inference, whose normalisation is folded into the convolutions.

    γ (W x − μ) / σ + β = (γ W / σ) x + (β − γ μ / σ)
    """
    plain = ContextUNet(*network.channels, network.widths, folded=True)
    for old, new in zip([*network.down, *network.up], [*plain.down, *plain.up], strict=True):
        old, new = cast(ConvBlock, old), cast(ConvBlock, new)
        for place in (0, 3):
            norm = cast(nn.BatchNorm2d, old[place + 1])
            mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
            gain = norm.weight / torch.sqrt(variance + norm.eps)
            conv = cast(nn.Conv2d, new[place])
            conv.weight.copy_(cast(nn.Conv2d, old[place]).weight * gain[:, None, None, None])
            cast(Tensor, conv.bias).copy_(norm.bias - mean * gain)
    plain.out_conv.load_state_dict(network.out_conv.state_dict())
    return plain.eval()
