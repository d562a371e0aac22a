"""Two measures of preserved anatomy: the overlap of outlines, and the error of the way back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from syndiff.preparation.intensity import IntensityScale, foreground_mask

Slices = NDArray[np.float32]
Mask = NDArray[np.bool_]


def foreground(slices: Slices, scale: IntensityScale) -> Mask:
    """Masks of the head (or body), segmented in each slice separately.

    Args:
        slices: (n, h, w) in [0, 1].
        scale: the intensity rule of the slices' modality.

    Returns:
        (n, h, w)
    """
    # The threshold of MR depends on the image's brightness; the threshold of CT is in HU.
    values = scale.restore(slices) if scale.unit == "HU" else slices
    above = scale.tissue_above
    masks = [foreground_mask(image[None], scale.unit, above)[0] for image in values]
    return np.stack(masks) if masks else np.zeros(slices.shape, bool)


def dice(a: Mask, b: Mask) -> float | None:
    """Dice coefficient of two masks, 2 |a ∩ b| / (|a| + |b|); None if both are empty."""
    held = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / held if held else None


def way_back_error(source: Slices, returned: Slices, inside: Mask) -> float | None:
    """Mean absolute error of the way back inside a mask, divided by the source's mean there.

    Args:
        source: (n, h, w) in [0, 1].
        returned: the same slices translated to the target and back again.
        inside: (n, h, w) the mask: the foreground of the source.

    Returns:
        0 for a perfect way back; None if the mask is empty or the source is 0 inside it.
    """
    mean = float(source[inside].mean()) if inside.any() else 0.0
    if mean <= 0:
        return None
    return float(np.abs(returned - source)[inside].mean()) / mean
