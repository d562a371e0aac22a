"""The best checkpoint of each direction, and translators of any checkpoint of a run."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from syndiff.cli import app
from syndiff.errors import OptionError
from syndiff.training.best import Best, better, distribution_error, judged, known_best
from syndiff.training.restore import export_run
from syndiff.training.stored import Average
from syndiff.training.watch import load_state
from syndiff.translators import load_translator
from tests.helpers.runs import run_of, settings
from tests.helpers.tiny import write_prepared

UNPAIRED = {"source_offset_px": 0.5, "way_back_error": 0.2, "distribution_error": 0.3}


def test_pairs_are_judged_by_both_scores_in_decibels() -> None:
    found = judged({"psnr_db": 24.0, "ssim": 0.9, **UNPAIRED})
    assert found is not None
    assert found[0] == pytest.approx((24 + 10) / 2)  # 1 - SSIM = 0.1 are 10 dB
    assert "PSNR" in found[1]
    assert judged({"psnr_db": 24.0, "ssim": 1.0}) is not None  # no logarithm of 0


def test_without_pairs_the_errors_add_up_and_an_unknown_offset_disqualifies() -> None:
    found = judged(UNPAIRED)
    assert found is not None
    assert found[0] == pytest.approx(-(0.2 * 0.5 + 0.2 + 0.3))
    assert "way back" in found[1]
    for worse in UNPAIRED:
        other = judged(UNPAIRED | {worse: UNPAIRED[worse] + 0.1})
        assert other is not None
        assert other[0] < found[0]
    assert judged(UNPAIRED | {"source_offset_px": math.nan}) is None
    assert judged({}) is None


def test_only_a_better_validation_replaces_the_best() -> None:
    first = better(UNPAIRED, 10, None)
    assert first == Best(10, pytest.approx(-0.6), "way back, offset and distribution of values")
    assert better(UNPAIRED, 20, first) is None
    assert better(UNPAIRED | {"way_back_error": 0.1}, 20, first) is not None


def test_distributions_of_values_are_compared_without_pairs() -> None:
    rng = np.random.default_rng(0)
    acquired = rng.random((4, 16, 16), np.float32)
    shuffled = rng.permutation(acquired.ravel()).reshape(acquired.shape)
    assert distribution_error(shuffled, acquired) < 1e-6
    moved = distribution_error(acquired + np.float32(0.1), acquired)
    assert moved == pytest.approx(0.1 / acquired.mean(), rel=1e-4)


def test_an_earlier_runs_best_is_found_in_its_history() -> None:
    rows = [
        {"step": "2", "a/psnr_db": "20", "a/ssim": "0.9", "b/psnr_db": "18", "b/ssim": ""},
        {"step": "4", "a/psnr_db": "30", "a/ssim": "0.9", "b/psnr_db": "28", "b/ssim": "0.9"},
    ]
    found = known_best({"best_step": 2, "best_psnr_db": 19.0}, rows)
    assert set(found) == {"a"}
    assert (found["a"].step, found["a"].score) == (2, pytest.approx(15))


def test_any_checkpoint_of_a_run_can_be_exported(tmp_path: Path) -> None:
    people = dict.fromkeys(("train1", "train2", "val1"), "T1 T2")
    data = write_prepared(tmp_path / "data", people)
    run = run_of(
        data,
        tmp_path / "run",
        settings=settings(max_steps=3, validate_every=1, keep_checkpoints=True),
    )
    for checkpoint, file in (("last", "last.pt"), ("2", "step-000002.pt"), ("best", "")):
        out = tmp_path / checkpoint
        words = ["export", str(run), str(out), "--checkpoint", checkpoint]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.exception
        assert "T2_to_T1" in done.output
        for name, to in (("T1_to_T2", "target"), ("T2_to_T1", "source")):
            made = load_translator(out / name)
            state = load_state(run / "checkpoints" / (file or f"best_{name}.pt"), Average)
            assert made.config["training"]["steps"] == state["step"]
            for key, value in made.network.state_dict().items():
                assert torch.equal(value, state["ema"][f"diffusive_{to}.{key}"])
            if checkpoint == "best":
                theirs = load_translator(run / "translators" / name).config
                assert {**theirs, "training": 0} == {**made.config, "training": 0}
    with pytest.raises(OptionError, match=r"checkpoint. 7.*best, last, 1, 2, 3"):
        export_run(run, tmp_path / "no", "7")
    assert not (tmp_path / "no").exists()
    (run / "cards.json").unlink()  # a run of an earlier version
    assert len(export_run(run, tmp_path / "old", "last")) == 2
