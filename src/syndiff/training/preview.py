"""RUN/preview.png: the same four validation slices after every validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from syndiff.io.atomic import whole_file
from syndiff.training.validation import Slices

FILE, COLUMNS = "preview.png", 4


def write_preview(run: Path, step: int, directions: Mapping[str, Mapping[str, Slices]]) -> None:
    """Write the picture; nothing is written where matplotlib is not installed.

    Args:
        run: folder of the run.
        step: that the images are of.
        directions: "T1_to_T2" → name of a row → its slices (n, h, w) in [0, 1]; the same number
            of slices in every row of a direction.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:  # a host that only trains needs no plots
        return
    rows = [(f"{name}\n{what}", images) for name, of in directions.items()
            for what, images in of.items()]  # fmt: skip
    if not rows:
        return
    chosen = columns_of(len(rows[0][1]))
    figure = Figure(figsize=(1.3 + 1.5 * len(chosen), 0.4 + 1.5 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(chosen), squeeze=False)
    for axes, (label, images) in zip(grid, rows, strict=True):
        for place, i in zip(axes, columns_of(len(images)), strict=False):
            place.imshow(np.clip(images[i], 0, 1)[::-1], cmap="gray", vmin=0, vmax=1)
        for place in axes:
            place.set(xticks=[], yticks=[])
        axes[0].set_ylabel(label.replace("_to_", " → "), fontsize=7)
    figure.suptitle(f"step {step}: validation subjects; not for diagnosis", fontsize=8)
    with whole_file(run / FILE) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def columns_of(count: int, columns: int = COLUMNS) -> Sequence[int]:
    """The slices that are shown of so many: always the same."""
    return [int(i) for i in np.linspace(0, count - 1, min(columns, count)).round()]
