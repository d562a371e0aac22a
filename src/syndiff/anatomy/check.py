"""The check of a translation against its source, and its warnings."""

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

MOST_SLICES = 16  # slices compared in one check
MOST_WAY_BACK = 8  # slices translated back; each costs one translation
WARN_PX = 0.5
SEVERAL_PX = 2.0
# Between acquired scans of one head the confidence is 0.6 to 0.9, between noise images 0.01; the
# Dice coefficient of the outlines is 0.92 to 0.99 (experiments/offset.py).
LEAST_CONFIDENCE = 0.1
LEAST_DICE = 0.8
TranslateBack = Callable[[Slices], Slices]


@dataclass(frozen=True)
class AnatomyCheck:
    """Measures of whether a synthetic image shows the anatomy in the same place as its source.

    Attributes:
        offset: in-plane displacement of the synthetic image relative to its source, in pixels of
            the training slices.
        spacing_mm: pixel size of the training slices in mm; None if unknown.
        foreground_dice: Dice coefficient of the heads segmented in source and synthetic image;
            None if both masks are empty.
        way_back_error: mean absolute difference between the source and the source translated to
            the target and back, inside the head, divided by the source's mean there; None without
            a translator of the other direction.
        slices: number of slices compared.
        way_back_slices: number of slices translated back.
    """

    offset: Offset
    spacing_mm: float | None
    foreground_dice: float | None
    way_back_error: float | None
    slices: int
    way_back_slices: int

    def scores(self) -> dict[str, float]:
        """The scores that could be measured, by their names in tables."""
        values = {
            "source_offset_px": self.offset.magnitude if self.offset.known else None,
            "foreground_dice": self.foreground_dice,
            "way_back_error": self.way_back_error,
        }
        return {name: value for name, value in values.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None for scores that could not be measured."""
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
        """Warnings for the user, with remedies; `name` names the image in the sentences."""
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
    """Keeps a few evenly spread slices of a volume that is translated in batches.

    Args:
        places: the indices of all slices that will be translated.
        most: the largest number of slices to keep.
    """

    def __init__(self, places: Sequence[int] | NDArray[Any], most: int = MOST_SLICES) -> None:
        chosen = np.asarray(places)[spread(len(places), most)]
        self._wanted = {int(place) for place in chosen}
        self._kept: list[tuple[Slices, Slices]] = []

    def see(self, places: Iterable[int], sources: Slices, synthetic: Slices) -> None:
        """Keep the chosen slices of a batch.

        Args:
            places: (n,) indices of the batch's slices.
            sources: (n, h, w) or (n, c, h, w).
            synthetic: (n, h, w).
        """
        for place, source, image in zip(places, sources, synthetic, strict=True):
            if int(place) in self._wanted:
                self._kept.append((np.array(source), np.array(image)))

    @property
    def stacks(self) -> tuple[Slices, Slices]:
        """The kept sources, (n, h, w) or (n, c, h, w), and the kept results, (n, h, w)."""
        sources, images = zip(*self._kept, strict=True)
        return np.stack(sources), np.stack(images)


def spread(count: int, most: int) -> NDArray[np.intp]:
    """At most `most` indices out of 0 … `count` - 1, evenly spread and ascending."""
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
        source: (n, h, w) in [0, 1], or (n, c, h, w), of which the first channel is compared.
        synthetic: (n, h, w) in [0, 1], the translation of `source`.
        source_scale, target_scale: the intensity rules of the two modalities.
        spacing_mm: pixel size in mm.
        translate_back: function from slices like `synthetic` to slices like `source`.

    Returns:
        The measures on at most 16 slices, of which at most 8 are translated back.
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
    """Combine the checks of several subjects: median of the offsets, means of the other scores."""
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
    """The mean of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
