"""PatchGAN: the discriminator of the one-shot generators, D_φ.

Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017: each
logit judges one patch (70×70 pixels with three halvings).
"""

from __future__ import annotations

from torch import Tensor, nn

from syndiff.networks.resnet import init_normal


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
