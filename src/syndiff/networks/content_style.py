"""MUNIT's networks: an image as content, a feature map, and style, one short vector.

Huang, Liu, Belongie, Kautz, Multimodal Unsupervised Image-to-Image Translation, ECCV 2018 (the
layers are in its appendix; the content encoder has the layers of this package's ResNet). The style
reaches the image only as mean and standard deviation of the decoder's features (adaptive instance
normalisation; Huang and Belongie, ICCV 2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from syndiff.networks.blocks import Recomputable
from syndiff.networks.resnet import ResidualBlock, encoding, init_kaiming


@dataclass(frozen=True)
class ContentStyleSettings:
    """The sizes of encoders and decoders that a user chooses, described in their classes."""

    channels: int = 64
    blocks: int = 4
    style_dim: int = 8
    hidden: int = 256


class ContentEncoder(nn.Sequential):
    """Image → content; b in_channels h w → b 4·channels h/4 w/4.

    Args:
        in_channels: channels of the image.
        channels: width at full resolution; it doubles at each of the two halvings.
        blocks: residual blocks at quarter resolution.
    """

    size_multiple = 4

    def __init__(self, in_channels: int = 1, channels: int = 64, blocks: int = 4) -> None:
        residual = [ResidualBlock(4 * channels) for _ in range(blocks)]
        super().__init__(*encoding(in_channels, channels), *residual)
        self.apply(init_kaiming)


class StyleEncoder(nn.Module):
    """Image → style; b in_channels h w → b style_dim.

    There is no normalisation, which would remove the mean and the contrast that make up the style.

    Args:
        in_channels: channels of the image.
        channels: width at full resolution; it doubles at the first two of four halvings.
        style_dim: length of the style.
    """

    def __init__(self, in_channels: int = 1, channels: int = 64, style_dim: int = 8) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, channels, 7)]
        widths = [channels, 2 * channels, 4 * channels, 4 * channels, 4 * channels]
        for c, wider in pairwise(widths):
            layers += [nn.ReLU(inplace=True), nn.Conv2d(c, wider, 4, stride=2, padding=1)]
        self.layers = nn.Sequential(*layers, nn.ReLU(inplace=True))
        self.out = nn.Linear(4 * channels, style_dim)
        self.apply(init_kaiming)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layers(x).mean(dim=(2, 3)))


def adaptive_instance_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Give each channel of each sample the standard deviation `scale` and the mean `shift`.

    Args:
        x: (b, c, h, w).
        scale, shift: (b, c), γ and β of AdaIN(z, γ, β) = γ (z - μ(z)) / σ(z) + β.
    """
    return torch.addcmul(shift[:, :, None, None], F.instance_norm(x), scale[:, :, None, None])


class StyledBlock(Recomputable):
    """x + f(x) with two reflected 3×3 convolutions, each scaled and shifted by the style."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_0 = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """b c h w and b 4 c (scale minus 1 and shift, for each convolution) → b c h w."""
        scale_0, shift_0, scale_1, shift_1 = modulation.unbind(dim=1)
        h = F.relu(adaptive_instance_norm(self.conv_0(x), 1 + scale_0, shift_0))
        return x + adaptive_instance_norm(self.conv_1(h), 1 + scale_1, shift_1)


class StyleDecoder(nn.Module):
    """Content and style → image; b 4·channels h/4 w/4 and b style_dim → b out_channels h w.

    Args:
        out_channels: channels of the image.
        channels: width at full resolution.
        blocks: residual blocks whose normalisation the style sets.
        style_dim: length of the style.
        hidden: width of the perceptron that maps the style to the blocks' scales and shifts.
    """

    def __init__(
        self,
        out_channels: int = 1,
        channels: int = 64,
        blocks: int = 4,
        style_dim: int = 8,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        self.style_dim = style_dim
        width = 4 * channels
        self.to_modulations = nn.Sequential(
            nn.Linear(style_dim, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, blocks * 4 * width),
        )
        self.blocks = nn.ModuleList(StyledBlock(width) for _ in range(blocks))
        layers: list[nn.Module] = []
        for c in (width, width // 2):
            layers += [
                nn.Upsample(scale_factor=2),
                nn.Conv2d(c, c // 2, 5, padding=2, padding_mode="reflect"),
                nn.GroupNorm(1, c // 2),  # layer normalisation: keeps the channels' relations
                nn.ReLU(inplace=True),
            ]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(channels, out_channels, 7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(init_kaiming)

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        modulations = self.to_modulations(style).unflatten(1, (len(self.blocks), 4, -1))  # b n 4 c
        h = content
        for block, modulation in zip(self.blocks, modulations.unbind(dim=1), strict=True):
            h = block(h, modulation)
        return self.layers(h)
