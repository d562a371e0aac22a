"""Blocks that several networks share: FIR resampling, embeddings, normalisation, attention.

Shape legend: b batch, c channels, h w height and width, d features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

FIR_TAPS = (1.0, 3.0, 3.0, 1.0)  # StyleGAN2's binomial resampling filter
RESCALE = 1 / math.sqrt(2)  # keeps the variance of a sum of two branches


def fir_kernel(channels: int, like: Tensor) -> Tensor:
    """The normalised 4×4 FIR kernel for depth-wise convolution, (c, 1, 4, 4)."""
    taps = torch.tensor(FIR_TAPS, dtype=like.dtype, device=like.device)
    kernel = torch.outer(taps, taps) / taps.sum() ** 2
    return kernel.expand(channels, 1, 4, 4)


def fir_filter(x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
    """FIR low-pass filter as one depth-wise convolution, zero-padded; b c h w."""
    c = x.shape[1]
    return F.conv2d(x, fir_kernel(c, x), stride=stride, padding=padding, groups=c)


def fir_down(x: Tensor) -> Tensor:
    """Halve an even-sized image: FIR filter, then every second pixel; b c h w → b c h/2 w/2.

    Equals upfirdn2d with `down=2` of the official code without its CUDA extension.
    """
    return _Down.apply(x, 1.0)


def fir_up(x: Tensor) -> Tensor:
    """Double an image: zeros between the pixels, then the FIR filter; b c h w → b c 2h 2w."""
    return _Up.apply(x, 4.0)


class _Down(torch.autograd.Function):
    """FIR filter times a gain, then every second pixel; `_Up` of the same gain is its adjoint.

    The backward pass is written out here for two reasons. Autograd would keep x for the gradient
    of the constant filter. Its backward pass is also up to 50 times as slow as the forward pass on
    a CPU in bf16.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: float) -> Tensor:
        ctx.gain, c = gain, x.shape[1]
        with _without_autocast(x):
            return F.conv2d(x, fir_kernel(c, x) * gain, stride=2, padding=1, groups=c)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Up.apply(gradients[0], ctx.gain), None


class _Up(torch.autograd.Function):
    """Zeros between the pixels, then the FIR filter times a gain; the adjoint of `_Down`.

    A CPU computes it in float32, because its transposed convolution in bf16 is ten times as slow.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: float) -> Tensor:
        ctx.gain, c = gain, x.shape[1]
        with _without_autocast(x):
            slow = x.device.type == "cpu" and x.dtype == torch.bfloat16
            wide = x.float() if slow else x
            kernel = fir_kernel(c, wide) * gain
            up = F.conv_transpose2d(wide, kernel, stride=2, padding=1, groups=c)
            return up.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Down.apply(gradients[0], ctx.gain), None


def _without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """A context in which autocast does not convert x."""
    # Entered only where autocast is on, because torch.export would record even an empty context.
    kind = x.device.type
    mixed = kind != "meta" and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if mixed else nullcontext()


def to_channels_last(x: Tensor) -> Tensor:
    """x in torch's channels_last memory format, which the outputs of later layers keep.

    In this format convolutions are faster on a CPU, above all the depth-wise ones of the FIR
    filter. Gradients of normalisations are slower.
    """
    return x.contiguous(memory_format=torch.channels_last)


def sinusoidal_embedding(step: Tensor, dim: int) -> Tensor:
    """Sines, then cosines, of the step index at `dim` / 2 frequencies from 1 to 1e-4; b → b d."""
    half = dim // 2
    exponent = -math.log(10_000) / (half - 1)
    frequency = torch.exp(torch.arange(half, dtype=torch.float32, device=step.device) * exponent)
    angle = step.float()[:, None] * frequency[None, :]  # b d/2
    return F.pad(torch.cat([angle.sin(), angle.cos()], dim=1), (0, dim % 2))


def variance_scaling_(weight: Tensor, scale: float = 1.0) -> Tensor:
    """Uniform initialisation whose variance is `scale` over the mean of fan-in and fan-out.

    A scale of 0 stands for 1e-10: the layer's output starts near zero, but the layer can learn.
    """
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(weight)
    bound = math.sqrt(3 * max(scale, 1e-10) * 2 / (fan_in + fan_out))
    return nn.init.uniform_(weight, -bound, bound)


def conv(
    in_channels: int, out_channels: int, size: int = 3, scale: float = 1.0, bias: bool = True
) -> nn.Conv2d:
    """A same-size convolution with variance-scaling weights and a zero bias."""
    layer = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=bias)
    variance_scaling_(layer.weight, scale)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def linear(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer with variance-scaling weights and a zero bias."""
    layer = nn.Linear(in_features, out_features)
    variance_scaling_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def groups_of(channels: int) -> int:
    """The number of normalisation groups of NCSN++: one per four channels, at most 32."""
    return max(1, min(channels // 4, 32))


class Recomputable(nn.Module):
    """A block that supports activation checkpointing.

    Such a block can keep its inputs only and run again in the backward pass. Its forward pass must
    give the same values both times; the random state of dropout is restored. A network whose
    blocks derive from this class can be trained with `recompute`.
    """


def recompute_blocks(network: nn.Module) -> int:
    """Switch on activation checkpointing in a network's `Recomputable` blocks.

    Returns:
        The number of these blocks; 0 means that the network has none.
    """
    blocks = [module for module in network.modules() if isinstance(module, Recomputable)]
    for block in blocks:
        block.forward = partial(_recomputed, block, block.forward)
    return len(blocks)


def _recomputed(module: nn.Module, forward: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """A block's output, checkpointed unless its weights are frozen and need no gradient."""
    if not next(module.parameters()).requires_grad:
        return forward(*inputs)
    return checkpoint(forward, *inputs, use_reentrant=False)


class PixelNorm(nn.Module):
    """Scale each latent vector to unit mean square; b d → b d."""

    def forward(self, z: Tensor) -> Tensor:
        return z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)


class SelfAttention(nn.Module):
    """Single-head attention over all pixels with a rescaled residual; b c h w → b c h w."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups_of(channels), channels, eps=1e-6)
        self.query_key_value = conv(channels, 3 * channels, size=1, scale=0.1)
        self.out = conv(channels, channels, size=1, scale=0.0)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.query_key_value(self.norm(x))
        qkv = qkv.reshape(b, 3, c, h * w).transpose(2, 3).unsqueeze(2)  # b 3 1 hw c
        q, k, v = qkv.unbind(dim=1)
        attended = F.scaled_dot_product_attention(q, k, v)  # b 1 hw c
        attended = attended.squeeze(1).transpose(1, 2).reshape(b, c, h, w)
        return (x + self.out(attended)) * RESCALE
