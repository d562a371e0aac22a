"""Measures of a whole subject beside the scores of slices: outline, and errors in HU by tissue.

The scores of CT depend on the window of HU that becomes [0, 1]. Fat and muscle differ by only 0.03
of the range [-1024, 3000], so a CT with constant soft tissue has a PSNR of more than 40 dB. The
mean absolute error in HU by tissue class, inside the head, shows such errors.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from syndiff.anatomy.agreement import dice, foreground
from syndiff.evaluation.planes import JUMPS, slice_jumps
from syndiff.evaluation.scoring import Beside, Slices
from syndiff.preparation.intensity import IntensityScale

OUTLINE = "outline_dice"
# Classes of the reference's HU inside the head; air is thus the air of sinuses, airways and lungs.
TISSUES_HU = {
    "air": (-math.inf, -200.0),
    "fat": (-200.0, -20.0),
    "soft": (-20.0, 150.0),
    "bone": (150.0, math.inf),
}


def limits_in_words(low: float, high: float) -> str:
    """Describe a range in HU, one end of which may be infinite."""
    if math.isinf(low):
        return f"below {high:g} HU"
    return f"above {low:g} HU" if math.isinf(high) else f"{low:g} to {high:g} HU"


def beside(scale: IntensityScale) -> Beside:
    """The function that compares all slices of a subject with the reference.

    Args:
        scale: the target's intensity rule.

    Returns:
        A function of synthetic slices and reference slices, each (n, h, w) in [0, 1], and the
        head (n, h, w). It returns `outline_dice`, the Dice coefficient of the heads segmented in
        the two, `slice_jumps` (planes.py), and for CT `mae_hu_head` and `mae_hu_air`, `_fat`,
        `_soft`, `_bone`, the signed mean errors `me_hu_…` of the same classes, and `dice_air` and
        `dice_bone`. A value is None if no pixel belongs to its class.
    """

    def measure(
        synthetic: Slices, reference: Slices, head: NDArray[np.bool_]
    ) -> dict[str, float | None]:
        outlines = (foreground(slices, scale) for slices in (synthetic, reference))
        found: dict[str, float | None] = {OUTLINE: dice(*outlines)}
        found[JUMPS] = slice_jumps(synthetic, reference, head)
        if scale.unit == "HU":
            made, truth = scale.restore(synthetic), scale.restore(reference)
            found |= errors_hu(made, truth, head)
            found |= biases_hu(made, truth, head) | overlaps_hu(made, truth, head)
        return found

    return measure


def errors_hu(
    synthetic: NDArray[np.float32], reference: NDArray[np.float32], head: NDArray[np.bool_]
) -> dict[str, float | None]:
    """Mean absolute errors in HU inside the head, over all pixels and by tissue class.

    Args:
        synthetic, reference: (n, h, w) in HU.
        head: (n, h, w) mask of the head.
    """
    return _by_tissue("mae_hu", np.abs(synthetic - reference)[head], reference[head])


def biases_hu(
    synthetic: NDArray[np.float32], reference: NDArray[np.float32], head: NDArray[np.bool_]
) -> dict[str, float | None]:
    """Signed mean errors in HU, synthetic - reference; classes and arguments as `errors_hu`."""
    return _by_tissue("me_hu", (synthetic - reference)[head], reference[head])


def overlaps_hu(
    synthetic: NDArray[np.float32], reference: NDArray[np.float32], head: NDArray[np.bool_]
) -> dict[str, float | None]:
    """Dice coefficients of air and bone inside the head, each by its HU in either image.

    Args:
        synthetic, reference, head: see `errors_hu`.
    """
    found = {}
    for name in ("air", "bone"):
        low, high = TISSUES_HU[name]
        a, b = ((v >= low) & (v < high) & head for v in (synthetic, reference))
        found[f"dice_{name}"] = dice(a, b)
    return found


def _by_tissue(
    key: str, values: NDArray[np.float32], truth: NDArray[np.float32]
) -> dict[str, float | None]:
    """Means of values over all pixels and over each class of the reference's HU."""
    found = {f"{key}_head": float(values.mean()) if values.size else None}
    for name, (low, high) in TISSUES_HU.items():
        inside = (truth >= low) & (truth < high)
        found[f"{key}_{name}"] = float(values[inside].mean()) if inside.any() else None
    return found
