"""What pairs change for a cycle-consistent method."""

from __future__ import annotations

from torch import Tensor

from syndiff import losses
from syndiff.objectives.base import Batch


def cycle_or_pixel(
    batch: Batch, m: str, o: str, weight: float, made: Tensor, round_trip: Tensor
) -> dict[str, Tensor]:
    """The cycle of the unpaired samples, the pixel-wise ℓ1 of the paired ones, equally weighted.

    Args:
        batch: acquired images.
        m, o: modality of the images that were translated, and the one they were translated to.
        weight: of either distance.
        made: (b, c, h, w) images of o.
        round_trip: (b, c', h, w) the same translated back to m.

    Returns:
        "cycle_m", "pixel_o", or both; each a mean over the whole batch, in which samples that it
        does not apply to count as 0.
    """
    terms, paired = {}, batch.paired
    if not paired.all():
        terms[f"cycle_{m}"] = weight * losses.distance(round_trip, batch[m], ~paired)
    if paired.any():
        terms[f"pixel_{o}"] = weight * losses.distance(made, batch[o], paired)
    return terms
