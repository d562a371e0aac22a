"""From scans to a report in one call: what is decided, how it goes on, what it prints."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer.main

from syndiff import cli
from syndiff.errors import OptionError, UserError
from syndiff.io.resumed import same_options
from syndiff.preparation.manifest import read_manifest
from syndiff.training import need, pace, presets, processes
from syndiff.training import run as training_run
from syndiff.training.need import Need
from syndiff.training.pace import Pace
from syndiff.workflow import run as walk
from syndiff.workflow.plan import PresetPlan, in_time, plan, suggested, table
from syndiff.workflow.stages import Teller, options_of, train_stage
from tests.helpers.tiny import TINY

COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset `small` with the smallest networks."""
    small = replace(presets.PRESETS["small"], objective=TINY)
    monkeypatch.setitem(presets.PRESETS, "small", small)


def commands(said: list[str]) -> list[list[str]]:
    """The commands that a walk has printed, as words."""
    return [shlex.split(line.split(":", 1)[1]) for line in said if "by itself:" in line]


def exist(said: list[str]) -> None:
    """Every printed command has options that there are."""
    for _, name, *words in commands(said):
        context = COMMANDS[name].make_context(name, list(words), resilient_parsing=False)
        assert not context.args


@pytest.mark.parametrize(("minutes", "size"), [(1.0, 64), (60.0, 128), (600.0, 256)])
def test_the_minutes_decide_the_size(
    minutes: float, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of two slices of 64×64 takes 0.3 s: 1500 steps of 256×256 two hours."""
    monkeypatch.setattr(pace, "measure_pace", lambda *a, **k: Pace(0.15, 64, 3))
    monkeypatch.setattr(need, "memory_need", lambda *a: Need(1, 1))
    recipe = walk.choose_recipe(minutes, device="cpu")
    assert (recipe.size, recipe.preset) == (size, "small")
    assert recipe.step_seconds == pytest.approx(0.3 * (size / 64) ** 2)


def test_the_memory_decides_the_parts_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "measure_pace", lambda *a, **k: Pace(0.1, 64, 3))
    monkeypatch.setattr(need, "memory_need", lambda *a: Need(100, 100))
    monkeypatch.setattr(need, "room_bytes", lambda device: Need(100, 100).bytes(1))
    recipe = walk.choose_recipe(10, device="cpu")
    assert (recipe.batch_size, recipe.accumulate) == (2, 2)
    monkeypatch.setattr(need, "room_bytes", lambda device: 10)
    with pytest.raises(OptionError, match="one slice at a time"):
        walk.choose_recipe(10, device="cpu")


def test_an_interrupted_walk_goes_on_with_what_was_decided(
    cohort: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    trained: list[dict[str, Any]] = []
    chosen = walk.Recipe("small", 64, 2, 1, 0.5)
    monkeypatch.setattr(walk, "choose_recipe", lambda *a, **k: chosen)
    monkeypatch.setattr(walk, "prepare_stage", lambda *a, **k: read_manifest(prepared))

    def train(*_: object, **how: Any) -> None:
        trained.append(how)
        if len(trained) == 1:
            run = tmp_path / "out" / "run"
            run.mkdir()
            (run / "history.csv").write_text("step,minutes\n5,1.50\n")
            raise KeyboardInterrupt

    monkeypatch.setattr(walk, "train_stage", train)
    mine = {
        "verdict": {"sentence": "mine beats copying"},
        "config": {"training": {"steps": walk.STEPS - 1}},
    }
    scores = {"models": {"mine": mine}, "warnings": []}
    monkeypatch.setattr(walk, "evaluate_stage", lambda *a, **k: scores)
    asked: dict[str, Any] = {"source": "T1", "target": "T2", "minutes": 10.0}

    def go(**more: Any) -> dict[str, Any]:
        return walk.run(cohort, tmp_path / "out", **asked | more, teller=Teller(said.append))

    with pytest.raises(KeyboardInterrupt):
        go()
    monkeypatch.setattr(walk, "choose_recipe", lambda *a, **k: pytest.fail("decided twice"))
    assert go() == scores
    assert trained[0]["changes"] == trained[1]["changes"]
    assert trained[1]["minutes"] == pytest.approx(trained[0]["minutes"] - 1.5)
    assert trained[0]["minutes"] == pytest.approx(10 * (1 - walk.FOR_REPORT), abs=0.2)
    assert go() == scores
    assert len(trained) == 2  # done before
    assert "mine beats copying" in said
    assert any(f"{walk.STEPS - 1} steps only" in line for line in said)
    assert said[-1].startswith("report: ")
    with pytest.raises(OptionError, match="holds a run"):
        go(seed=1)


def test_what_cannot_be_used_leaves_nothing(cohort: Path, tmp_path: Path) -> None:
    for raw, source, target in (
        (cohort, "T1", "T1"),
        (cohort, "T1", "CT"),
        (tmp_path, "T1", "T2"),
    ):
        with pytest.raises(UserError):
            walk.run(raw, tmp_path / "out", source=source, target=target)
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(OptionError, match="not empty"):
        same_options(tmp_path / "run.json", {}, "a run")


def test_options_are_spelled_as_on_the_command_line() -> None:
    values = {"max_steps": 3, "spacing_mm": 3.5, "register_training": False, "resume": True}
    assert options_of(values) == [
        "--max-steps", "3", "--spacing-mm", "3.5", "--no-register-training", "--resume",
    ]  # fmt: skip


@pytest.mark.parametrize("alone", [True, False])
def test_the_minutes_of_a_training_end_its_decay(
    alone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one process; the command that is printed does the same."""
    asked: list[dict[str, Any]] = []

    def train(*folders: Path, **options: Any) -> SimpleNamespace:
        asked.append(options)
        return SimpleNamespace(interrupted=False, step=1, reason="")

    monkeypatch.setattr(training_run, "train", train)
    monkeypatch.setattr(processes, "is_alone", lambda devices, nodes: alone)
    said: list[str] = []
    for _ in range(2):  # begun, and continued
        train_stage(
            Teller(say=said.append), tmp_path, tmp_path, source="T1", target="T2",
            preset="small", minutes=4.0, changes={"seed": 3, "accumulate": None},
        )  # fmt: skip
        (tmp_path / "settings.json").write_text("{}")
    assert asked[0]["settings"].decay_minutes == (4.0 if alone else 0)
    assert asked[1]["settings"] is None  # as the run has it
    first, second = commands(said)
    assert ("--decay-with-minutes" in first) == alone
    assert "--resume" in second
    for _, name, *words in (first, second):
        known = {o for p in COMMANDS[name].params for o in (*p.opts, *p.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known


def test_a_plan_multiplies_steps_and_seconds(prepared: Path, tiny: None) -> None:
    (found,) = plan(prepared, presets=["small"], seconds=0.2, device="cpu")
    train = read_manifest(prepared)
    slices = max(sum(s.count for s in train.scans("train", m)) for m in ("T1", "T2"))
    assert found.steps == found.settings.epochs * -(-slices // found.settings.batch_size)
    assert found.hours == pytest.approx(found.steps * found.step_seconds / 3600)
    assert "small" in table([found])[1]
    short = replace(found, room_bytes=found.need.bytes(1), pace=Pace(1.0, 16, 1))
    assert isinstance(short, PresetPlan)
    assert "`batch_size` 1 fits" in short.remark
    assert "timed at 16×16" in short.remark
    assert "a single step" in short.remark
    year, minute = replace(found, steps=10**9), replace(found, pace=Pace(1e-6, 32, 9))
    assert suggested([year, minute]) is minute
    assert suggested([short, year]) is year  # what does not fit is not suggested
    assert [in_time(h) for h in (0.001, 0.5, 3.44, 240)] == ["1 min", "30 min", "3.4 h", "10 days"]
    with pytest.raises(OptionError, match="PD"):
        plan(prepared, source="PD", presets=["small"])


@pytest.mark.slow  # registers two heads
def test_from_scans_to_a_report(cohort: Path, tmp_path: Path, tiny: None) -> None:
    said: list[str] = []
    out = tmp_path / "out"
    results = walk.run(
        cohort, out, source="T1", target="T2", minutes=0.5, size=32, device="cpu",
        teller=Teller(said.append),
    )  # fmt: skip
    assert set(results["models"]) == {"mine", "copy", "histogram"}
    assert (out / "report" / "report.html").is_file()
    assert (out / "run" / "preview.png").is_file()
    assert json.loads((out / "run.json").read_text())["trained"]
    assert walk.a_scan(cohort, out, "T1").is_file()
    assert [words[1] for words in commands(said)] == ["prepare", "train", "evaluate"]
    exist(said)
    assert any("split 80/10/10 by person" in line for line in said)
    (_, _, data, run, *_) = commands(said)[1]
    assert (Path(data), Path(run)) == (out / "data", out / "run")


@pytest.mark.slow
@pytest.mark.real_data
def test_three_real_people(test_data: Path, tmp_path: Path) -> None:
    """With the defaults, as README says it; on two calm cores within the quarter of an hour."""
    said: list[str] = []
    teller = Teller(said.append)
    out = tmp_path / "out"
    results = walk.run(test_data / "brain_native", out, source="T1", target="T2", teller=teller)
    assert teller.seconds < 15 * 60
    assert (out / "report" / "report.html").is_file()
    assert results["models"]["mine"]["person_means"]["psnr_db"] > 0
    exist(said)
