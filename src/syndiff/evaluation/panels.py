"""Pictures of a comparison in the layout of the paper's Figs. 3 to 5.

Columns: source, every method, reference. Rows: the slice with the zoomed square marked, the
square enlarged, and the error against the reference. The windows are stated below.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from syndiff.evaluation.figures import ERROR_MAP
from syndiff.evaluation.scoring import Picture
from syndiff.io.marks import SYNTHETIC_MARK
from syndiff.io.volume import radiological

DISPLAY_PERCENTILE = 99.8
ZOOMED = 3  # the square's side is this part of the slice's shorter one
INCH, DPI = 1.5, 150
PLACE = {"left": 0.01, "right": 0.94, "bottom": 0.1, "top": 0.9, "wspace": 0.03, "hspace": 0.03}


def panel_png(picture: Picture, limit: float, window_hu: tuple[float, float] | None) -> bytes:
    """One slice of all methods as a PNG.

    Args:
        picture: source, reference and synthetic slices, (h, w) each.
        limit: end of the error's colour scale, as a part of the range.
        window_hu: the HU that 0 and 1 stand for; None for MR.
    """
    reference = radiological(picture.reference)
    made = {name: radiological(image) for name, image in picture.synthetic.items()}
    top = _top(picture.reference)
    columns = {"source": radiological(picture.source), **made, "reference": reference}
    tops = {"source": _top(picture.source)}
    corner, side = zoomed_square(reference, made)
    box = (slice(corner[0], corner[0] + side), slice(corner[1], corner[1] + side))
    figure = Figure(figsize=(INCH * len(columns) + 0.6, INCH * 3 + 0.9))
    figure.suptitle(f"{picture.subject}, slice {picture.slice_index}", fontsize=9)
    axes = figure.subplots(3, len(columns), squeeze=False, gridspec_kw=PLACE)
    for column, (name, image) in enumerate(columns.items()):
        for row, part in enumerate((image, image[box])):
            axes[row, column].imshow(part, cmap="gray", vmin=0, vmax=tops.get(name, top))
        axes[0, column].set_title(name, fontsize=9)
        axes[0, column].add_patch(
            Rectangle((corner[1] - 0.5, corner[0] - 0.5), side, side, fill=False, ec="#ffd400")
        )
        if name in made:
            axes[2, column].imshow(image - reference, cmap=ERROR_MAP, vmin=-limit, vmax=limit)
    for one in axes.flat:
        _bare(one)
    scale = ScalarMappable(Normalize(-limit, limit), ERROR_MAP)
    bar = figure.add_axes((0.945, PLACE["bottom"], 0.01, 0.25))
    figure.colorbar(scale, cax=bar).ax.tick_params(labelsize=7)
    figure.supxlabel(_windows(top, limit, window_hu), fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", dpi=DPI, metadata={"Software": None, "Description": SYNTHETIC_MARK}
    )
    return buffer.getvalue()


def zoomed_square(
    reference: NDArray[Any], made: Mapping[str, NDArray[Any]]
) -> tuple[tuple[int, int], int]:
    """The corner and side of the square where the methods err most, which is shown enlarged."""
    side = max(min(reference.shape) // ZOOMED, 1)
    error = np.mean([np.abs(image - reference) for image in made.values()], axis=0)
    local = uniform_filter(np.asarray(error, np.float64), side, mode="constant")
    half = side // 2
    inner = local[half : half + reference.shape[0] - side + 1,
                  half : half + reference.shape[1] - side + 1]  # fmt: skip
    row, column = np.unravel_index(int(inner.argmax()), inner.shape)
    return (int(row), int(column)), side


def _top(image: NDArray[Any]) -> float:
    return max(float(np.percentile(image, DISPLAY_PERCENTILE)), 1e-6)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _windows(top: float, limit: float, window_hu: tuple[float, float] | None) -> str:
    """The stated windows of greys and errors."""
    if window_hu is None:
        words = f"greys: 0 to {top:.2f}; error: −{limit:g} to +{limit:g}, of the range 1"
    else:
        low, width = window_hu[0], window_hu[1] - window_hu[0]
        words = (
            f"greys: {low:.0f} to {low + top * width:.0f} HU; error: −{limit * width:.0f} to "
            f"+{limit * width:.0f} HU (scale bar: parts of {width:.0f} HU)"
        )
    return (
        f"{words}, red too bright\n"
        "rows: slice, marked square, synthetic − reference; the patient's left on the right; "
        "synthetic images, not for diagnosis"
    )
