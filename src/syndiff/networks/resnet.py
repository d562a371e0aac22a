"""The ResNet of the one-shot (non-diffusive) generators G_φ, optionally with self-attention.

Johnson et al., Perceptual Losses for Real-Time Style Transfer, ECCV 2016, as used in CycleGAN and
SynDiff (Sec. IV-B.1): three encoding, six residual, three decoding layers. The attention is that
of Zhang et al., Self-Attention Generative Adversarial Networks, ICML 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from syndiff.networks.blocks import Recomputable


class ResidualBlock(Recomputable):
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


class PixelAttention(nn.Module):
    """Attention of every pixel to all others, faded in by a learned scalar; b c h w → b c h w.

    | code                   | Zhang et al.     | what                                          |
    |------------------------|------------------|-----------------------------------------------|
    | query, key, value      | W_g, W_f, W_h    | 1×1 convolutions to c / 8 channels            |
    | out                    | W_v              | 1×1 convolution back to c channels            |
    | gamma                  | γ                | 0 at first: the layer starts as the identity  |
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 8)
        self.query, self.key, self.value = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.out = nn.Conv2d(inner, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).flatten(2).transpose(1, 2).unsqueeze(1)  # b 1 hw c/8
            for layer in (self.query, self.key, self.value)
        )
        o = F.scaled_dot_product_attention(q, k, v, scale=1.0)  # Eqs. 1, 2
        o = self.out(o.squeeze(1).transpose(1, 2).unflatten(2, x.shape[-2:]))  # b c h w
        return self.gamma * o + x  # Eq. 3


@dataclass(frozen=True)
class ResNetSettings:
    """The sizes of a `ResNetGenerator` that a user chooses, described there."""

    channels: int = 64
    blocks: int = 6
    upsampling: str = "transposed"
    name: str = "resnet"


@dataclass(frozen=True)
class AttendingResNetSettings(ResNetSettings):
    """The sizes of a `ResNetGenerator` with self-attention."""

    attention: int = 2


class ResNetGenerator(nn.Module):
    """One-shot translator; (b, in_channels, h, w) in [-1, 1] → (b, out_channels, h, w).

    Args:
        in_channels: channels of the image to translate.
        out_channels: channels of the result.
        channels: width at full resolution; it doubles at each of the two halvings.
        blocks: residual blocks at quarter resolution.
        upsampling: "transposed" (the paper) or "resize": bilinear doubling and a 3×3 convolution,
            which avoids checkerboard artefacts (Odena et al., Distill 2016).
        attention: number of residual blocks, the last ones, that self-attention follows.

    Raises:
        ValueError: another `upsampling`.
    """

    size_multiple = 4

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: int = 64,
        blocks: int = 6,
        upsampling: str = "transposed",
        attention: int = 0,
    ) -> None:
        super().__init__()
        layers = encoding(in_channels, channels)
        for block in range(blocks):
            layers.append(ResidualBlock(4 * channels))
            if block >= blocks - attention:
                layers.append(PixelAttention(4 * channels))
        layers += decoding(out_channels, channels, upsampling)
        self.layers = nn.Sequential(*layers)
        self.apply(init_normal)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def encoding(in_channels: int, channels: int) -> list[nn.Module]:
    """A 7×7 convolution and two halvings; b in_channels h w → b 4·channels h/4 w/4."""
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, channels, 7)]
    layers += _norm_relu(channels)
    for c in (channels, 2 * channels):
        layers += [nn.Conv2d(c, 2 * c, 3, stride=2, padding=1), *_norm_relu(2 * c)]
    return layers


def decoding(out_channels: int, channels: int, upsampling: str) -> list[nn.Module]:
    """Two doublings, a 7×7 convolution, tanh; b 4·channels h/4 w/4 → b out_channels h w."""
    layers: list[nn.Module] = []
    for c in (4 * channels, 2 * channels):
        layers += [*_double(c, c // 2, upsampling), *_norm_relu(c // 2)]
    return [*layers, nn.ReflectionPad2d(3), nn.Conv2d(channels, out_channels, 7), nn.Tanh()]


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


@torch.no_grad()
def init_kaiming(module: nn.Module) -> None:
    """He et al.'s initialisation (ICCV 2015): weights of variance 2 / fan-in, biases 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
