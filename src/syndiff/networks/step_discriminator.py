"""The diffusive discriminator D_θ(x_{t-k}, x_t, t), conditioned on the step.

Xiao et al., ICLR 2022, as used by SynDiff (Sec. III-B.2): blocks of two convolutions with two-fold
FIR down-sampling, the step's embedding added to the features of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from syndiff.networks.blocks import (
    RESCALE,
    conv,
    fir_down,
    linear,
    sinusoidal_embedding,
    to_channels_last,
)

SLOPE = 0.2


class _LeakyReLU(torch.autograd.Function):
    """x where it is positive, else SLOPE · x.

    Its second derivative is 0 almost everywhere, so the gradient penalty's backward pass sends no
    gradient through it to the forward pass. torch's own function sends explicit zeros, which every
    earlier layer then multiplies: 0.6 of 6 TFLOP in a step of the paper's networks at 256×256.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = F.leaky_relu(x, SLOPE)
        ctx.save_for_backward(y)  # y has the sign of x, and the next layer keeps y anyway
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (y,), (gradient,) = ctx.saved_tensors, gradients
        return torch.ops.aten.leaky_relu_backward(gradient, y.detach(), SLOPE, True)


def leaky_relu(x: Tensor) -> Tensor:
    """`_LeakyReLU` of x."""
    return _LeakyReLU.apply(x)


class DownBlock(nn.Module):
    """Two convolutions and a linear skip, half the resolution; b c h w → b c' h/2 w/2."""

    def __init__(self, in_channels: int, out_channels: int, time_dim: int) -> None:
        super().__init__()
        self.conv_0 = conv(in_channels, out_channels)
        self.conv_1 = conv(out_channels, out_channels, scale=0.0)
        self.time = linear(time_dim, out_channels)
        self.skip = conv(in_channels, out_channels, size=1, bias=False)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        h = self.conv_0(leaky_relu(x)).add_(self.time(step)[:, :, None, None])
        h = self.conv_1(fir_down(leaky_relu(h)))
        return h.add_(self.skip(fir_down(x))).mul_(RESCALE)


@dataclass(frozen=True)
class StepDiscriminatorSettings:
    """The sizes of a `StepDiscriminator` that a user chooses, described there."""

    stem: int = 128
    widths: tuple[int, ...] = (256, 512, 512, 512, 512, 512)
    time_dim: int = 256
    deviation_group: int = 4


class StepDiscriminator(nn.Module):
    """Distinguishes an x_{t-k} of the data from one of the generator, given x_t and t.

    Args:
        in_channels: channels of x_{t-k} and x_t together.
        stem: width of the first, 1×1 convolution.
        widths: width of each down-sampling block.
        time_dim: size of the step embedding and of its two dense layers.
        deviation_group: samples that share one minibatch-deviation channel. 1 switches it off: the
            channel is then constant, and each logit depends on its own sample only.
    """

    def __init__(
        self,
        in_channels: int = 2,
        stem: int = 128,
        widths: Sequence[int] = (256, 512, 512, 512, 512, 512),
        time_dim: int = 256,
        deviation_group: int = 4,
    ) -> None:
        super().__init__()
        self.time_dim, self.deviation_group = time_dim, deviation_group
        self.time_layers = nn.ModuleList([linear(time_dim, time_dim), linear(time_dim, time_dim)])
        self.stem = conv(in_channels, stem, size=1)
        inputs = [stem, *widths[:-1]]
        self.blocks = nn.ModuleList(
            DownBlock(i, o, time_dim) for i, o in zip(inputs, widths, strict=True)
        )
        self.out_conv = conv(widths[-1] + 1, widths[-1])
        self.out_linear = linear(widths[-1], 1)

    def forward(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Logit that x_prev is real.

        Args:
            x_prev: (b, 1, h, w) x_{t-k}, true or synthetic.
            x_t: (b, 1, h, w).
            t: (b,) step index.

        Returns:
            (b, 1) logits.
        """
        first, second = self.time_layers
        step = second(leaky_relu(first(sinusoidal_embedding(t, self.time_dim))))
        step = leaky_relu(step)  # b d
        h = to_channels_last(self.stem(torch.cat([x_prev, x_t], dim=1)))
        for block in self.blocks:
            h = block(h, step)
        h = torch.cat([h, minibatch_deviation(h, self.deviation_group)], dim=1)
        h = leaky_relu(self.out_conv(h))
        return self.out_linear(h.sum(dim=(2, 3)))


def minibatch_deviation(x: Tensor, group: int) -> Tensor:
    """How much the samples of a group differ, as a constant channel; b c h w → b 1 h w.

    Karras et al., ICLR 2018. The group is the largest divisor of the batch up to `group`, so that
    every batch size works; where 4 divides the batch this is the official rule.
    """
    b, c, h, w = x.shape
    group = next(g for g in range(min(group, b), 0, -1) if b % g == 0)
    deviation = x.reshape(group, b // group, c, h, w).var(dim=0, unbiased=False)
    mean = (deviation + 1e-8).sqrt().mean(dim=(1, 2, 3))  # b/group
    return mean.repeat(group)[:, None, None, None].expand(b, 1, h, w)
