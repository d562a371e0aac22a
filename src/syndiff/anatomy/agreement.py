"""What else tells whether anatomy stayed: the head's outline, and the way back to the source."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from syndiff.preparation.intensity import IntensityScale, foreground_mask

Slices = NDArray[np.float32]
Mask = NDArray[np.bool_]


def foreground(slices: Slices, scale: IntensityScale) -> Mask:
    """The head (or body) in every slice by itself; (n, h, w).

    Args:
        slices: (n, h, w) in [0, 1].
        scale: their modality's; CT is judged in HU.
    """
    # An MR threshold follows the image's own brightness, a CT's is a number of HU.
    values = scale.restore(slices) if scale.unit == "HU" else slices
    above = scale.tissue_above
    masks = [foreground_mask(image[None], scale.unit, above)[0] for image in values]
    return np.stack(masks) if masks else np.zeros(slices.shape, bool)


def dice(a: Mask, b: Mask) -> float | None:
    """Overlap of two masks: twice what they share, divided by what they hold; None if empty."""
    held = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / held if held else None


def way_back_error(source: Slices, returned: Slices, inside: Mask) -> float | None:
    """Mean absolute difference inside a mask, as a fraction of the source's mean there.

    Args:
        source: (n, h, w) in [0, 1].
        returned: the same slices translated to the target and back again.
        inside: (n, h, w), where to look: the source's foreground.

    Returns:
        0 for a perfect way back; None where the mask holds nothing.
    """
    mean = float(source[inside].mean()) if inside.any() else 0.0
    if mean <= 0:
        return None
    return float(np.abs(returned - source)[inside].mean()) / mean
