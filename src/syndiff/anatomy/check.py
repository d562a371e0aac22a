"""One check of a translation against its own source, and what it says in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.anatomy.agreement import Slices, dice, foreground, way_back_error
from syndiff.anatomy.offset import UNKNOWN, Offset, median_vector, stack_offset
from syndiff.preparation.intensity import IntensityScale

MOST_SLICES = 16  # looked at in one check
MOST_WAY_BACK = 8  # of them translated back, which costs a translation each
WARN_PX = 0.5
SEVERAL_PX = 2.0
# Acquired pairs of one head share 0.6 to 0.9 of their information, noise shares 0.01; their heads
# overlap by a Dice of 0.92 to 0.99 (experiments/offset.py).
LEAST_CONFIDENCE = 0.1
LEAST_DICE = 0.8
TranslateBack = Callable[[Slices], Slices]


@dataclass(frozen=True)
class AnatomyCheck:
    """Whether a synthetic image shows the anatomy where its source has it.

    Attributes:
        offset: of the synthetic image against its source, in pixels of the training grid, within
            the slice's plane.
        spacing_mm: size of such a pixel, None where unknown.
        foreground_dice: overlap of the heads found in either image; None where there is none.
        way_back_error: translated to the target and back, the mean absolute difference to the
            source inside the head, as a fraction of the source's mean there; None without the
            other direction's translator.
        slices: how many were looked at.
        way_back_slices: how many of them were translated back.
    """

    offset: Offset
    spacing_mm: float | None
    foreground_dice: float | None
    way_back_error: float | None
    slices: int
    way_back_slices: int

    def scores(self) -> dict[str, float]:
        """What could be measured, by the names used in tables."""
        values = {
            "source_offset_px": self.offset.magnitude if self.offset.known else None,
            "foreground_dice": self.foreground_dice,
            "way_back_error": self.way_back_error,
        }
        return {name: value for name, value in values.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None for what could not be measured."""
        known, mm = self.offset.known, self.spacing_mm
        length = self.offset.magnitude if known else None
        return {
            "source_offset_px": length,
            "source_offset_yx_px": [self.offset.dy, self.offset.dx] if known else None,
            "source_offset_mm": length * mm if length is not None and mm else None,
            "source_offset_confidence": self.offset.confidence,
            "foreground_dice": self.foreground_dice,
            "way_back_error": self.way_back_error,
            "slices": self.slices,
            "way_back_slices": self.way_back_slices,
        }

    def warnings(self, name: str) -> list[str]:
        """What a user must know before trusting `name`, with the remedy."""
        found = []
        if not self.offset.known or self.offset.confidence < LEAST_CONFIDENCE:
            found.append(
                f"{name} shares so little with its source that no offset can be measured: "
                "do not use it before you have looked at it"
            )
        elif self.offset.magnitude > WARN_PX:
            found.append(self._offset_warning(name))
        if self.foreground_dice is not None and self.foreground_dice < LEAST_DICE:
            found.append(
                f"the outline of {name} agrees with its source's only to a Dice of "
                f"{self.foreground_dice:.2f}: anatomy was added or lost"
            )
        return found

    def _offset_warning(self, name: str) -> str:
        length = self.offset.magnitude
        mm = f" ({length * self.spacing_mm:.1f} mm)" if self.spacing_mm else ""
        remedy = (
            "take another translator, or train one on registered scans (SynDiff: with more weight "
            "on the structure term)"
        )
        if length >= SEVERAL_PX:
            return (
                f"{name} lies {length:.1f} px{mm} beside its source, the most reported failure of "
                f"unpaired training: do not use the image; {remedy}"
            )
        return f"{name} lies {length:.1f} px{mm} beside its source: {remedy}"


class SpreadSlices:
    """Keeps a few evenly spread slices of a volume that passes by in batches.

    Args:
        places: the slices that will come.
        most: how many to keep.
    """

    def __init__(self, places: Sequence[int] | NDArray[Any], most: int = MOST_SLICES) -> None:
        chosen = np.asarray(places)[spread(len(places), most)]
        self._wanted = {int(place) for place in chosen}
        self._kept: list[tuple[Slices, Slices]] = []

    def see(self, places: Iterable[int], sources: Slices, synthetic: Slices) -> None:
        """Look at a batch: (n,) places, (n, h, w) or (n, c, h, w) sources, (n, h, w) results."""
        for place, source, image in zip(places, sources, synthetic, strict=True):
            if int(place) in self._wanted:
                self._kept.append((np.array(source), np.array(image)))

    @property
    def stacks(self) -> tuple[Slices, Slices]:
        """Sources and results, each (n, h, w), sources perhaps (n, c, h, w)."""
        sources, images = zip(*self._kept, strict=True)
        return np.stack(sources), np.stack(images)


def spread(count: int, most: int) -> NDArray[np.intp]:
    """At most `most` of `count` indices, evenly spread, ascending."""
    few = min(count, most)
    return np.floor((np.arange(few) + 0.5) * count / max(few, 1)).astype(np.intp)


def check_anatomy(
    source: Slices,
    synthetic: Slices,
    *,
    source_scale: IntensityScale,
    target_scale: IntensityScale,
    spacing_mm: float | None = None,
    translate_back: TranslateBack | None = None,
) -> AnatomyCheck:
    """Compare a translation with its source; no reference is needed.

    Args:
        source: (n, h, w) in [0, 1]; with several sources (n, c, h, w), of which the first counts.
        synthetic: (n, h, w) in [0, 1], what was made of them.
        source_scale, target_scale: their intensity rules.
        spacing_mm: the size of a pixel.
        translate_back: from slices like `synthetic` to slices like `source`.

    Returns:
        What was found on at most 16 slices, of which at most 8 are translated back.
    """
    source = source if source.ndim == 3 else source[:, 0]
    chosen = spread(len(source), MOST_SLICES)
    source, synthetic = source[chosen], synthetic[chosen]
    head = foreground(source, source_scale)
    error, returned = None, spread(len(source), MOST_WAY_BACK if translate_back else 0)
    if translate_back is not None:
        again = translate_back(synthetic[returned])
        error = way_back_error(source[returned], again, head[returned])
    return AnatomyCheck(
        stack_offset(synthetic, source),
        spacing_mm,
        dice(head, foreground(synthetic, target_scale)),
        error,
        len(source),
        len(returned),
    )


def combine(checks: Sequence[AnatomyCheck]) -> AnatomyCheck:
    """The check of several subjects: median displacement, means of the rest."""
    dy, dx = median_vector(check.offset for check in checks)
    confidences = [check.offset.confidence for check in checks if check.offset.known]
    known = math.isfinite(dy)
    return AnatomyCheck(
        Offset(dy, dx, float(np.median(confidences))) if known else UNKNOWN,
        checks[0].spacing_mm,
        _mean(check.foreground_dice for check in checks),
        _mean(check.way_back_error for check in checks),
        sum(check.slices for check in checks),
        sum(check.way_back_slices for check in checks),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of what is known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
