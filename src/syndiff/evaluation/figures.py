"""The report's pictures, as PNG bytes. matplotlib without pyplot: no global state, no display."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from syndiff.page.pictures import data_uri, image_uri

ERROR_MAP = "RdBu_r"
INK, GRID = "#1f2933", "#dde3e8"
# Colours by Okabe and Ito, safe for colour-blind readers; some are darkened for white background.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#5b3a8c", "#000000")
BASELINE_COLOURS = ("#7b8794", "#a3adb8", "#52606d")
MARKERS = "osD^vPXp"


@dataclass(frozen=True)
class Look:
    """How one model appears in every figure."""

    colour: str
    line: str
    marker: str


def looks(models: Sequence[str], baselines: Sequence[str]) -> dict[str, Look]:
    """Colours for models, greys and dashes for baselines."""
    trained = [name for name in models if name not in baselines]
    result = {
        name: Look(COLOURS[i % len(COLOURS)], "-", MARKERS[i % len(MARKERS)])
        for i, name in enumerate(trained)
    }
    free = [name for name in models if name in baselines]
    for i, name in enumerate(free):
        result[name] = Look(BASELINE_COLOURS[i % 3], ("--", ":", "-.")[i % 3], "x+1"[i % 3])
    return result


def error_png(difference: NDArray[Any], limit: float) -> str:
    """A signed difference (h, w) from -limit (blue) by 0 (white) to limit (red)."""
    return image_uri(difference, -limit, limit, ERROR_MAP)


def colour_bar_png() -> str:
    """The colours of `error_png` from left (-limit) to right (+limit)."""
    ramp = np.linspace(0, 1, 256)[None].repeat(12, axis=0)
    buffer = io.BytesIO()
    imsave(buffer, colormaps[ERROR_MAP](ramp), format="png")
    return data_uri(buffer.getvalue())


def curve_png(
    title: str,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    look: Mapping[str, Look],
    limits: tuple[float, float],
) -> str:
    """PSNR against the slice's index for one subject, one line per model."""
    figure, axes = _plot(4.0, 2.7)
    for name, (x, y) in curves.items():
        style = look[name]
        axes.plot(x, y, style.line, color=style.colour, lw=1.8)
    axes.set(title=title, xlabel="slice index (inferior to superior)", ylabel="PSNR (dB)")
    axes.set_ylim(*limits)
    return _figure_uri(figure)


def distribution_png(
    label: str, values: Mapping[str, Sequence[float]], look: Mapping[str, Look]
) -> str:
    """A box plot for each model: quartiles, median, and a dot for each subject.

    Args:
        label: the score and its unit.
        values: by model name, one value per person.
        look: by model name.
    """
    names = list(values)
    figure, axes = _plot(4.8, 0.62 * len(names) + 0.9)
    for i, name in enumerate(names):
        dots = np.asarray(values[name])
        low, middle, high = np.quantile(dots, (0.25, 0.5, 0.75))
        axes.barh(i, high - low, left=low, height=0.6, color="#e4e9ee", ec="#7b8794", lw=0.8)
        axes.plot([middle, middle], [i - 0.3, i + 0.3], color=INK, lw=2, zorder=4)
        spread = 0.42 * ((np.arange(len(dots)) * 0.618) % 1 - 0.5)  # even, the same each time
        axes.scatter(dots, i + spread, s=10, color=look[name].colour, alpha=0.6, lw=0, zorder=3)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    return _figure_uri(figure)


def legend_png(name: str, look: Mapping[str, Look]) -> str:
    """A short sample of a model's line, to stand beside its name in the page."""
    figure = Figure(figsize=(0.5, 0.16))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.add_line(
        Line2D([0.02, 0.98], [0.5, 0.5], ls=look[name].line, color=look[name].colour, lw=3)
    )
    return _figure_uri(figure, tight=False)


def _plot(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure (inches) in the report's look."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9aa5b1")
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.title.set(size=10.5, color=INK, weight="bold")
    axes.xaxis.label.set(size=9.5, color=INK)
    axes.yaxis.label.set(size=9.5, color=INK)
    return figure, axes


def _figure_uri(figure: Figure, tight: bool = True) -> str:
    buffer = io.BytesIO()
    # Without the Software entry the same figure gives the same bytes in every version.
    figure.savefig(
        buffer, format="png", dpi=150, metadata={"Software": None}, transparent=not tight
    )
    return data_uri(buffer.getvalue())
