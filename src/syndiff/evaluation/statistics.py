"""Paired comparison of methods over people: how much better, and how surely.

Each person counts once. The slices of one person are not independent, so a test by slice finds
significance where there is none; it exists for comparison with the paper, and only by name.

Wilcoxon signed-rank   two-sided, exact up to `EXACT_UP_TO` people without ties among the
                       differences' sizes; with ties exact by all 2^n signs up to `SIGNS_UP_TO`,
                       else by the normal approximation (Wilcoxon, 1945; Pratt, 1959)
Holm                   p values adjusted over all comparisons of the table (Holm, 1979)
rank-biserial r        matched pairs: (sum of favourable ranks - unfavourable) / all (Kerby, 2014)
BCa intervals          of the mean difference, bootstrapped over people (Efron, 1987; scipy)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.05
EXACT_UP_TO = 50
SIGNS_UP_TO = 12
RESAMPLES = 9999
Unit = Literal["subject", "slice"]


@dataclass(frozen=True)
class Comparison:
    """One method against another by one metric.

    Attributes:
        method, against: the two methods.
        metric: key of the metric.
        n: number of pairs.
        difference: mean of method - against.
        interval: 95 % BCa interval of that mean; None where it cannot be had.
        p: two-sided p value of the Wilcoxon signed-rank test; 1 where all pairs are equal.
        p_holm: p adjusted by Holm over the table.
        exact: whether p is exact.
        effect: matched-pairs rank-biserial correlation, in [-1, 1]; positive if `method` is
            better.
    """

    method: str
    against: str
    metric: str
    n: int
    difference: float
    interval: tuple[float, float] | None
    p: float
    p_holm: float
    exact: bool
    effect: float

    @property
    def mark(self) -> str:
        """Stars for the table: * below 0.05, ** below 0.01, *** below 0.001, after Holm."""
        return "*" * sum(self.p_holm < level for level in (0.05, 0.01, 0.001))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the results."""
        interval = None if self.interval is None else list(self.interval)
        return {**asdict(self), "interval": interval, "mark": self.mark}


def compare(
    scores: Mapping[str, Mapping[str, Sequence[float | None]]],
    against: str,
    better: Mapping[str, Literal["higher", "lower"]],
    seed: int = 0,
) -> list[Comparison]:
    """Compare every method with one of them by every metric; Holm over all of these.

    Args:
        scores: metric → method → one value per person, in one order of people for all.
        against: the method that the others are compared with.
        better: metric → which values are better.
        seed: of the bootstrap.
    """
    found = []
    for metric, by_method in scores.items():
        for method, values in by_method.items():
            if method == against:
                continue
            pairs = [
                (a, b)
                for a, b in zip(values, by_method[against], strict=True)
                if a is not None and b is not None
            ]
            if not pairs:
                continue
            differences = np.array([a - b for a, b in pairs], dtype=np.float64)
            p, exact = wilcoxon(differences)
            sign = 1 if better[metric] == "higher" else -1
            found.append(
                Comparison(
                    method, against, metric, len(pairs), float(differences.mean()),
                    bca_interval(differences, seed), p, p, exact,
                    rank_biserial(sign * differences),
                )
            )  # fmt: skip
    adjusted = holm([comparison.p for comparison in found])
    return [replace(c, p_holm=p) for c, p in zip(found, adjusted, strict=True)]


def wilcoxon(differences: ArrayLike) -> tuple[float, bool]:
    """Two-sided p value of the signed-rank test, and whether it is exact.

    Zero differences are left out, as Wilcoxon did it.

    Args:
        differences: (n,) of the pairs.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0]
    if not len(values):
        return 1.0, True
    tied = len(np.unique(np.abs(values))) < len(values)
    if not tied and len(values) <= EXACT_UP_TO:
        return float(stats.wilcoxon(values, method="exact").pvalue), True
    if tied and len(values) <= SIGNS_UP_TO:
        return _by_all_signs(values), True
    return float(stats.wilcoxon(values, method="asymptotic", correction=True).pvalue), False


def _by_all_signs(values: NDArray[np.float64]) -> float:
    """The exact p value with tied ranks, from all 2^n ways to sign them."""
    ranks = stats.rankdata(np.abs(values))
    middle = ranks.sum() / 2
    observed = abs(ranks[values > 0].sum() - middle)
    sums = np.array(list(product((0, 1), repeat=len(ranks)))) @ ranks
    return float(np.mean(np.abs(sums - middle) >= observed - 1e-9))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted by Holm's step-down procedure, in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def rank_biserial(differences: ArrayLike) -> float:
    """Matched-pairs rank-biserial correlation (Kerby, 2014), in [-1, 1]; 0 for equal pairs.

    Args:
        differences: (n,) of the pairs, positive if favourable; zeros are left out.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0]
    if not len(values):
        return 0.0
    ranks = stats.rankdata(np.abs(values))
    return float((ranks[values > 0].sum() - ranks[values < 0].sum()) / ranks.sum())


def bca_interval(values: ArrayLike, seed: int = 0) -> tuple[float, float] | None:
    """95 % interval of the mean by the BCa bootstrap; None for fewer than 3 or equal values."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 3 or np.ptp(array) == 0:
        return None
    interval = stats.bootstrap(
        (array,), np.mean, confidence_level=1 - LEVEL, n_resamples=RESAMPLES, method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    low, high = float(interval.low), float(interval.high)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def least_p(n: int, tests: int = 1) -> float:
    """The least two-sided p that n pairs can reach, after Holm over `tests` comparisons."""
    return min(1.0, tests * 2.0 ** (1 - n)) if n else 1.0


def warnings(comparisons: Sequence[Comparison], unit: Unit) -> list[str]:
    """What a reader of the p values must know."""
    if not comparisons:
        return []
    found = []
    if unit == "slice":
        found.append(
            "the tests are by slice, as in the paper: slices of one person are not independent "
            "people, and these p values are far too small"
        )
    people, tests = min(c.n for c in comparisons), len(comparisons)
    reach = least_p(people)
    if reach > LEVEL:
        found.append(
            f"{people} people cannot reach p < {LEVEL:g}: two-sided p is at least {reach:.3g}, "
            "however clear the difference; at least 6 are needed"
        )
    elif least_p(people, tests) > LEVEL:
        found.append(
            f"{people} people cannot reach p < {LEVEL:g} after Holm's correction for {tests} "
            f"comparisons: the least is {least_p(people, tests):.3g}; compare fewer methods or "
            "metrics, or more people"
        )
    return found
