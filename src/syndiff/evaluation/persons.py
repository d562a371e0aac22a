"""What is measured of a whole person beside the scores of slices: outline, and HU by tissue.

CT's scores depend on the window of HU that becomes [0, 1]: fat and muscle lie 0.03 of the range
[-1024, 3000] apart, so a CT whose soft tissue is one constant scores more than 40 dB. The mean
absolute error in HU by tissue class, inside the head, cannot hide that.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from syndiff.anatomy.agreement import dice, foreground
from syndiff.evaluation.scoring import Beside, Slices
from syndiff.preparation.intensity import IntensityScale

OUTLINE = "outline_dice"
# By the reference's HU; inside the head, so that air is that of sinuses, airways and lungs.
TISSUES_HU = {
    "air": (-math.inf, -200.0),
    "fat": (-200.0, -20.0),
    "soft": (-20.0, 150.0),
    "bone": (150.0, math.inf),
}


def limits_in_words(low: float, high: float) -> str:
    """Two limits in HU, of which one may be infinite."""
    if math.isinf(low):
        return f"below {high:g} HU"
    return f"above {low:g} HU" if math.isinf(high) else f"{low:g} to {high:g} HU"


def beside(scale: IntensityScale) -> Beside:
    """The function that measures a person's synthetic slices beside the reference's.

    Args:
        scale: the target's intensity rule; both are (n, h, w) in its [0, 1].

    Returns:
        A function of synthetic slices, reference slices and head that gives `outline_dice`, the
        overlap of the heads found in either (None where there is none), and for CT
        `mae_hu_head` and `mae_hu_air`, `_fat`, `_soft`, `_bone` (None where there is none).
    """

    def measure(
        synthetic: Slices, reference: Slices, head: NDArray[np.bool_]
    ) -> dict[str, float | None]:
        outlines = (foreground(slices, scale) for slices in (synthetic, reference))
        found: dict[str, float | None] = {OUTLINE: dice(*outlines)}
        if scale.unit == "HU":
            found |= errors_hu(scale.restore(synthetic), scale.restore(reference), head)
        return found

    return measure


def errors_hu(
    synthetic: NDArray[np.float32], reference: NDArray[np.float32], head: NDArray[np.bool_]
) -> dict[str, float | None]:
    """Mean absolute errors in HU inside the head, in all and by the reference's tissue class.

    Args:
        synthetic, reference: (n, h, w) in HU.
        head: (n, h, w) where to look.
    """
    error, truth = np.abs(synthetic - reference)[head], reference[head]
    found = {"mae_hu_head": float(error.mean()) if error.size else None}
    for name, (low, high) in TISSUES_HU.items():
        inside = (truth >= low) & (truth < high)
        found[f"mae_hu_{name}"] = float(error[inside].mean()) if inside.any() else None
    return found
