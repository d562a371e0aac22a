"""Slices as pictures inside a page, in radiological display."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray
from scipy.ndimage import zoom

from syndiff.io.volume import radiological

MIN_PIXELS = 192  # smaller slices are enlarged here, because browsers would blur them


def grey_png(image: NDArray[Any], top: float) -> str:
    """A slice (h, w) in greys from 0 to `top`, as a data URI."""
    return image_uri(image, 0.0, top, "gray")


def image_uri(image: NDArray[Any], low: float, high: float, colours: str) -> str:
    """A slice (h, w) in a colour map of matplotlib from `low` to `high`, as a data URI."""
    image = _enlarged(radiological(np.asarray(image, dtype=np.float64)))
    buffer = io.BytesIO()
    imsave(buffer, image, vmin=low, vmax=max(high, low + 1e-6), cmap=colours, format="png")
    return data_uri(buffer.getvalue())


def colour_uri(image: NDArray[Any]) -> str:
    """A slice (h, w, 3) of red, green and blue in [0, 1], as a data URI."""
    channels = [
        _enlarged(radiological(np.asarray(c, np.float64))) for c in np.moveaxis(image, 2, 0)
    ]
    buffer = io.BytesIO()
    imsave(buffer, np.clip(np.stack(channels, axis=2), 0, 1), format="png")
    return data_uri(buffer.getvalue())


def data_uri(png: bytes) -> str:
    """PNG bytes as a `data:` URI, so that a page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _enlarged(image: NDArray[np.float64]) -> NDArray[np.float64]:
    factor = -(-MIN_PIXELS // min(image.shape))
    if factor <= 1:
        return image
    return np.asarray(zoom(image, factor, order=1, grid_mode=True, mode="nearest"))
