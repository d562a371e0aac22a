"""Distance of a scan's fingerprint from a cohort's fingerprints, and the limit of that distance.

The distance is the root mean square of the deviations of a scan's features from the cohort's
medians, each deviation divided by the cohort's spread. The limit comes from the cohort: each
scan's distance is measured from all other scans (leave one out). If these distances were
log-normal, a new scan of the same modality would exceed the limit in one case of a thousand. The
spread of a small cohort is uncertain. The usual spread between scans of one modality is therefore
mixed in with the weight of `PRIOR` scans.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from syndiff.preparation.fingerprint import FEATURES, Feature

STRIPPED = "-stripped"  # ends the name of a kind: heads without skull and scalp
PRIOR = 4  # scans
FALSE_ALARMS = 1e-3
FEWEST = 5  # scans from which a limit can be estimated
USUAL_LIMIT = 3.0  # in spreads; the limit of smaller cohorts, and the largest limit
LEAST_LIMIT = 1.5  # in spreads; the scans of a cohort may be near-copies, those of people are not
MOST = 10.0  # the deviation of a single feature is clipped here
# The features of `tissue_quantiles`: quantiles of tissue that is normalised to [0, 1].
OLD_FEATURES = tuple(
    Feature(name, spread, "its histogram")
    for name, spread in (("q05", 0.02), ("q25", 0.03), ("q50", 0.03), ("q75", 0.03), ("q95", 0.06))
)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Likeness:
    """The scans of one modality that a translator was trained on.

    Attributes:
        rows: (scans, features) the fingerprints of the scans.
        usual: (features,) the usual spread of each feature between scans of one modality.
        words: (features,) what each feature describes.
        limit: the largest distance at which a scan counts as like the cohort.
    """

    rows: Floats
    usual: Floats
    words: tuple[str, ...]
    limit: float

    @classmethod
    def of(cls, rows: Sequence[Sequence[float]], features: Sequence[Feature]) -> Likeness:
        """From the fingerprints (scans, features) of at least one scan."""
        table = np.asarray(rows, np.float64)
        usual = np.array([feature.spread for feature in features])
        return cls(table, usual, tuple(f.words for f in features), _limit(table, usual))

    @classmethod
    def of_card(cls, fingerprints: Mapping[str, Any]) -> dict[str, Likeness]:
        """Modality → its scans, from the fingerprints in a translator's `config.json`."""
        scans = fingerprints["scans"]
        return {modality: cls.of(rows, FEATURES) for modality, rows in scans.items() if rows}

    @classmethod
    def of_quantiles(
        cls, quantiles: Mapping[str, Sequence[Sequence[float]]]
    ) -> dict[str, Likeness]:
        """Modality → its scans, from the quantiles in the `config.json` of older translators."""
        return {m: cls.of(rows, OLD_FEATURES) for m, rows in quantiles.items() if rows}

    def distance(self, row: Sequence[float]) -> float:
        """The distance of a fingerprint (features,) from these scans, in spreads."""
        return _distance(np.asarray(row, np.float64), self.rows, self.usual)

    def differs(self, row: Sequence[float], most: int = 3) -> str:
        """A phrase that names the features that differ most; at most `most` of them."""
        away = np.abs(_deviations(np.asarray(row, np.float64), self.rows, self.usual))
        order = [i for i in np.argsort(-away, kind="stable") if away[i] > 2]
        words = list(dict.fromkeys(self.words[i] for i in order))[:most]
        return "what differs most is " + " and ".join(words) if words else "a little in all"

    def accepts(self, row: Sequence[float]) -> bool:
        """Whether a scan with this fingerprint (features,) is within the limit."""
        return self.distance(row) <= self.limit


def modality_of(kind: str) -> str:
    """The modality of a kind of scan: of "T1-stripped" it is T1.

    Whole and stripped heads of one modality are two kinds: taken as one, their spread would hide
    what tells modalities apart.
    """
    return kind.removesuffix(STRIPPED)


def nearest(known: Mapping[str, Likeness], row: Sequence[float]) -> str:
    """The kind of scan at the smallest distance from a fingerprint."""
    return min(known, key=lambda name: known[name].distance(row))


def _deviations(row: Floats, rows: Floats, usual: Floats) -> Floats:
    count = len(rows)
    varies = rows.var(axis=0, ddof=1) if count > 1 else np.zeros_like(usual)
    spread = np.sqrt(((count - 1) * varies + PRIOR * usual**2) / (count - 1 + PRIOR))
    return np.asarray((row - np.median(rows, axis=0)) / spread)


def _distance(row: Floats, rows: Floats, usual: Floats) -> float:
    away = np.minimum(np.abs(_deviations(row, rows, usual)), MOST)
    return float(np.sqrt((away**2).mean()))


def _limit(rows: Floats, usual: Floats) -> float:
    """A prediction limit from the distance of each scan to the other scans."""
    count = len(rows)
    if count < FEWEST:
        return USUAL_LIMIT
    held_out = [_distance(rows[i], np.delete(rows, i, axis=0), usual) for i in range(count)]
    logs = np.log(np.maximum(held_out, 1e-3))
    reach = float(stats.t.ppf(1 - FALSE_ALARMS, count - 1)) * math.sqrt(1 + 1 / count)
    limit = math.exp(float(logs.mean()) + reach * float(logs.std(ddof=1)))
    return min(max(limit, LEAST_LIMIT), USUAL_LIMIT)
