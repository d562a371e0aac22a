"""The ResNet of the one-shot (non-diffusive) generators G_φ.

Johnson et al., Perceptual Losses for Real-Time Style Transfer, ECCV 2016, as used in CycleGAN and
SynDiff (Sec. IV-B.1): three encoding, six residual, three decoding layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + f(x) with two reflected 3×3 convolutions and instance normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ResNetGenerator(nn.Module):
    """One-shot translator; (b, in_channels, h, w) in [-1, 1] → (b, out_channels, h, w).

    Args:
        in_channels: channels of the image to translate.
        out_channels: channels of the result.
        channels: width at full resolution; it doubles at each of the two halvings.
        blocks: residual blocks at quarter resolution.
        upsampling: "transposed" (the paper) or "resize": bilinear doubling and a 3×3 convolution,
            which cannot leave a checkerboard (Odena et al., Distill 2016).
    """

    size_multiple = 4

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: int = 64,
        blocks: int = 6,
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, channels, 7)]
        layers += _norm_relu(channels)
        for c in (channels, 2 * channels):
            layers += [nn.Conv2d(c, 2 * c, 3, stride=2, padding=1), *_norm_relu(2 * c)]
        layers += [ResidualBlock(4 * channels) for _ in range(blocks)]
        for c in (4 * channels, 2 * channels):
            layers += [*_double(c, c // 2, upsampling), *_norm_relu(c // 2)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(channels, out_channels, 7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(init_normal)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def _norm_relu(channels: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels), nn.ReLU(inplace=True)]


def _double(in_channels: int, out_channels: int, upsampling: str) -> list[nn.Module]:
    if upsampling == "transposed":
        return [
            nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1)
        ]
    if upsampling == "resize":
        return [
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect"),
        ]
    raise ValueError(f"upsampling {upsampling!r}; expected 'transposed' or 'resize'")


@torch.no_grad()
def init_normal(module: nn.Module) -> None:
    """CycleGAN's initialisation: weights from N(0, 0.02²), biases 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
