"""A U-Net with batch normalisation and a view of the whole head, for translators of one pass.

Ronneberger et al., MICCAI 2015, with batch normalisation (Ioffe and Szegedy, ICML 2015): a
translator's statistics are fixed after training, so that air around a head, or the size of the
image, changes nothing. Five halvings let every pixel see more than a head's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvBlock(nn.Sequential):
    """Two 3×3 convolutions, each normalised and rectified; b c h w → b c' h w."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        layers: list[nn.Module] = []
        for c in (in_channels, out_channels):
            layers += [
                nn.Conv2d(c, out_channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class ContextUNet(nn.Module):
    """One-shot translator; (b, in_channels, h, w) in [-1, 1] → (b, out_channels, h, w).

    The result is not bounded: who uses it clips.

    Args:
        in_channels: channels of the image to translate.
        out_channels: channels of the result.
        widths: channels at each resolution, the finest first.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: Sequence[int] = (16, 32, 96, 128, 160, 160),
    ) -> None:
        super().__init__()
        coarser = list(pairwise(widths))  # width here, one level below
        self.down = nn.ModuleList(
            ConvBlock(i, o) for i, o in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        self.up = nn.ModuleList(ConvBlock(coarse + fine, fine) for fine, coarse in coarser)
        self.out_conv = nn.Conv2d(widths[0], out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 1  # air becomes 0, as which the convolutions pad
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
