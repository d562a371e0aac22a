"""How far each pixel of a synthetic image may be off, told without a reference.

Two signals: the spread of samples (where chains of other noise differ, the source does not tell),
and the residual of the way back (what the other direction's translator cannot turn back into the
source). Weights ≥ 0 that turn them into an expected absolute error are fitted on validation people
and kept as `trust.json` in the translator's folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy.ndimage import gaussian_filter
from scipy.optimize import nnls
from scipy.stats import spearmanr

from syndiff.errors import DataError, ModelError
from syndiff.io.atomic import read_json, write_json

FILE_NAME = "trust.json"
SMOOTHING_PX = 1.0  # single pixels of a signal are noise
BINS = 10
Values = NDArray[np.floating[Any]]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Signals:
    """What is known of an image without a reference, (n, h, w) each, in parts of the range.

    Attributes:
        spread: standard deviation of the samples; 0 if there is only one.
        way_back: absolute residual of the way back; None without the other direction.
    """

    spread: Values
    way_back: Values | None

    @classmethod
    def of(cls, samples: Sequence[Values], source: Values, returned: Values | None) -> Signals:
        """The signals, smoothed in plane.

        Args:
            samples: (n, h, w) each; the first is the image in question.
            source: (n, h, w).
            returned: the first sample translated back, like `source`; None if it cannot be.
        """
        spread = np.std(samples, axis=0, ddof=1 if len(samples) > 1 else 0)
        residual = None if returned is None else np.abs(returned - source)
        return cls(_smooth(spread), None if residual is None else _smooth(residual))

    def inside(self, head: NDArray[np.bool_]) -> Signals:
        """The values inside a head, one-dimensional."""
        back = None if self.way_back is None else self.way_back[head]
        return Signals(self.spread[head], back)


class Calibration(BaseModel):
    """Expected |error| = floor + of_spread · spread + of_way_back · residual."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    floor: Weight
    of_spread: Weight
    of_way_back: Weight | None
    smoothing_px: Weight = SMOOTHING_PX
    samples: Annotated[int, Field(ge=1)]
    people: Annotated[int, Field(ge=1)]
    pixels: Annotated[int, Field(ge=1)]
    weights_sha256: str

    def expected(self, signals: Signals) -> Values:
        """The expected absolute error, in parts of the range, of the signals' shape."""
        found = self.floor + self.of_spread * signals.spread
        if self.of_way_back and signals.way_back is not None:
            found = found + self.of_way_back * signals.way_back
        return np.asarray(found)

    def save(self, folder: Path) -> Path:
        """Write `trust.json` into a translator's folder."""
        write_json(folder / FILE_NAME, self.model_dump())
        return folder / FILE_NAME

    @classmethod
    def read(cls, folder: Path) -> Calibration:
        """Read `trust.json`.

        Raises:
            ModelError: the file is missing, damaged or of another format.
        """
        try:
            return cls.model_validate(read_json(folder / FILE_NAME, "trust calibration"))
        except ValidationError as error:
            first = error.errors()[0]
            raise ModelError(
                f"{folder / FILE_NAME}: {'.'.join(map(str, first['loc']))}: {first['msg']}",
                "a file that 'syndiff evaluate --trust N' wrote",
            ) from error


def calibrate(
    signals: Signals, error: Values, *, samples: int, people: int, weights_sha256: str
) -> Calibration:
    """Fit the weights by non-negative least squares.

    Args:
        signals: of pixels inside heads, one-dimensional.
        error: (n,) the true absolute error of these pixels.
        samples, people, weights_sha256: what the calibration was made of, for the record.

    Raises:
        DataError: there is no pixel.
    """
    if not len(error):
        raise DataError("no pixel inside a head to calibrate the trust map on")
    back = signals.way_back
    columns = [np.ones(len(error)), signals.spread, *([] if back is None else [back])]
    weights, _ = nnls(np.stack(columns, axis=1).astype(np.float64), error.astype(np.float64))
    return Calibration(
        floor=weights[0],
        of_spread=weights[1],
        of_way_back=None if back is None else weights[2],
        samples=samples,
        people=people,
        pixels=len(error),
        weights_sha256=weights_sha256,
    )


def rank_correlation(expected: Values, error: Values) -> float | None:
    """Spearman's ρ; None where either is constant."""
    if np.ptp(expected) == 0 or np.ptp(error) == 0:
        return None
    return float(spearmanr(expected, error).statistic)


def sparsification(expected: Values, error: Values) -> Values:
    """Mean error of what remains as the most doubtful pixels are left out, over that of all.

    Returns:
        (n,) for 0 to n - 1 pixels left out. Pixels of equal doubt leave in no order: each counts
        with the mean error of all of them.
    """
    _, group, count = np.unique(expected, return_inverse=True, return_counts=True)
    level = np.bincount(group, weights=error) / count
    kept_first = level[np.sort(group)]  # the least doubtful first
    remaining = np.cumsum(kept_first) / np.arange(1, len(error) + 1)
    return np.asarray(remaining[::-1] / np.mean(error))


def areas(expected: Values, error: Values) -> dict[str, float | None]:
    """Area under the sparsification curve, the least possible one, and their difference (AUSE).

    1 is what leaving out at random gives.
    """
    if not error.any():
        return {"sparsification_area": None, "oracle_area": None, "ause": None}
    own = float(np.mean(sparsification(expected, error)))
    oracle = float(np.mean(sparsification(error, error)))
    return {"sparsification_area": own, "oracle_area": oracle, "ause": own - oracle}


def reliability(expected: Values, error: Values, bins: int = BINS) -> list[dict[str, float]]:
    """Mean expected and true error in groups of equal size, from little doubt to much."""
    order = np.argsort(expected, kind="stable")
    groups = [part for part in np.array_split(order, bins) if len(part)]
    return [
        {"expected": float(expected[g].mean()), "true": float(error[g].mean()), "pixels": len(g)}
        for g in groups
    ]


def _smooth(image: Values) -> Values:
    return np.asarray(gaussian_filter(image, (0, SMOOTHING_PX, SMOOTHING_PX)))
