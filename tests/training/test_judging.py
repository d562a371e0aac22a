"""While one trains: the budget, baselines beside the figures, balance, preview, memory, pace."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from syndiff import losses
from syndiff.benchmark.counting import count
from syndiff.benchmark.workloads import BenchmarkSetup, OurStep
from syndiff.errors import OptionError
from syndiff.evaluation.metrics import get_profile, psnr
from syndiff.memory import available_bytes
from syndiff.preparation.manifest import read_manifest
from syndiff.training import run as running
from syndiff.training.balance import balance, in_words
from syndiff.training.beside import baseline_scores
from syndiff.training.budget import MARGIN, Budget
from syndiff.training.need import (
    GAPS,
    Need,
    fitting_batch,
    memory_need,
    say_need,
    what_fits,
)
from syndiff.training.pace import Pace, measure_pace
from syndiff.training.progress import Progress
from syndiff.training.validation import validation_slices
from tests.helpers.methods import batch, build, every_method, losses_of
from tests.helpers.reporters import Watching
from tests.helpers.runs import run_of, settings


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_budget_keeps_room_for_the_end() -> None:
    clock = Clock()
    budget = Budget(100.0, clock=clock)
    budget.expect("validating", 20.0)
    budget.expect("saving", 4.0)
    with budget.timed("saving"):  # what is measured replaces what was expected
        clock.now += 2.0
    clock.now += 8.0
    budget.pause()
    clock.now += 10.0
    budget.step()
    assert budget.durations == {"validating": 20.0, "saving": 2.0, "step": 10.0}
    assert budget.left == 80.0
    assert budget.closing == pytest.approx(MARGIN * 22.0)
    clock.now = 100.0 - MARGIN * 32.0 - 0.01
    assert not budget.over()
    clock.now += 0.02
    assert budget.over()
    assert budget.can_validate()
    clock.now = 91.0
    assert not budget.can_validate()


def test_what_remains_counts_validations_and_ends_with_the_budget() -> None:
    clock = Clock()
    free, short = Budget(None, clock=clock), Budget(50.0, clock=clock)
    for budget in (free, short):
        budget.durations = {"step": 2.0, "validating": 10.0, "saving": 1.0, "exporting": 3.0}
    assert free.remaining(20, 2) == 20 * 2 + 2 * 11 + 3
    assert short.remaining(20, 2) == 50.0
    assert not free.over()


def test_minutes_hold_for_validation_and_export(prepared: Path, tmp_path: Path) -> None:
    """With a clock on which a step takes 10 s and a validated direction 30 s."""
    clock, seen = Clock(), []

    class Slow(Watching):
        def phase(self, name: str) -> None:
            clock.now += 30.0 if name.startswith("validating") else 0.0
            seen.append(name)

    class Ticking(Budget):
        def step(self) -> None:
            clock.now += 10.0
            super().step()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Budget", partial(Ticking, clock=clock))
        chosen = settings(max_steps=100, validate_every=4)
        outcome = running.train(
            prepared, tmp_path / "run", source="T1", target="T2", settings=chosen,
            max_minutes=4.0, report=Slow(),
        )  # fmt: skip
    assert outcome.reason == "out of time"
    assert clock.now <= 240.0
    assert clock.now >= 240.0 - MARGIN * (10 + 60) - 10
    assert outcome.translators
    assert seen.index("validating T1_to_T2") < seen.index("saving") < seen.index("exporting")


def test_baselines_stand_beside_every_validation(prepared: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    run = run_of(prepared, tmp_path / "run", report=Watching(lambda s: lines.append(s.line())))
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    manifest = read_manifest(prepared)
    slices = validation_slices(manifest, ("T1",), "T2")
    expected = baseline_scores(manifest, slices, "T1", "T2")
    copied = [
        psnr(a, b, get_profile("fixed"))
        for a, b in zip(slices.sources["T1"][:, 0], slices.references["T2"], strict=True)
    ]
    assert math.isfinite(sum(copied))
    for row in rows:
        for key, value in expected.items():
            assert float(row[f"T1_to_T2/{key}"]) == pytest.approx(value, abs=1e-4)
    assert {"copy_psnr_db", "copy_ssim", "histogram_psnr_db", "histogram_ssim"} == set(expected)
    assert (run / "preview.png").read_bytes().startswith(b"\x89PNG")
    assert (run / "curves.png").is_file()
    shown = Progress(1, 2, {}, {k: float(v) for k, v in rows[-1].items() if v}).line()
    assert f"copy {expected['copy_psnr_db']:.2f}" in shown
    assert any("D and G in balance" in line or "D at chance" in line for line in lines)


def test_discriminators_at_chance() -> None:
    zeros, halves = torch.zeros(3), torch.full((3,), 0.5)
    at = losses.adversarial_discriminator(zeros, zeros).item()
    assert at == pytest.approx(losses.SOFTPLUS_AT_CHANCE, rel=1e-6)
    at = losses.least_squares_discriminator(halves, halves).item()
    assert at == pytest.approx(losses.LEAST_SQUARES_AT_CHANCE)


@every_method
def test_terms_at_chance_are_terms(name: str) -> None:
    chance = build(name).at_chance()
    terms = {key for key in losses_of(build(name), batch()) if key.startswith("discriminators/")}
    assert {f"discriminators/{term}" for term in chance} <= terms
    assert bool(chance) == bool(terms)


def test_balance_in_a_word() -> None:
    chance = {"a": 2.0, "b": 4.0, "absent": 1.0}
    parts = balance({"discriminators/a": 1.0, "discriminators/b": 4.0}, chance)
    assert parts == {"a": 0.5, "b": 1.0}
    assert in_words(parts) == "D at chance: b"
    assert in_words({"a": 0.5}) == "D and G in balance"
    assert in_words({"a": 0.05}) == "D far ahead of G: a"
    assert in_words({}) == ""


def test_memory_is_what_a_step_holds() -> None:
    """Beside a whole step of fake tensors, whose every allocation is seen: within a tenth."""
    size, slices = 32, 2
    chosen = settings(batch_size=slices)
    setup = BenchmarkSetup("syndiff", chosen, size, slices, "32")
    (held,) = count(partial(OurStep, setup, torch.device("cpu")), (0,))
    estimated = memory_need(chosen, (size, size)).bytes(slices) / GAPS
    assert estimated == pytest.approx(held.peak_bytes, rel=0.1)


def test_memory_that_is_not_there_is_refused_with_what_fits() -> None:
    need, chosen = Need(100, 10), settings(batch_size=8)
    assert need.bytes(8) == round(GAPS * 180)
    assert need.most_slices(need.bytes(4)) == 4
    heard = Watching()
    say_need(chosen, need, need.bytes(8), heard)
    say_need(chosen, need, None, heard)
    assert not heard.warnings
    say_need(chosen, need, need.bytes(4), heard)  # nearly: a warning
    assert "`batch_size` 4 fits; so does `accumulate` 2" in heard.warnings[0]
    with pytest.raises(OptionError, match="not even one slice"):
        say_need(chosen, need, 100, heard)
    say_need(chosen, replace(need, upper=True), 100, heard)  # an upper bound refuses nothing
    assert "at most" in heard.warnings[1]
    assert "recompute" in what_fits(chosen, need, 100)
    assert fitting_batch(chosen, need, need.bytes(2)).accumulate == 4
    assert fitting_batch(chosen, need, None) == chosen
    with pytest.raises(OptionError, match="one slice at a time"):
        fitting_batch(chosen, need, 100)


def test_a_training_that_cannot_fit_leaves_nothing(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "room_bytes", lambda device: 1000)
    with pytest.raises(OptionError, match="memory"):
        run_of(prepared, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_available_memory_is_some() -> None:
    found = available_bytes()
    assert found is None or 2**20 < found < 2**50


def test_pace_is_of_a_slice_and_grows_with_the_pixels() -> None:
    found = measure_pace(settings(), 32, seconds=0.5, device=torch.device("cpu"))
    assert (found.size, found.steps > 0, found.seconds_per_slice > 0) == (32, True, True)
    assert Pace(0.5, 64, 3).step_seconds(2, 128) == 0.5 * 2 * 4
