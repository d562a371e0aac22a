"""Loss terms that several methods share. Each returns a scalar tensor."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# A discriminator's loss where it says the same of real and of made images, at its best: a logit
# of 0, and 1/2.
SOFTPLUS_AT_CHANCE, LEAST_SQUARES_AT_CHANCE = 2 * math.log(2), 0.5


def adversarial_generator(fake_logits: Tensor) -> Tensor:
    """Non-saturating loss of a generator, -log D(fake); Eqs. 11 and 17.

    Every logit (every patch of a patch discriminator) enters the softplus, then the mean.
    """
    return F.softplus(-fake_logits).mean()


def adversarial_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Non-saturating loss of a discriminator, -log D(real) - log(1 - D(fake)); Eqs. 12 and 18."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def least_squares_generator(fake_logits: Tensor) -> Tensor:
    """Least-squares loss of a generator, (D(fake) - 1)².

    Mao et al., Least Squares Generative Adversarial Networks, ICCV 2017.
    """
    return (fake_logits - 1).square().mean()


def least_squares_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Least-squares loss of a discriminator, (D(real) - 1)² + D(fake)²; Mao et al., ICCV 2017."""
    return (real_logits - 1).square().mean() + fake_logits.square().mean()


def gradient_penalty(logits: Tensor, real: Tensor) -> Tensor:
    """R1: the squared norm of the logit's gradient at real images, mean over the batch; Eq. 12.

    Mescheder et al., Which Training Methods for GANs do actually Converge?, ICML 2018. The result
    can be differentiated again.

    Args:
        logits: the discriminator's logits of `real`, those that enter its adversarial loss too.
        real: (b, c, h, w) real images, with gradient.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def cycle(reconstruction: Tensor, original: Tensor) -> Tensor:
    """Mean absolute difference, the ℓ1 cycle-consistency of Eq. 22."""
    return F.l1_loss(reconstruction, original)


def structure(image: Tensor, translation: Tensor, radius: int = 1) -> Tensor:
    """Distance between the local structures of an image and its translation, blind to contrast.

    Mean absolute difference of the two images' modality-independent neighbourhood descriptors
    (`neighbourhood_descriptor`). The distance is 0 where both images show the same
    edges in the same places, even if bright and dark are exchanged. It grows when anatomy moves,
    appears or vanishes.

    Args:
        image, translation: (b, 1, h, w) in [-1, 1].
        radius: distance in pixels between the patches that are compared.
    """
    return F.l1_loss(
        neighbourhood_descriptor(translation, radius), neighbourhood_descriptor(image, radius)
    )


def neighbourhood_descriptor(image: Tensor, radius: int = 1) -> Tensor:
    """MIND: how much each patch differs from its four neighbours, relative to its surroundings.

    Heinrich et al., MIND: Modality independent neighbourhood descriptor for multi-modal deformable
    registration, Medical Image Analysis 2012: exp(-D / V) with D the mean squared difference of
    3×3 patches and V the mean of D over the neighbours.

    Args:
        image: (b, 1, h, w) in [-1, 1].
        radius: distance to the neighbours in pixels.

    Returns:
        (b, 4, h, w) in (0, 1].
    """
    h, w = image.shape[-2:]
    padded = F.pad(image, [radius] * 4, mode="replicate")
    neighbours = torch.cat(
        [
            padded[:, :, radius + dy : radius + dy + h, radius + dx : radius + dx + w]
            for dy, dx in ((-radius, 0), (radius, 0), (0, -radius), (0, radius))
        ],
        dim=1,
    )  # b 4 h w
    distance = F.avg_pool2d((image - neighbours).square(), 3, stride=1, padding=1)
    # The floor keeps noise in flat regions from counting as structure: 0.05 is 2.5 % of the range.
    variance = distance.mean(dim=1, keepdim=True) + 0.05**2
    return torch.exp(-distance / variance)
