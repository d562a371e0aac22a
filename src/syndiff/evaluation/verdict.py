"""Compare each model with the best of the baselines, by five measures.

PSNR alone rewards blurred, featureless images: their squared error is small, while SSIM, mean
error and outline are worse than those of a copy. A verdict therefore uses PSNR, SSIM, mean
error, offset and outline, as means over subjects. It states in how many of them the model is
better than the better baseline. Differences below a margin count as equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from syndiff.anatomy.check import WARN_PX
from syndiff.evaluation.baselines import BASELINES
from syndiff.evaluation.metrics import METRICS
from syndiff.evaluation.persons import OUTLINE

OFFSET, OFFSET_MARGIN_PX, OUTLINE_MARGIN = "offset_px", 0.1, 0.02
Standing = Literal["better", "equal", "worse", "unknown"]


@dataclass(frozen=True)
class Measure:
    """One measure of a model, compared with the better baseline.

    Attributes:
        key: the key of the value in a model's entry, or in its `person_means`.
        title: the measure's name in sentences.
        model, baseline: the two values as text, with their unit.
        best_baseline: the name of the better baseline.
        standing: whether the model is better than, equal to or worse than the baseline.
    """

    key: str
    title: str
    model: str
    baseline: str
    best_baseline: str
    standing: Standing


@dataclass(frozen=True)
class Verdict:
    """The comparison of one model with the baselines.

    Attributes:
        name: the model's name.
        measures: the five measures.
        judgement: the conclusion in one clause.
    """

    name: str
    measures: tuple[Measure, ...]
    judgement: str

    def titles(self, standing: Standing) -> list[str]:
        """The titles of the measures with this standing."""
        return [m.title for m in self.measures if m.standing == standing]

    def sentence(self) -> str:
        """The verdict in words."""
        better, known = self.titles("better"), [m for m in self.measures if _known(m)]
        parts = [f"beats the better baseline in {len(better)} of {len(known)} measures"]
        if better:
            parts[0] += f" ({', '.join(better)})"
        words: tuple[tuple[Standing, str], ...] = (
            ("equal", "equals it in"), ("worse", "is worse in"), ("unknown", "has no"),
        )  # fmt: skip
        parts += [
            f"{word} {', '.join(titles)}"
            for kind, word in words
            for titles in [self.titles(kind)]
            if titles
        ]
        return f"{self.name} {'; it '.join(parts)}: {self.judgement}."

    def to_dict(self) -> dict[str, Any]:
        """For `metrics.json`."""
        return {
            "better": [m.key for m in self.measures if m.standing == "better"],
            "equal": [m.key for m in self.measures if m.standing == "equal"],
            "worse": [m.key for m in self.measures if m.standing == "worse"],
            "unknown": [m.key for m in self.measures if m.standing == "unknown"],
            "judgement": self.judgement,
            "sentence": self.sentence(),
        }


def verdicts(models: Mapping[str, Mapping[str, Any]]) -> list[Verdict]:
    """The verdict on each trained model.

    Args:
        models: name → entry in `metrics.json`, including the baselines.
    """
    return [_verdict(name, models) for name, e in models.items() if e["kind"] == "model"]


def _verdict(name: str, models: Mapping[str, Mapping[str, Any]]) -> Verdict:
    means = {n: entry["person_means"] for n, entry in models.items()}
    offsets = {n: entry["offset_px"] for n, entry in models.items()}
    outlines = {n: mean.get(OUTLINE) for n, mean in means.items()}
    found = []
    for metric in METRICS.values():
        if metric.margin is None:
            continue
        values = {n: mean[metric.name] for n, mean in means.items()}
        shown = {n: f"{metric.shown(v)} {metric.unit}".strip() for n, v in values.items()}
        higher = metric.better == "higher"
        found.append(
            _measure(metric.name, metric.title, name, values, shown, metric.margin, higher)
        )
    shown = {n: "unknown" if v is None else f"{v:.2f} px" for n, v in offsets.items()}
    found.append(_measure(OFFSET, "offset", name, offsets, shown, OFFSET_MARGIN_PX, False))
    shown = {n: "unknown" if v is None else f"{v:.3f}" for n, v in outlines.items()}
    found.append(_measure(OUTLINE, "outline", name, outlines, shown, OUTLINE_MARGIN, True))
    return Verdict(name, tuple(found), _judgement(found, offsets[name]))


def _measure(
    key: str,
    title: str,
    name: str,
    values: Mapping[str, float | None],
    shown: Mapping[str, str],
    margin: float,
    higher: bool,
) -> Measure:
    """Compare a model's value with that of the better baseline."""
    known = {n: v for n in BASELINES if (v := values.get(n)) is not None}
    mine = values[name]
    if mine is None or not known:
        return Measure(key, title, shown[name], "unknown", "", "unknown")
    best = (max if higher else min)(known, key=lambda n: known[n])
    gain = mine - known[best] if higher else known[best] - mine
    standing: Standing = "equal" if abs(gain) < margin else "better" if gain > 0 else "worse"
    return Measure(key, title, shown[name], shown[best], best, standing)


def _judgement(measures: list[Measure], offset_px: float | None) -> str:
    """The conclusion from the five measures."""
    scores = [m.standing for m in measures if m.key in METRICS]
    worse = [m.key for m in measures if m.standing == "worse"]
    if offset_px is None:
        return "it shares too little with the acquired images for its place to be measured"
    if OFFSET in worse and offset_px >= WARN_PX:
        return "it moves the anatomy; do not use it"
    if scores.count("better") == len(scores):
        if OUTLINE in worse:
            return "closer than the baselines, but the head's outline has changed"
        return "closer to the acquired images than the baselines in every score"
    if scores.count("better") > scores.count("worse"):
        return "closer than the baselines in some scores only; look at the pictures"
    return "no better than what needs no training"


def _known(measure: Measure) -> bool:
    return measure.standing != "unknown"
