"""The contrast of a head is read from its own fluid and cortex."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.preparation.contrast import head_contrast

SPACING_MM = (2.0, 2.0, 2.0)
# signals of scalp, fluid, cortex, white matter
SIGNALS = {
    "T1": (2.0, 0.3, 0.75, 1.0),
    "T2": (2.5, 2.8, 1.4, 1.0),
    "FLAIR": (0.6, 0.2, 1.3, 1.0),
    "none": (0.5, 0.95, 1.1, 1.0),
}


def head(contrast: str, *, stripped: bool) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A ball with folded cortex below a rim of fluid, and its mask."""
    scalp, fluid, cortex, white = SIGNALS[contrast]
    axis = np.arange(88.0) - 43.5
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    fold = 10 * np.abs(np.sin(6 * np.arctan2(y, x)) * np.sin(6 * np.arctan2(z, np.hypot(x, y))))
    sulcus = (radius < 36) & (radius + 1.6 * fold > 34) | (radius < 5)
    brain = radius < 36
    depth = ndimage.distance_transform_edt(~sulcus, sampling=SPACING_MM)
    image = np.where(brain, np.where(depth < 5, cortex, white), 0)
    image = np.where(sulcus, fluid, image)
    if not stripped:
        image = np.where((radius >= 36) & (radius < 38), 0.1, image)
        image = np.where((radius >= 38) & (radius < 41), scalp, image)
    return image.astype(np.float32), radius < (36 if stripped else 41)


@pytest.mark.parametrize("stripped", [False, True])
@pytest.mark.parametrize("contrast", SIGNALS)
def test_whole_and_stripped_heads_tell_their_contrast(contrast: str, stripped: bool) -> None:
    image, mask = head(contrast, stripped=stripped)
    for gain in (1.0, 700.0):
        assert head_contrast(gain * image, mask, SPACING_MM) == contrast


def test_what_is_no_head_tells_nothing() -> None:
    noise = np.random.default_rng(0).normal(1, 0.3, (40, 40, 40))
    assert head_contrast(noise, np.zeros(noise.shape, bool), SPACING_MM) == ""
    assert head_contrast(noise[:5, :5, :5], np.ones((5, 5, 5), bool), SPACING_MM) == ""
