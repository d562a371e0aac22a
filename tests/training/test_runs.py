"""A run belongs to its data and its options, has one writer, and goes on where it stopped."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from syndiff.errors import OptionError, UserError
from syndiff.io.locks import LOCK, only_writer
from syndiff.preparation.manifest import read_manifest
from syndiff.training import history
from syndiff.training.identity import data_identity
from syndiff.training.presets import TrainSettings
from syndiff.training.record import kept_request, read_record
from syndiff.training.run import train
from syndiff.training.watch import load_state
from tests.helpers.reporters import Watching
from tests.helpers.runs import run_of, settings
from tests.helpers.tiny import COUNT, TINY, write_prepared

SUBJECTS = {"train1": "T1 T2", "train2": "T1 T2", "val1": "T1 T2"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("runs") / "data", SUBJECTS, ("T1", "T2"))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    run = tmp_path_factory.mktemp("runs") / "run"
    train(data, run, source="T1", target="T2", settings=settings(max_steps=2), devices="cpu")
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


# --- a run belongs to its data ----------------------------------------------------------------


def test_an_identity_follows_the_values_and_not_the_place(data: Path, tmp_path: Path) -> None:
    first = data_identity(read_manifest(data))
    moved = Path(shutil.copytree(data, tmp_path / "moved"))
    assert data_identity(read_manifest(moved)) == first
    file = next(moved.rglob("*.npy"))
    values = np.load(file)
    values[0, 0, 0] += 2**-10
    np.save(file, values)
    assert data_identity(read_manifest(moved)) != first
    again = Path(shutil.copytree(data, tmp_path / "other"))
    content = json.loads((again / "manifest.json").read_text())
    content["intensity"]["T2"]["training_mean"] += 1.0
    (again / "manifest.json").write_text(json.dumps(content))
    assert data_identity(read_manifest(again)) != first


def test_other_data_are_refused(data: Path, run: Path, tmp_path: Path) -> None:
    before = (run / "settings.json").read_bytes()
    others = write_prepared(tmp_path / "others", SUBJECTS | {"train3": "T1 T2"}, ("T1", "T2"))
    with pytest.raises(OptionError, match="not those of"):
        train(others, run, resume=True, devices="cpu")
    assert (run / "settings.json").read_bytes() == before
    identity = data_identity(read_manifest(data))
    assert json.loads(before)["data"] == identity
    assert load_state(run / "checkpoints/last.pt")["data"] == identity
    configs = list((run / "translators").glob("*/config.json"))
    assert len(configs) == 2
    for config in configs:
        assert json.loads(config.read_text())["training"]["data_identity"] == identity


# --- a resumed run ----------------------------------------------------------------------------


def test_resuming_needs_nothing_repeated(data: Path, run: Path) -> None:
    longer = replace(settings(), max_steps=3)
    asked = kept_request(run)
    assert asked.settings == settings(max_steps=2)
    assert (asked.sources, asked.target) == (("T1",), "T2")
    assert train(data, run, resume=True, devices="cpu").step == 2
    assert train(data, run, settings=longer, resume=True, devices="cpu").step == 3
    assert read_record(run)["max_steps"] == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"generator_lr": 0.5}, r"generator_lr 0\.5; expected generator_lr 0\.001"),
        ({"objective": replace(TINY, steps=5)}, "steps 5; expected steps 4"),
    ],
)
def test_what_contradicts_the_run_is_refused_with_both_values(
    data: Path, run: Path, change: dict, words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        train(data, run, settings=settings(**change), resume=True, devices="cpu")


def test_minutes_go_on_and_lines_of_steps_taken_again_are_dropped(data: Path, run: Path) -> None:
    minutes = float(history.read(run)[-1]["minutes"])
    so_far = load_state(run / "checkpoints/last.pt")["minutes"]  # the validation included
    assert so_far >= minutes - 0.01  # which is rounded in the file
    history.append(run, 4, 99.0, {"T1_to_T2/psnr_db": 1.0})  # killed before its checkpoint
    train(data, run, settings=settings(max_steps=4), resume=True, devices="cpu")
    rows = list(csv.DictReader((run / "history.csv").open()))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert so_far - 0.01 <= float(rows[-1]["minutes"]) < 99


def test_a_run_killed_before_its_first_checkpoint_begins_again(data: Path, tmp_path: Path) -> None:
    run = run_of(data, tmp_path / "run", settings=settings(max_steps=2), devices="cpu")
    shutil.rmtree(run / "checkpoints")  # as if it had been killed between validation and saving
    train(data, run, resume=True, devices="cpu")
    assert [row["step"] for row in history.read(run)] == ["2"]


def test_a_new_run_needs_a_source_and_a_target(data: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no target"):
        train(data, tmp_path / "run", source="T1", settings=settings())
    assert not (tmp_path / "run").exists()


# --- one writer -------------------------------------------------------------------------------


def test_a_second_writer_is_refused(data: Path, run: Path) -> None:
    with only_writer(run), pytest.raises(OptionError, match="another process is writing"):
        train(data, run, resume=True, devices="cpu")
    assert not (run / LOCK).exists()


def test_leftovers_are_no_dead_end(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / ".partial-1-settings.json").write_text("{")
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UserError, match="no run"):
        train(data, run, resume=True, devices="cpu")
    outcome = train(
        data, run, source="T1", target="T2", settings=settings(max_steps=1), devices="cpu"
    )
    assert outcome.step == 1
    assert not list(run.rglob(".partial-*"))


# --- what is drawn from -----------------------------------------------------------------------


def test_everybody_serves_both_sides_and_the_log_says_so(data: Path, tmp_path: Path) -> None:
    told: list[str] = []

    class Phases(Watching):
        def phase(self, name: str) -> None:
            told.append(name)

    chosen = settings(max_steps=1)
    assert TrainSettings().shared_subjects
    run = tmp_path / "run"
    train(data, run, source="T1", target="T2", settings=chosen, report=Phases(), devices="cpu")
    each = f"{2 * COUNT} {{}} slices of 2 people"
    assert f"training on {each.format('T1')}, {each.format('T2')}" in told
    apart = replace(chosen, shared_subjects=False)
    with_one = tmp_path / "apart"
    train(data, with_one, source="T1", target="T2", settings=apart, report=Phases(), devices="cpu")
    assert f"training on {COUNT} T1 slices of 1 person, {COUNT} T2 slices of 1 person" in told


def test_a_batch_is_not_larger_than_the_data(data: Path, tmp_path: Path) -> None:
    most = 2 * COUNT
    wrong = settings(batch_size=most + 1, max_steps=1)
    with pytest.raises(OptionError, match=rf"expected 1 to {most}"):
        train(data, tmp_path / "run", source="T1", target="T2", settings=wrong, devices="cpu")
    assert not (tmp_path / "run").exists()


def test_a_run_keeps_its_precision(data: Path, tmp_path: Path) -> None:
    run = run_of(data, tmp_path / "bf16", precision="bf16", devices="cpu")
    assert json.loads((run / "settings.json").read_text())["precision"] == "bf16"
    assert kept_request(run).precision == "bf16"
    with pytest.raises(OptionError, match="precision 32; expected precision bf16"):
        train(data, run, resume=True, precision="32", devices="cpu")
