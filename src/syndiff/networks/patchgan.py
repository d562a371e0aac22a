"""Patch discriminators of images.

PatchGAN is D_φ, the discriminator of the one-shot generators. Isola et al., Image-to-Image
Translation with Conditional Adversarial Networks, CVPR 2017: each logit judges one patch (70×70
pixels with three halvings). UNIT and MUNIT have a simpler cascade of halvings, which MUNIT applies
at several resolutions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from syndiff.networks.resnet import init_kaiming, init_normal


@dataclass(frozen=True)
class PatchSettings:
    """The sizes of a `PatchDiscriminator` that a user chooses, described there."""

    channels: int = 64
    halvings: int = 3


class PatchDiscriminator(nn.Module):
    """Patch-wise logits; (b, in_channels, h, w) → (b, 1, about h/2^halvings, …).

    Args:
        in_channels: channels of the image to judge.
        channels: width of the first layer; it doubles up to eight-fold.
        halvings: strided layers; 3 gives the 70×70 discriminator.
    """

    def __init__(self, in_channels: int = 1, channels: int = 64, halvings: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        width = channels
        for n in range(1, halvings + 1):
            wider = channels * min(2**n, 8)
            layers += [
                nn.Conv2d(width, wider, 4, stride=2 if n < halvings else 1, padding=1),
                nn.InstanceNorm2d(wider),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            width = wider
        layers.append(nn.Conv2d(width, 1, 4, padding=1))
        self.layers = nn.Sequential(*layers)
        self.apply(init_normal)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@dataclass(frozen=True)
class CascadeSettings:
    """The sizes of a `CascadeDiscriminator` that a user chooses, described there."""

    channels: int = 64
    halvings: int = 4


class CascadeDiscriminator(nn.Sequential):
    """A cascade of halvings without normalisation; b in_channels h w → b 1 h/2^n w/2^n logits.

    Liu et al., NIPS 2017 (UNIT); Huang et al., ECCV 2018 (MUNIT).

    Args:
        in_channels: channels of the image to judge.
        channels: width of the first layer; it doubles with each halving, up to eight-fold.
        halvings: n, the strided layers.
    """

    def __init__(self, in_channels: int = 1, channels: int = 64, halvings: int = 4) -> None:
        widths = [in_channels, *(channels * min(2**n, 8) for n in range(halvings))]
        layers: list[nn.Module] = []
        for c, wider in pairwise(widths):
            layers += [
                nn.Conv2d(c, wider, 4, stride=2, padding=1),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 1))
        self.apply(init_kaiming)  # without normalisation, N(0, 0.02²) would shrink the signal


@dataclass(frozen=True)
class MultiScaleSettings(CascadeSettings):
    """The sizes of a `MultiScaleDiscriminator` that a user chooses, described there."""

    scales: int = 3


class MultiScaleDiscriminator(nn.Module):
    """One cascade for each of several resolutions, the image halved from one to the next.

    Wang et al., High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs,
    CVPR 2018: coarse resolutions show the whole image, fine ones its detail.

    Args:
        in_channels, channels, halvings: of each cascade, see `CascadeDiscriminator`.
        scales: number of resolutions.
    """

    def __init__(
        self, in_channels: int = 1, channels: int = 64, halvings: int = 4, scales: int = 3
    ) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            CascadeDiscriminator(in_channels, channels, halvings) for _ in range(scales)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits at each resolution, the finest first."""
        logits = []
        for scale, cascade in enumerate(self.scales):
            x = F.avg_pool2d(x, 2) if scale else x
            logits.append(cascade(x))
        return logits
