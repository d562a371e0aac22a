"""Loss terms that several methods share. Each returns a scalar tensor."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

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


def full_precision(x: Tensor, wanted: bool) -> AbstractContextManager[Any]:
    """A context without autocast, if `wanted`: where a gradient is differentiated again."""
    wanted = wanted and x.device.type != "meta"  # the device of memory estimates
    return torch.autocast(x.device.type, enabled=False) if wanted else nullcontext()


def cycle(reconstruction: Tensor, original: Tensor) -> Tensor:
    """Mean absolute difference, the ℓ1 cycle-consistency of Eq. 22."""
    return F.l1_loss(reconstruction, original)


def distance(made: Tensor, acquired: Tensor, counted: Tensor) -> Tensor:
    """Mean absolute difference over a batch in which only the samples of a mask count.

    The other samples contribute 0 to the mean.

    Args:
        made, acquired: (b, c, h, w).
        counted: (b,) bool, the mask, on the host.
    """
    if counted.all():
        return cycle(made, acquired)
    each = (made - acquired).abs().mean(dim=(1, 2, 3))  # b
    return (each * counted.to(each.device, each.dtype, non_blocking=True)).mean()


def by_channel(x_0: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
    """Every pair of a channel of either image: b c h w, b d h w → 2 × b·c·d 1 h w."""
    left, right = torch.broadcast_tensors(x_0[:, :, None], guess[:, None])  # b c d h w
    return left.flatten(0, 2)[:, None], right.flatten(0, 2)[:, None]


def structure(
    image: Tensor, translation: Tensor, radius_mm: float = 0.0, spacing_mm: float = 1.0
) -> Tensor:
    """Distance between the local structures of an image and its translation, blind to contrast.

    Mean absolute difference of the two images' modality-independent neighbourhood descriptors
    (`neighbourhood_descriptor`). The distance is 0 where both images show the same
    edges in the same places, even if bright and dark are exchanged. It grows when anatomy moves,
    appears or vanishes.

    With a radius in mm both images are smoothed first by half of it, and what differs by no more
    than an image's own noise counts as equal. Without one the term is that of earlier versions,
    in which the source's noise counts as structure: at 1 mm and 5 % noise a copy of it costs less
    than the clean truth.

    Args:
        image, translation: (b, 1, h, w) in [-1, 1].
        radius_mm: distance between the patches that are compared, at least a pixel; 0: a pixel,
            without smoothing and without a noise floor of the image.
        spacing_mm: pixel size.
    """
    with full_precision(image, True):
        made, wanted = (
            _descriptor(x.float(), radius_mm, spacing_mm) for x in (translation, image)
        )
        return F.l1_loss(made, wanted)


def _descriptor(image: Tensor, radius_mm: float, spacing_mm: float) -> Tensor:
    """The neighbourhood descriptor of an image, smoothed and freed of its noise if asked for."""
    if not radius_mm:
        return neighbourhood_descriptor(image)
    kernel = gaussian(radius_mm / 2 / spacing_mm, image)
    # Of white noise of deviation s, smoothing leaves s Σk² in two dimensions; two such values
    # differ by twice its square on average, and a mean of 3×3 seldom by more than twice that.
    left = noise_level(image) * kernel.square().sum()
    radius = max(1, round(radius_mm / spacing_mm))
    return neighbourhood_descriptor(smoothed(image, kernel), radius, 4 * left.square())


def gaussian(sigma_px: float, like: Tensor) -> Tensor:
    """A Gaussian's values at whole pixels up to three deviations away; (k,), sum 1."""
    reach = math.ceil(3 * sigma_px)
    at = torch.arange(-reach, reach + 1, dtype=like.dtype, device=like.device)
    values = torch.exp(-at.square() / (2 * sigma_px**2))
    return values / values.sum()


def smoothed(image: Tensor, kernel: Tensor) -> Tensor:
    """An image (b, 1, h, w) convolved with a kernel (k,) along both axes; borders are repeated."""
    reach = len(kernel) // 2
    along_x = F.conv2d(
        F.pad(image, [reach, reach, 0, 0], mode="replicate"), kernel.view(1, 1, 1, -1)
    )
    return F.conv2d(
        F.pad(along_x, [0, 0, reach, reach], mode="replicate"), kernel.view(1, 1, -1, 1)
    )


@torch.no_grad()
def noise_level(image: Tensor) -> Tensor:
    """Standard deviation of each image's noise, without a gradient.

    Of the difference of two Laplacians, which edges and shading hardly reach (Immerkær, Fast Noise
    Variance Estimation, 1996), by its lower quartile over the head, where edges are few.

    Args:
        image: (b, 1, h, w) in [-1, 1]; air is -1.

    Returns:
        (b, 1, 1, 1); 0 where there is no head.
    """
    row = image.new_tensor([1.0, -2.0, 1.0])
    mask = torch.outer(row, row)[None, None] / 6  # of unit norm
    residual = F.conv2d(image, mask).abs()
    head = F.avg_pool2d(image, 3, stride=1) > -0.9
    found = residual.masked_fill(~head, math.nan).flatten(1)
    quartile = torch.nanquantile(found, 0.25, dim=1).nan_to_num()
    return (quartile / 0.3186).view(-1, 1, 1, 1)  # a quarter of |N(0, 1)| is below 0.3186


def neighbourhood_descriptor(
    image: Tensor, radius: int = 1, noise: Tensor | float = 0.0
) -> Tensor:
    """MIND: how much each patch differs from its four neighbours, relative to its surroundings.

    Heinrich et al., MIND: Modality independent neighbourhood descriptor for multi-modal deformable
    registration, Medical Image Analysis 2012: exp(-D / V) with D the mean squared difference of
    3×3 patches and V the mean of D over the neighbours.

    Args:
        image: (b, 1, h, w) in [-1, 1].
        radius: distance to the neighbours in pixels.
        noise: D that counts as none; a number, or one for each image, (b, 1, 1, 1).

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
    distance = F.relu(distance - noise)
    # The floor keeps faint texture from counting as structure: 0.05 is 2.5 % of the range.
    variance = distance.mean(dim=1, keepdim=True) + 0.05**2
    return torch.exp(-distance / variance)
