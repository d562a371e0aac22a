"""Calibrate a translator's trust map on validation people, and measure it on held-out ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from syndiff.errors import OptionError
from syndiff.evaluation import candidates, trust
from syndiff.evaluation.candidates import How
from syndiff.evaluation.pairs import head_finder, paired_cases
from syndiff.evaluation.scoring import Case, Predict, mean_and_deviation
from syndiff.evaluation.trust import Calibration, Signals, Values
from syndiff.io.digest import sha256_of
from syndiff.preparation.manifest import Manifest
from syndiff.reporting import SILENT, Reporter

if TYPE_CHECKING:  # torch is imported only when a translator is read
    from syndiff.translators import Translator

CALIBRATED_ON = "val"
MOST_PIXELS = 50_000  # of one person, for the fit
FIGURES = ("rank_correlation", "sparsification_area", "oracle_area", "ause")


@dataclass(frozen=True)
class Sampler:
    """A translator as functions of prepared slices: its samples, and the way back."""

    samples: Sequence[Predict]
    back: Predict | None

    def signals(self, source: Values) -> tuple[Values, Signals]:
        """The image, which is the first sample, and its signals, (n, h, w) each."""
        made = [predict(source) for predict in self.samples]
        first = source if source.ndim == 3 else source[:, 0]
        returned = None if self.back is None else self.back(made[0])
        return made[0], Signals.of(made, first, returned)


def measured(
    path: Path,
    translator: Translator,
    manifest: Manifest,
    how: How,
    *,
    split: str,
    samples: int,
    keep: bool,
    report: Reporter = SILENT,
) -> dict[str, Any]:
    """Fit on the validation people, measure on those of `split`.

    Args:
        path: the translator's folder, into which `trust.json` goes if `keep` is True.
        split: people who are held out.
        samples: chains of each slice; a translator without noise makes one.

    Raises:
        OptionError: the translator neither draws noise nor has the other direction beside it, or
            `split` is that of the calibration.
        DataError: there are no validation people with both modalities.
    """
    from syndiff.translators import locate

    if split == CALIBRATED_ON:
        raise OptionError(f"`trust` on the split {split}, which calibrates it", "test")
    samples = max(samples, 2) if translator.stochastic else 1
    sampler = _sampler(path, translator, manifest, replace(how, sampling="chain"), samples)
    if samples == 1 and sampler.back is None:
        raise OptionError(
            f"`trust` with {translator.name}, which draws no noise",
            "a method that draws noise, or the other direction's translator beside it",
        )
    known = paired_cases(manifest, CALIBRATED_ON, translator.sources, translator.target)
    held_out = paired_cases(manifest, split, translator.sources, translator.target)
    find = head_finder(manifest.scale(translator.target))
    folder = locate(path)
    report.phase(f"calibrating the trust map on {len(known)} people")
    parts = [_thinned(*found) for found in _inside(known, sampler, find)]
    has_back = parts[0][0].way_back is not None
    calibration = trust.calibrate(
        Signals(
            np.concatenate([s.spread for s, _ in parts]),
            np.concatenate([np.asarray(s.way_back) for s, _ in parts]) if has_back else None,
        ),
        np.concatenate([error for _, error in parts]),
        samples=samples,
        people=len(known),
        weights_sha256=sha256_of(folder / translator.weights),
    )
    if keep:
        calibration.save(folder)
    report.phase(f"measuring the trust map on {len(held_out)} people")
    return figures(calibration, list(_inside(held_out, sampler, find)), held_out)


def figures(
    calibration: Calibration, people: Sequence[tuple[Signals, Values]], cases: Sequence[Case]
) -> dict[str, Any]:
    """What `metrics.json` says of a trust map.

    Args:
        people: of each held-out person the signals and the true error inside the head.
        cases: these people.
    """
    of_each: dict[str, dict[str, Any]] = {}
    for case, (signals, error) in zip(cases, people, strict=True):
        expected = calibration.expected(signals)
        of_each[case.subject] = {
            "rank_correlation": trust.rank_correlation(expected, error),
            **trust.areas(expected, error),
        }
    all_expected = np.concatenate([calibration.expected(signals) for signals, _ in people])
    all_errors = np.concatenate([error for _, error in people])
    means = {n: mean_and_deviation(one[n] for one in of_each.values())[0] for n in FIGURES}
    return {
        "calibration": calibration.model_dump(),
        **means,
        "reliability": trust.reliability(all_expected, all_errors),
        "subjects": of_each,
    }


def _sampler(
    path: Path, translator: Translator, manifest: Manifest, how: How, samples: int
) -> Sampler:
    back = candidates.other_direction(path, translator)

    def scaled(one: Translator, seed: int) -> Predict:
        predict = candidates.predictor(one, replace(how, seed=seed))
        return candidates.in_its_scale(predict, one, manifest)

    chains = [scaled(translator, how.seed + k) for k in range(samples)]
    return Sampler(chains, scaled(back, how.seed) if back else None)


def _inside(
    cases: Sequence[Case], sampler: Sampler, find: Any
) -> Iterator[tuple[Signals, Values]]:
    """Of each person the signals and the true absolute error of the pixels inside the head."""
    for case in cases:
        source, reference = case.load()
        head = case.mask() if case.mask is not None else find(reference)
        made, signals = sampler.signals(source)
        yield signals.inside(head), np.abs(made - reference)[head]


def _thinned(signals: Signals, error: Values) -> tuple[Signals, Values]:
    """At most about `MOST_PIXELS`, evenly taken, so that every person counts the same."""
    step = max(1, len(error) // MOST_PIXELS)
    back = None if signals.way_back is None else signals.way_back[::step]
    return Signals(signals.spread[::step], back), error[::step]
