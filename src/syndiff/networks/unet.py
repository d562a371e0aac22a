"""The U-Net of improved DDPM: ε_θ(x_t, y, t), and v, from which the reverse variance follows.

Nichol and Dhariwal, Improved Denoising Diffusion Probabilistic Models, ICML 2021, Appendix A, on
Ho et al., Denoising Diffusion Probabilistic Models, NeurIPS 2020: residual blocks whose second
normalisation is scaled and shifted by the step, multi-head self-attention at the low resolutions,
strided convolutions down, nearest-neighbour doubling up. The source image is a further input
channel.

Shape legend: b batch, c channels, h w height and width, d features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from syndiff.networks.blocks import Recomputable, conv, linear, sinusoidal_embedding


def group_norm(channels: int) -> nn.GroupNorm:
    """Up to 32 groups of at least four channels; `channels` is a multiple of four."""
    return nn.GroupNorm(math.gcd(channels // 4, 32), channels)


class ResidualBlock(Recomputable):
    """x + f(x) with two 3×3 convolutions; the step scales and shifts between them."""

    def __init__(
        self, in_channels: int, out_channels: int, features: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm_0 = group_norm(in_channels)
        self.conv_0 = conv(in_channels, out_channels)
        self.to_scale_shift = linear(features, 2 * out_channels)
        self.norm_1 = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv_1 = conv(out_channels, out_channels, scale=0.0)
        self.skip: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.skip = conv(in_channels, out_channels, size=1)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        h = self.conv_0(F.silu(self.norm_0(x)))
        scale, shift = self.to_scale_shift(F.silu(step))[:, :, None, None].chunk(2, dim=1)
        h = self.norm_1(h) * (1 + scale) + shift
        return self.skip(x) + self.conv_1(self.dropout(F.silu(h)))


class Attention(nn.Module):
    """x + multi-head self-attention over all pixels; b c h w → b c h w."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.query_key_value = conv(channels, 3 * channels, size=1)
        self.out = conv(channels, channels, size=1, scale=0.0)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.query_key_value(self.norm(x))
        qkv = qkv.reshape(b, 3, self.heads, c // self.heads, h * w).transpose(3, 4)
        q, k, v = qkv.unbind(dim=1)  # b heads hw c/heads
        attended = F.scaled_dot_product_attention(q, k, v).transpose(2, 3)
        return x + self.out(attended.reshape(b, c, h, w))


class Down(nn.Module):
    """Strided 3×3 convolution; b c h w → b c h/2 w/2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Up(nn.Module):
    """Nearest-neighbour doubling, then a 3×3 convolution; b c h w → b c 2h 2w."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


@dataclass(frozen=True)
class UNetSettings:
    """The sizes of a `UNet` that a user chooses, described there."""

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    blocks: int = 2
    attention_levels: tuple[int, ...] = (4, 5)
    heads: int = 4
    dropout: float = 0.0


class UNet(nn.Module):
    """U-Net of residual blocks, conditioned on the step and the source image.

    Args:
        in_channels: noisy target and source modalities (2 for one source).
        out_channels: 1 for the noise alone, 2 for the noise and v.
        channels: width at full resolution.
        multipliers: width of each level, times `channels`; a level halves the resolution.
        blocks: residual blocks per level on the way down (one more on the way up).
        attention_levels: levels (0 is full resolution) whose blocks are followed by attention.
        heads: of the attention; the widths are multiples of this.
        dropout: probability inside the residual blocks.
    """

    def __init__(
        self,
        in_channels: int = 2,
        out_channels: int = 2,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4, 4),
        blocks: int = 2,
        attention_levels: Sequence[int] = (4, 5),
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.levels, self.channels = len(multipliers), channels
        features = 4 * channels
        widths = [channels * m for m in multipliers]
        self.time_layers = nn.ModuleList([linear(channels, features), linear(features, features)])
        self.stem = conv(in_channels, channels)

        def stage(c: int, width: int, level: int) -> nn.ModuleList:
            layers: list[nn.Module] = [ResidualBlock(c, width, features, dropout)]
            if level in attention_levels:
                layers.append(Attention(width, heads))
            return nn.ModuleList(layers)

        # In the order in which `forward` runs them.
        down: list[nn.ModuleList] = []
        up: list[nn.ModuleList] = []
        skips, c = [channels], channels
        for level, width in enumerate(widths):
            for _ in range(blocks):
                down.append(stage(c, width, level))
                c = width
                skips.append(c)
            if level < self.levels - 1:
                down.append(nn.ModuleList([Down(c)]))
                skips.append(c)
        self.middle = nn.ModuleList(
            [
                ResidualBlock(c, c, features, dropout),
                Attention(c, heads),
                ResidualBlock(c, c, features, dropout),
            ]
        )
        for level, width in reversed(list(enumerate(widths))):
            for block in range(blocks + 1):
                layers = stage(c + skips.pop(), width, level)
                c = width
                if level > 0 and block == blocks:
                    layers.append(Up(c))
                up.append(layers)
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)
        self.out_norm = group_norm(c)
        self.out_conv = conv(c, out_channels, scale=0.0)

    def forward(self, x_t: Tensor, source: Tensor, time: Tensor) -> Tensor:
        """Estimate the noise in x_t.

        Args:
            x_t: (b, 1, h, w) noisy target; h and w multiples of `size_multiple`.
            source: (b, ca, h, w) source image(s).
            time: (b,) step index, counted as in training.

        Returns:
            (b, out_channels, h, w), unbounded.
        """
        first, second = self.time_layers
        step = second(F.silu(first(sinusoidal_embedding(time, self.channels))))  # b d
        h = self.stem(torch.cat([x_t, source], dim=1))
        skips = [h]
        for layers in self.down:
            h = run(layers, h, step)
            skips.append(h)
        h = run(self.middle, h, step)
        for layers in self.up:
            h = run(layers, torch.cat([h, skips.pop()], dim=1), step)
        return self.out_conv(F.silu(self.out_norm(h)))

    @property
    def size_multiple(self) -> int:
        """Heights and widths must be multiples of this."""
        return 2 ** (self.levels - 1)


def run(layers: nn.Module, h: Tensor, step: Tensor) -> Tensor:
    """Apply the layers in order; only residual blocks take the step."""
    for layer in layers.children():
        h = layer(h, step) if isinstance(layer, ResidualBlock) else layer(h)
    return h
