"""Two phases, a decay by minutes, a run as a file, pairs from another folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from syndiff.cli import app
from syndiff.errors import DataError, OptionError, UserError
from syndiff.objectives.base import Batch, Draw
from syndiff.objectives.methods import method_of
from syndiff.objectives.syndiff import SynDiff
from syndiff.preparation.manifest import read_manifest
from syndiff.training import pace
from syndiff.training import run as run_module
from syndiff.training.data import training_batches
from syndiff.training.module import TranslationModule
from syndiff.training.pace import Pace, measure_pace
from syndiff.training.presets import PRESETS, TrainSettings
from syndiff.training.run import train
from syndiff.training.run_config import read_config, settings_of
from syndiff.training.watch import load_state
from syndiff.translators import AdversarialDiffusionTranslator, OneShotTranslator, load_translator
from tests.helpers.methods import METHODS, batch, build, losses_of
from tests.helpers.runs import run_of, settings
from tests.helpers.tiny import TINY, write_prepared

PEOPLE = dict.fromkeys(("train1", "train2", "val1"), "T1 T2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("recipe") / "data", PEOPLE)


# --- two phases -----------------------------------------------------------------------------

TWO_PHASES = replace(TINY, one_shot_first=0.5)


def test_the_one_shot_module_is_alone_first() -> None:
    torch.manual_seed(0)
    objective = SynDiff(TWO_PHASES)
    objective.second_phase = 2
    terms = {step: losses_of(objective, batch(), step) for step in (0, 1, 2)}
    for step in (0, 1):
        assert not any("diffusive" in name or "penalty" in name for name in terms[step])
        assert any("one_shot" in name for name in terms[step])
    assert set(terms[2]) == set(losses_of(SynDiff(TINY), batch(), 2))
    objective.settings = replace(TWO_PHASES, one_shot_frozen=True)
    frozen = set(losses_of(objective, batch(), 2))
    assert frozen == {
        name for name in terms[2] if "one_shot" not in name and "structure" not in name
    }
    assert set(losses_of(objective, batch(), 1)) == set(terms[1])
    assert [objective.is_final(step) for step in (1, 2, 3)] == [False, False, True]
    assert PRESETS["paper"].objective.one_shot_first == 0
    assert PRESETS["github"].objective.one_shot_first == 0


def test_two_phases_are_one_run_that_resumes_exactly(data: Path, tmp_path: Path) -> None:
    chosen = settings(objective=TWO_PHASES, validate_every=1)
    whole = run_of(data, tmp_path / "whole", settings=chosen)
    part = run_of(data, tmp_path / "part", settings=chosen, max_minutes=1e-6)  # one step
    first = load_translator(part / "translators/T1_to_T2")
    assert isinstance(first, OneShotTranslator)
    run_of(data, part, settings=chosen, resume=True)
    states = [load_state(run / "checkpoints/last.pt") for run in (whole, part)]
    for group in ("generators", "discriminators", "ema"):
        for name, value in states[0][group].items():
            assert torch.equal(value, states[1][group][name]), name
    for name in ("T1_to_T2", "T2_to_T1"):
        made = load_translator(whole / "translators" / name)
        assert isinstance(made, AdversarialDiffusionTranslator)
        assert made.config["training"]["steps"] > 2  # the first phase has no best checkpoint
    prolonged = run_of(data, part, settings=replace(chosen, max_steps=5), resume=True)
    assert load_state(prolonged / "checkpoints/last.pt")["second_phase"] == 2


def test_a_run_with_one_module_has_one_phase() -> None:
    for alone in ({"one_shot_epochs": 0.0}, {"diffusive": False}):
        objective = SynDiff(replace(TWO_PHASES, **alone))
        assert objective.in_last_phase(0)
        assert set(losses_of(objective, batch(), 0)) == set(
            losses_of(SynDiff(replace(TINY, **alone)), batch(), 0)
        )
    with pytest.raises(OptionError, match="one_shot_first"):
        replace(TINY, one_shot_first=1.0)


def test_each_phase_has_its_own_decay_and_average() -> None:
    chosen = settings(objective=TWO_PHASES, final_lr=0.0, ema_decay=0.999, ema_warmup=10)
    module = TranslationModule(SynDiff(TWO_PHASES), chosen, 1000)
    rates = []
    for step in (0, 250, 499, 500, 750, 999):
        module.step = step
        module._begin_phase()
        rates.append(module.rate(1.0))
    assert rates == pytest.approx([1, 0.5, 0, 1, 0.5, 0], abs=1e-4)
    assert module.objective.second_phase == 500
    before = {name: value.clone() for name, value in module.ema.state_dict().items()}
    with torch.no_grad():
        for value in module.objective.generators.parameters():
            value.add_(1)
    module.step = 500
    module._update_ema()  # as at a run's first step: a tenth of what the average was
    for name, value in module.ema.named_parameters():
        torch.testing.assert_close(value, before[name] + 0.9)


def test_the_second_phase_begins_with_the_minutes() -> None:
    chosen = settings(objective=TWO_PHASES, decay_minutes=10.0)
    module = TranslationModule(SynDiff(TWO_PHASES), chosen, 1000)
    for module.step, module.minutes in ((3, 4.9), (4, 5.1), (5, 5.2)):
        module._begin_phase()
    assert module.objective.second_phase == 4


# --- decay ----------------------------------------------------------------------------------


def test_a_decay_ends_with_the_minutes_or_with_the_steps() -> None:
    chosen = settings(decay_minutes=10.0, final_lr=1e-5, generator_lr=1e-3)
    module = TranslationModule(build("cyclegan"), chosen, 1000)
    found = []
    for step, minutes in ((0, 0.0), (10, 5.0), (10, 10.0), (1000, 1.0), (10, 12.0)):
        module.step, module.minutes = step, minutes
        found.append(module.rate(1e-3))
    assert found == pytest.approx([1e-3, (1e-3 + 1e-5) / 2, 1e-5, 1e-5, 1e-5])


@pytest.mark.parametrize(
    ("words", "minutes"),
    [
        (["--max-minutes", "7"], 7.0),
        (["--max-minutes", "7", "--decay-with-steps"], 0.0),
        (["--max-minutes", "7", "--max-steps", "3"], 0.0),
        (["--max-minutes", "7", "--max-steps", "3", "--decay-with-minutes"], 7.0),
        (["--max-minutes", "7", "--epochs", "2"], 0.0),
        (["--max-minutes", "7", "--devices", "2"], 0.0),
        (["--max-steps", "3"], 0.0),
    ],
)
def test_minutes_alone_end_the_decay(
    words: list[str], minutes: float, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[TrainSettings] = []

    def fit(*folders: Path, settings: TrainSettings, **options: object) -> None:
        asked.append(settings)
        raise OptionError("enough", "no training")

    monkeypatch.setattr(run_module, "train", fit)
    CliRunner().invoke(app, ["train", str(data), str(tmp_path / "run"), *words])
    assert [settings.decay_minutes for settings in asked] == [minutes]


def test_the_pace_of_two_phases_is_their_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def timed(lone: Any, size: int, seconds: float) -> Pace:
        seen.append(lone.module.objective.in_last_phase(0))
        return Pace(2.0 if seen[-1] else 1.0, size, 5)

    monkeypatch.setattr(pace, "_timed", timed)
    chosen = settings(objective=replace(TWO_PHASES, one_shot_first=0.75))
    found = measure_pace(chosen, 32, seconds=1.0, device=torch.device("cpu"))
    assert found == Pace(1.25, 32, 10)
    assert seen == [True, False]
    assert measure_pace(settings(), 32, seconds=1.0, device=torch.device("cpu")).steps == 5


# --- a run as a file ------------------------------------------------------------------------


def test_a_run_can_be_made_again_from_its_file(data: Path, tmp_path: Path) -> None:
    objective = replace(METHODS["attgan"][1], image_pool=3)
    chosen = settings(objective=objective, max_steps=1, final_lr=None, augment=False)
    first = run_of(data, tmp_path / "first", settings=chosen, preset="small")
    again = tmp_path / "again"
    words = ["train", str(data), str(again), "--config", str(first / "run.yaml"), "--seed", "7"]
    done = CliRunner().invoke(app, [*words, "--generator-lr", "0.002", "--image-pool", "0"])
    assert done.exit_code == 0, done.exception
    records = [json.loads((run / "settings.json").read_text()) for run in (first, again)]
    changed = {"seed": 7, "generator_lr": 0.002}
    records[0]["objective"]["image_pool"] = 0
    assert records[1] == records[0] | changed  # what is typed goes before


def test_a_file_may_be_short_and_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("preset: small\ngenerator_lr: 1e-4\nobjective:\n  generator: {channels: 8}\n")
    found = settings_of(read_config(path))
    assert found.generator_lr == 1e-4
    assert found.objective.generator.channels == 8
    assert found.objective.structure == PRESETS["small"].objective.structure
    for text, words in (
        ("generator_rl: 0.1", "generator_rl.*perhaps generator_lr"),
        ("epochs: many", "epochs is 'many'"),
        ("generator_lr: -1.0", "generator_lr is -1.0"),
        ("- a", "it holds"),
        ("a: [", "is no YAML in line"),
        ("objective: {structur: 1}", "perhaps structure"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=words) as caught:
            settings_of(read_config(path))
        assert "\n" not in str(caught.value)


# --- pairs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in METHODS if name != "syndiff"])
def test_every_method_learns_from_pairs_where_there_are_some(name: str) -> None:
    objective = build(name, awake=True)
    assert method_of(METHODS[name][1]).pairs
    images = batch()
    kinds = {}
    for kind, paired in (("none", (0, 0)), ("some", (1, 0)), ("all", (1, 1))):
        part = Batch(images.source, images.target, torch.tensor(paired, dtype=torch.bool))
        kinds[kind] = losses_of(objective, part)
    pixel = {"generators/pixel_source", "generators/pixel_target"}
    cycle = {"generators/cycle_source", "generators/cycle_target"} & set(kinds["none"])
    assert not pixel & set(kinds["none"])
    assert pixel | cycle <= set(kinds["some"])
    assert pixel <= set(kinds["all"])
    assert not cycle & set(kinds["all"])
    for term in pixel:  # a mean over the batch, in which unpaired samples count as 0
        assert 0 < kinds["some"][term] < kinds["all"][term]


def test_the_pixel_loss_by_hand() -> None:
    objective = build("cyclegan", awake=True)
    images = batch()
    paired = Batch(images.source, images.target, torch.tensor([True, False]))
    fakes = objective.generate(paired, Draw(0, 0))
    terms = objective.generator_losses(paired, fakes, Draw(0, 0))
    difference = (fakes["translated"]["target"][0] - images.target[0]).abs().mean() / 2
    torch.testing.assert_close(terms["pixel_target"], 100 * difference)
    back = (fakes["round_trip"]["source"][1] - images.source[1]).abs().mean() / 2
    torch.testing.assert_close(terms["cycle_source"], 100 * back)


def test_pairs_come_from_another_folder_in_the_share_that_is_asked_for(
    data: Path, tmp_path: Path
) -> None:
    real = write_prepared(tmp_path / "real", {"train1": "T1", "train2": "T2", "val1": "T1 T2"})
    drawn = training_batches(
        read_manifest(real), ("T1",), "T2", pairing="mixed", shared=True, batch_size=2, seed=0,
        augment=False, pairs_of=read_manifest(data), pair_share=0.75,
    )  # fmt: skip
    epoch = [bool(p) for step in range(drawn.steps_per_epoch) for p in drawn[step].paired]
    assert (drawn.positions, sum(epoch)) == (20, 15)  # five unpaired slices a side
    chosen = settings(objective=METHODS["attgan"][1], max_steps=2, pairing="mixed", pair_share=0.5)
    run = run_of(real, tmp_path / "run", settings=chosen, pairs_from=data)
    assert json.loads((run / "settings.json").read_text())["pairs_from"] == str(data)
    run_of(real, run, settings=replace(chosen, max_steps=3), resume=True)  # known to the run
    with pytest.raises(OptionError, match="pairs_from"):
        run_of(real, tmp_path / "no", settings=settings(), pairs_from=data)
    other = write_prepared(tmp_path / "other", PEOPLE)
    content = json.loads((other / "manifest.json").read_text())
    for part in (content, *(scan["grid"] for scan in content["scans"])):
        part["spacing_mm"] = 3.0
    (other / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"3\.0 mm"):
        run_of(real, tmp_path / "no", settings=chosen, pairs_from=other)
    assert not (tmp_path / "no").exists()


def test_aligned_slices_are_one_slice_that_no_loss_knows_of(data: Path) -> None:
    drawn = training_batches(
        read_manifest(data), ("T1",), "T2", pairing="aligned", shared=True, batch_size=2, seed=0,
        augment=False,
    )  # fmt: skip
    found = drawn[0]
    assert torch.equal(found.source[..., 0, 0], found.target[..., 0, 0])  # which slice it is
    assert not found.paired.any()


def test_every_value_has_an_option_or_a_name(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["train", str(data), str(run), "--method", "cyclegan", "--preset", "small"]
    words += ["--max-steps", "1", "--final-lr", "none", "--no-augment", "--image-pool", "2"]
    words += ["--ema-decay", "0", "--epochs", "3", "--linear-decay-epochs", "2"]
    words += ["--generator-lr", "0.001", "--discriminator-lr", "0.002", "--keep-checkpoints"]
    words += ["--set", "channels=4", "--set", "blocks=1", "--set", "adam_betas=0.4,0.8"]
    done = CliRunner().invoke(app, [*words, "--max-minutes", "5", "--decay-with-minutes"])
    assert done.exit_code == 0, done.exception
    found = yaml.safe_load((run / "run.yaml").read_text())
    assert found["final_lr"] is None
    assert found["augment"] is False
    assert found["objective"]["image_pool"] == 2
    assert (found["ema_decay"], found["epochs"], found["linear_decay_epochs"]) == (0, 3, 2)
    assert (found["generator_lr"], found["discriminator_lr"]) == (0.001, 0.002)
    assert (found["keep_checkpoints"], found["decay_minutes"]) == (True, 5.0)
    assert found["adam_betas"] == [0.4, 0.8]
    with pytest.raises(OptionError, match="pair_share"):
        train(data, tmp_path / "no", source="T1", target="T2", settings=settings(pair_share=0.5))
