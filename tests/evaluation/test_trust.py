"""Trust maps: closed forms of the statistics, calibration, and a planted hallucination."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from syndiff.errors import ModelError, OptionError
from syndiff.evaluation.evaluate import evaluate
from syndiff.evaluation.trust import (
    FILE_NAME,
    Calibration,
    Signals,
    areas,
    calibrate,
    rank_correlation,
    reliability,
    sparsification,
)
from syndiff.evaluation.trusted import Sampler
from tests.helpers.runs import run_of
from tests.helpers.tiny import write_prepared

N = 1000
UNIFORM = (np.arange(N) + 1) / N


def test_rank_correlation_sees_only_the_order() -> None:
    assert rank_correlation(np.exp(UNIFORM), UNIFORM**3) == pytest.approx(1)
    assert rank_correlation(-UNIFORM, UNIFORM) == pytest.approx(-1)
    assert rank_correlation(
        np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 1, 4, 3, 5])
    ) == pytest.approx(0.8)
    assert rank_correlation(np.zeros(N), UNIFORM) is None


def test_sparsification_has_its_closed_forms() -> None:
    """Uniform errors: what remains has the mean (1 - f) / 2 at best and (1 + f) / 2 at worst."""
    left_out = np.arange(N) / N
    at_best = sparsification(UNIFORM, UNIFORM)
    np.testing.assert_allclose(at_best, (1 - left_out + 1 / N) / (1 + 1 / N), rtol=1e-12)
    at_worst = sparsification(-UNIFORM, UNIFORM)
    np.testing.assert_allclose(at_worst, (1 + left_out + 1 / N) / (1 + 1 / N), rtol=1e-12)
    np.testing.assert_allclose(sparsification(np.ones(N), UNIFORM), 1, rtol=1e-12)  # ties
    assert areas(-UNIFORM, UNIFORM)["ause"] == pytest.approx(1, abs=2 / N)
    assert areas(UNIFORM, UNIFORM)["ause"] == 0
    assert areas(UNIFORM, UNIFORM)["oracle_area"] == pytest.approx(0.5, abs=1 / N)
    assert areas(UNIFORM, np.zeros(N))["ause"] is None


def test_sparsification_does_not_depend_on_the_order_of_pixels() -> None:
    rng = np.random.default_rng(0)
    doubt, error = rng.integers(0, 5, N).astype(float), rng.random(N)
    order = rng.permutation(N)
    np.testing.assert_allclose(
        sparsification(doubt[order], error[order]), sparsification(doubt, error), rtol=1e-12
    )


def test_reliability_compares_groups_of_equal_size() -> None:
    rows = reliability(2 * UNIFORM, UNIFORM, bins=4)
    assert [row["pixels"] for row in rows] == [N / 4] * 4
    assert [row["expected"] / row["true"] for row in rows] == pytest.approx([2] * 4)


def test_calibration_finds_the_weights_that_made_the_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    signals = Signals(rng.random(N), rng.random(N))
    made = 0.02 + 0.7 * signals.spread + 0.3 * np.asarray(signals.way_back)
    found = calibrate(signals, made, samples=4, people=2, weights_sha256="0" * 64)
    assert (found.floor, found.of_spread, found.of_way_back) == pytest.approx((0.02, 0.7, 0.3))
    np.testing.assert_allclose(found.expected(signals), made, rtol=1e-6)
    found.save(tmp_path)
    assert Calibration.read(tmp_path) == found
    content = json.loads((tmp_path / FILE_NAME).read_text())
    (tmp_path / FILE_NAME).write_text(json.dumps(content | {"floor": -1}))
    with pytest.raises(ModelError, match="floor"):
        Calibration.read(tmp_path)


def test_a_signal_against_the_error_gets_no_weight() -> None:
    signals = Signals(1 - UNIFORM, None)
    found = calibrate(signals, UNIFORM, samples=2, people=1, weights_sha256="")
    assert (found.of_spread, found.of_way_back) == (0, None)
    assert found.floor == pytest.approx(UNIFORM.mean())


def test_a_planted_hallucination_lights_up() -> None:
    """A blob that the source does not have: the samples agree on it, the way back shows it."""
    rng = np.random.default_rng(2)
    source = rng.random((2, 64, 64))
    blob = np.zeros(source.shape, bool)
    blob[:, 20:28, 30:38] = True

    def chain(seed: int):
        noise = np.random.default_rng(seed).normal(0, 0.02, source.shape)
        return lambda slices: np.where(blob, 1.8, 1 - slices + noise)

    sampler = Sampler([chain(k) for k in range(4)], back=lambda made: 1 - made)
    made, signals = sampler.signals(source)
    weights = Calibration(
        floor=0, of_spread=1, of_way_back=1, samples=4, people=1, pixels=1, weights_sha256=""
    )
    expected = weights.expected(signals)
    assert expected[blob].mean() > 10 * expected[~blob].mean()
    assert rank_correlation(expected.ravel(), np.abs(made - (1 - source)).ravel()) > 0
    lit = expected > np.quantile(expected, 1 - blob.mean())
    assert (lit & blob).sum() / blob.sum() > 0.9
    alone = Signals.of([made, made], source, None)  # spread alone is blind to it
    assert not alone.spread[blob].any()


def test_a_run_is_evaluated_with_its_trust_map(tmp_path: Path) -> None:
    people = dict.fromkeys(("train1", "val1", "test1"), "T1 T2")
    data = write_prepared(tmp_path / "data", people)
    model = run_of(data, tmp_path / "run") / "translators/T1_to_T2"
    models = {"mine": model}
    found = evaluate(data, tmp_path / "report", models=models, trust=2, profile="paper")
    known = found["models"]["mine"]["trust"]
    assert known["calibration"]["samples"] == 2
    assert known["calibration"]["people"] == 1
    assert list(known["subjects"]) == ["test1"]
    assert -1 <= known["rank_correlation"] <= 1
    assert known["ause"] >= 0  # the oracle's order is the best one
    assert json.loads((model / "trust.json").read_text()) == known["calibration"]
    assert "trust" in (tmp_path / "report/report.html").read_text().lower()
    with pytest.raises(OptionError, match="val"):
        evaluate(data, tmp_path / "no", models=models, trust=2, profile="paper", split="val")
