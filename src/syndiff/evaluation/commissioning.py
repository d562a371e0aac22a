"""A one-page commissioning report for synthetic CT: measured values beside blanks for the centre.

The page states what was measured on the centre's own patients, with the spread and the worst
patient, and leaves tolerance, verdict and signature to the centre. It judges nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from syndiff.errors import OptionError
from syndiff.evaluation import figures
from syndiff.evaluation.files import NAME, Scored
from syndiff.evaluation.persons import TISSUES_HU, limits_in_words
from syndiff.evaluation.scoring import Picture, mean_and_deviation
from syndiff.page.html import filled
from syndiff.page.pictures import grey_png
from syndiff.preparation.intensity import HU_WINDOW

MOST_PICTURES = 3
SHOWN_HU = (-160.0, 240.0)  # the window of the pictures: soft tissue
ERROR_HU = 200.0


@dataclass(frozen=True)
class Line:
    """One line of the table: what, its key in a subject's entry, unit, digits, what is worst."""

    title: str
    key: str
    unit: str
    digits: int
    worst: str  # "largest", "smallest" or "farthest" from 0


LINES = (
    Line("Mean absolute error, body", "mae_hu_head", "HU", 1, "largest"),
    *(
        Line(f"… {name} ({limits_in_words(*hu)})", f"mae_hu_{name}", "HU", 1, "largest")
        for name, hu in TISSUES_HU.items()
    ),
    Line("Mean error, body", "me_hu_head", "HU", 1, "farthest"),
    Line("… soft tissue", "me_hu_soft", "HU", 1, "farthest"),
    Line("… bone", "me_hu_bone", "HU", 1, "farthest"),
    Line("Dice of bone", "dice_bone", "", 3, "smallest"),
    Line("Dice of air inside the body", "dice_air", "", 3, "smallest"),
    Line("Dice of the body's outline", "outline_dice", "", 3, "smallest"),
    Line("Offset in the slice's plane", "offset_px", "px", 2, "largest"),
    Line("PSNR", "psnr_db", "dB", 2, "smallest"),
    Line("SSIM", "ssim", "", 3, "smallest"),
)
WORST: Mapping[str, Any] = {
    "largest": max,
    "smallest": min,
    "farthest": lambda found, key: max(found, key=lambda one: abs(key(one))),
}


def check(unit: str) -> None:
    """Raise OptionError unless the images are CT in HU."""
    if unit != "HU":
        raise OptionError("a commissioning report for images that are not in HU", "synthetic CT")


def commissioning_page(scored: Scored) -> str:
    """The page as HTML text, self-contained.

    Raises:
        OptionError: the images are not in HU.
    """
    check(scored.results["unit"])
    pictures = scored.evaluation.pictures[:MOST_PICTURES]
    return filled(
        "syndiff.evaluation",
        "commissioning.html.j2",
        results=scored.results,
        rows=[_row(line, scored.results["scores"]["subjects"]) for line in LINES],
        panels=[_panel(picture, scored.results) for picture in pictures],
        shown=SHOWN_HU,
        error=ERROR_HU,
    )


def _row(line: Line, subjects: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Mean, deviation and the worst subject of one measure, as text."""
    known = {name: s[line.key] for name, s in subjects.items() if s.get(line.key) is not None}
    mean, deviation = mean_and_deviation(known.values())
    if mean is None or deviation is None:
        return {"title": line.title, "value": "–", "worst": "–"}
    worst = WORST[line.worst](known, key=lambda name: known[name])
    spread = f" ± {deviation:.{line.digits}f}" if len(known) > 1 else ""
    return {
        "title": line.title,
        "value": f"{mean:.{line.digits}f}{spread} {line.unit}".strip(),
        "worst": f"{known[worst]:.{line.digits}f} {line.unit} ({worst})".replace("  ", " "),
    }


def _panel(picture: Picture, results: Mapping[str, Any]) -> dict[str, str]:
    """Acquired, synthetic and error of one slice."""
    low, high = results["range"]["window"] or HU_WINDOW
    made, real = (
        np.asarray(image) * (high - low) + low
        for image in (picture.synthetic[NAME], picture.reference)
    )
    bottom, top = SHOWN_HU
    return {
        "title": f"{picture.subject}, slice {picture.slice_index}",
        "acquired": grey_png(real - bottom, top - bottom),
        "synthetic": grey_png(made - bottom, top - bottom),
        "error": figures.error_png(made - real, ERROR_HU),
    }
