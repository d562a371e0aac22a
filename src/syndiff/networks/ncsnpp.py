"""NCSN++: the U-Net of the diffusive generator G_θ(x_t, y, t), with a random latent z.

Song et al., Score-Based Generative Modeling through SDEs, ICLR 2021 (the backbone); Xiao et al.,
Tackling the Generative Learning Trilemma with Denoising Diffusion GANs, ICLR 2022 (the latent that
modulates adaptive group normalisation); Özbey et al., SynDiff, Sec. III-B.2 (the source image as a
further input channel).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from syndiff.networks.blocks import (
    RESCALE,
    PixelNorm,
    Recomputable,
    SelfAttention,
    conv,
    fir_down,
    fir_filter,
    fir_up,
    groups_of,
    linear,
    sinusoidal_embedding,
    to_channels_last,
)


class ResidualBlock(Recomputable):
    """Two 3×3 convolutions, modulated by the latent and biased by the step, in BigGAN's order.

    The block does not hold the projections of latent and step. The network computes the
    projections of all its blocks in one matrix product each and passes each block its part
    (`modulation_sizes`, `out_channels`).
    """

    def __init__(
        self, in_channels: int, out_channels: int, resample: str = "", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.resample = resample
        self.dropout = dropout
        self.conv_0 = conv(in_channels, out_channels)
        self.conv_1 = conv(out_channels, out_channels, scale=0.0)
        changes = in_channels != out_channels or resample
        self.skip = conv(in_channels, out_channels, size=1) if changes else nn.Identity()

    @property
    def modulation_sizes(self) -> tuple[int, int]:
        """Features of the latent's modulation before each convolution: scale and shift."""
        return 2 * self.in_channels, 2 * self.out_channels

    def forward(self, x: Tensor, modulations: Sequence[Tensor], bias: Tensor) -> Tensor:
        h = norm_silu(x, modulations[0])
        if self.resample == "up":
            h, x = fir_up(h), fir_up(x)
        elif self.resample == "down":
            h, x = fir_down(h), fir_down(x)
        h = self.conv_0(h).add_(bias[:, :, None, None])  # f' = f + m (Sec. III-B.1)
        h = norm_silu(h, modulations[1])
        h = self.conv_1(F.dropout(h, self.dropout, self.training))
        return h.add_(self.skip(x)).mul_(RESCALE)


def norm_silu(x: Tensor, modulation: Tensor) -> Tensor:
    """Group normalisation with scale and shift from the latent, then SiLU.

    Args:
        x: (b, c, h, w).
        modulation: (b, 2c), the scales, then the shifts.
    """
    scale, shift = modulation.chunk(2, dim=1)
    return F.silu(group_norm(x, scale, shift), inplace=not torch.is_grad_enabled())


def group_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Group normalisation whose scale and shift, each (b, c), differ between the samples."""
    b, c = x.shape[:2]
    groups, eps = groups_of(c), 1e-6
    if b == 1:
        return F.group_norm(x, groups, scale[0], shift[0], eps)
    if x.is_contiguous():  # all samples' channels as one sample's: one pass
        rows = x.view(1, b * c, *x.shape[2:])
        return F.group_norm(rows, b * groups, scale.flatten(), shift.flatten(), eps).view_as(x)
    normal = F.group_norm(x, groups, eps=eps)  # channels_last
    return torch.addcmul(shift[:, :, None, None], normal, scale[:, :, None, None])


class PyramidDown(nn.Module):
    """FIR filter and strided 3×3 convolution of the input pyramid; b c h w → b c' h/2 w/2."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = conv(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(fir_filter(x, padding=2), self.conv.weight, self.conv.bias, stride=2)


@dataclass(frozen=True)
class NCSNppSettings:
    """The sizes of an `NCSNpp` that a user chooses, described there.

    The number of input channels follows from the modalities.
    """

    channels: int = 64
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    blocks: int = 2
    attention_levels: tuple[int, ...] = (4,)
    time_dim: int = 64
    latent_dim: int = 100
    latent_embedding: int = 256
    latent_layers: int = 4
    name: str = "ncsnpp"


class NCSNpp(nn.Module):
    """U-Net of residual blocks with FIR resampling and a residual input pyramid.

    Args:
        in_channels: noisy target and source modalities (2 for one source).
        out_channels: 1; the official code makes two and uses the first.
        channels: width at full resolution.
        multipliers: width of each level, times `channels`; a level halves the resolution.
        blocks: residual blocks per level on the way down (one more on the way up).
        attention_levels: levels (0 is full resolution) whose blocks are followed by attention.
        time_dim: size of the sinusoidal step embedding.
        latent_dim: size of the random latent z.
        latent_embedding: width of the network that maps z to the modulations.
        latent_layers: number of dense layers of that network.
        dropout: probability inside the residual blocks.
    """

    def __init__(
        self,
        in_channels: int = 2,
        out_channels: int = 1,
        channels: int = 64,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4, 4),
        blocks: int = 2,
        attention_levels: Sequence[int] = (4,),
        time_dim: int = 64,
        latent_dim: int = 100,
        latent_embedding: int = 256,
        latent_layers: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.latent_dim, self.time_dim = latent_dim, time_dim
        self.levels, self.blocks = len(multipliers), blocks
        self.attention_levels = frozenset(attention_levels)
        widths = [channels * m for m in multipliers]
        self.stem = conv(in_channels, channels)

        # The blocks in the order in which `forward` runs them.
        residual: list[ResidualBlock] = []
        attention: list[SelfAttention] = []
        pyramid: list[PyramidDown] = []
        skips, c, pyramid_c = [channels], channels, in_channels
        for level, width in enumerate(widths):
            for _ in range(blocks):
                residual.append(ResidualBlock(c, width, dropout=dropout))
                c = width
                if level in self.attention_levels:
                    attention.append(SelfAttention(c))
                skips.append(c)
            if level < self.levels - 1:
                residual.append(ResidualBlock(c, c, "down", dropout))
                pyramid.append(PyramidDown(pyramid_c, c))
                pyramid_c = c
                skips.append(c)
        residual.append(ResidualBlock(c, c, dropout=dropout))
        attention.append(SelfAttention(c))
        residual.append(ResidualBlock(c, c, dropout=dropout))
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                residual.append(ResidualBlock(c + skips.pop(), width, dropout=dropout))
                c = width
            if level in self.attention_levels:
                attention.append(SelfAttention(c))
            if level > 0:
                residual.append(ResidualBlock(c, c, "up", dropout))
        self.residual = nn.ModuleList(residual)
        self.attention = nn.ModuleList(attention)
        self.pyramid = nn.ModuleList(pyramid)
        self.out_norm = nn.GroupNorm(groups_of(c), c, eps=1e-6)
        self.out_conv = conv(c, out_channels, scale=0.0)

        hidden = 4 * channels
        self.time_layers = nn.ModuleList([linear(time_dim, hidden), linear(hidden, hidden)])
        latent: list[nn.Module] = [PixelNorm(), linear(latent_dim, latent_embedding), nn.SiLU()]
        for _ in range(latent_layers - 1):
            latent += [linear(latent_embedding, latent_embedding), nn.SiLU()]
        self.latent_layers = nn.Sequential(*latent)
        self.to_biases = conditioning(hidden, [block.out_channels for block in residual])
        self.to_modulations = conditioning(
            latent_embedding, [size for block in residual for size in block.modulation_sizes]
        )
        with torch.no_grad():  # modulation starts as identity: scale 1, shift 0
            for part in self.to_modulations.bias.split(self._modulation_sizes()):
                part[: len(part) // 2] = 1.0

    def forward(self, x_t: Tensor, source: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """Estimate x_0 from x_t (Eq. 19).

        Args:
            x_t: (b, 1, h, w) noisy target; h and w multiples of `size_multiple`.
            source: (b, ca, h, w) source image(s) in [-1, 1].
            t: (b,) step index, 0 for the last reverse step.
            z: (b, latent_dim) standard normal latent.

        Returns:
            (b, 1, h, w) in [-1, 1].
        """
        conditions = self._conditions(t, z)
        residual, attention = iter(self.residual), iter(self.attention)

        def block(h: Tensor) -> Tensor:
            return next(residual)(h, *next(conditions))

        pyramid = torch.cat([x_t, source], dim=1)  # b 1+ca h w
        h = self.stem(pyramid)
        if not torch.is_grad_enabled():
            h = to_channels_last(h)
        skips = [h]
        for level in range(self.levels):
            for _ in range(self.blocks):
                h = block(h)
                if level in self.attention_levels:
                    h = next(attention)(h)
                skips.append(h)
            if level < self.levels - 1:
                h = block(h)  # the first term, whose memory format the sum takes
                h = pyramid = h.add_(self.pyramid[level](pyramid)).mul_(RESCALE)
                skips.append(h)
        h = block(next(attention)(block(h)))
        for level in reversed(range(self.levels)):
            for _ in range(self.blocks + 1):
                h = block(torch.cat([h, skips.pop()], dim=1))
            if level in self.attention_levels:
                h = next(attention)(h)
            if level > 0:
                h = block(h)
        return torch.tanh(self.out_conv(F.silu(self.out_norm(h))))

    @property
    def size_multiple(self) -> int:
        """Heights and widths must be multiples of this."""
        return 2 ** (self.levels - 1)

    def _modulation_sizes(self) -> list[int]:
        blocks = cast(Sequence[ResidualBlock], self.residual)
        return [size for block in blocks for size in block.modulation_sizes]

    def _conditions(self, t: Tensor, z: Tensor) -> Iterator[tuple[tuple[Tensor, Tensor], Tensor]]:
        """Each block's two modulations by the latent and bias by the step, in order."""
        first, second = self.time_layers
        step = second(F.silu(first(sinusoidal_embedding(t, self.time_dim))))  # b 4·channels
        biases = self.to_biases(F.silu(step)).split([b.out_channels for b in self.residual], dim=1)
        modulations = self.to_modulations(self.latent_layers(z)).split(
            self._modulation_sizes(), dim=1
        )
        pairs = zip(modulations[::2], modulations[1::2], strict=True)
        return zip(pairs, biases, strict=True)


def conditioning(in_features: int, sizes: Sequence[int]) -> nn.Linear:
    """One linear layer for all blocks, each block's rows initialised like a separate layer."""
    layer = nn.Linear(in_features, sum(sizes))
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        for rows in layer.weight.split(list(sizes)):
            rows.copy_(linear(in_features, len(rows)).weight)
    return layer
