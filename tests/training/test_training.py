"""Training: unpaired batches, alternating players, resuming, saving, exporting."""

from __future__ import annotations

import csv
import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from syndiff.errors import DataError, ModelError, OptionError, UserError
from syndiff.objectives.base import Batch, Draw
from syndiff.objectives.methods import method_named
from syndiff.objectives.syndiff import SynDiff
from syndiff.preparation.manifest import read_manifest
from syndiff.training.data import UnpairedBatches, training_batches
from syndiff.training.module import TranslationModule, frozen
from syndiff.training.presets import PRESETS, choose, preset
from syndiff.training.progress import Progress
from syndiff.training.run import train
from syndiff.training.slice_files import Slices
from syndiff.training.stored import Average
from syndiff.training.subjects import training_scans
from syndiff.training.views import SliceStore, View
from syndiff.training.watch import load_state
from syndiff.translators import load_translator
from tests.helpers.reporters import Watching
from tests.helpers.runs import run_of, settings
from tests.helpers.tiny import TINY, write_prepared

# --- data -----------------------------------------------------------------------------------


def test_no_subject_gives_both_modalities(prepared: Path) -> None:
    scans = training_scans(read_manifest(prepared), "T1", "T2", shared=False)
    subjects = [{scan.subject for (scan,) in part} for part in scans]
    assert subjects[0]
    assert subjects[1]
    assert not subjects[0] & subjects[1]


def test_shared_subjects_are_an_option(prepared: Path) -> None:
    scans = training_scans(read_manifest(prepared), "T1", "T2", shared=True)
    assert [s.subject for (s,) in scans[0]] == [s.subject for (s,) in scans[1]]


def test_one_subject_serves_both_with_a_warning(prepared: Path) -> None:
    manifest = read_manifest(prepared)
    first = manifest.subjects("train")[0]
    few = replace(manifest, _scans=tuple(s for s in manifest._scans if s.subject == first))
    said = Watching()
    scans = training_scans(few, "T1", "T2", shared=False, report=said)
    assert [len(part) for part in scans] == [1, 1]
    assert "too few" in said.warnings[0]


def numbered(count: int, first: int = 0) -> Slices:
    """Slices whose every pixel is their number."""
    values = np.arange(first, first + count, dtype=np.float32) / 100
    return Slices(
        ((np.broadcast_to(values[:, None, None], (count, 8, 8)).copy(),),), ("sub",), "M"
    )


def order(batches: UnpairedBatches, name: str, steps: int) -> list[int]:
    values = [getattr(batches[step], name)[:, 0, 4, 4] for step in range(steps)]
    return [round(float((v + 1) / 2 * 100)) for batch in values for v in batch]


def test_a_pass_shows_every_slice_once_and_passes_differ() -> None:
    batches = UnpairedBatches(numbered(6), numbered(3, 50), 2, seed=0, augment=False)
    assert batches.steps_per_epoch == 3
    source = order(batches, "source", 6)
    assert sorted(source[:6]) == sorted(source[6:]) == list(range(6))
    assert source[:6] != source[6:]
    target = order(batches, "target", 3)
    assert sorted(target[:3]) == sorted(target[3:]) == [50, 51, 52]


def test_modalities_are_drawn_independently() -> None:
    batches = UnpairedBatches(numbered(40), numbered(40), 4, seed=0, augment=False)
    assert order(batches, "source", 10) != order(batches, "target", 10)


def test_processes_share_the_global_batch() -> None:
    whole = UnpairedBatches(numbered(8), numbered(8), 4, seed=3, augment=True)
    parts = [
        UnpairedBatches(numbered(8), numbered(8), 2, seed=3, augment=True, rank=r, world=2)
        for r in (0, 1)
    ]
    for step in (0, 1, 5):
        joined = torch.cat([part[step].source for part in parts])
        torch.testing.assert_close(joined, whole[step].source)


def test_draws_of_two_processes_are_those_of_one() -> None:
    whole, parts = Draw(0, 7), [Draw(0, 7, rank=r, world=2) for r in (0, 1)]
    for _ in range(2):
        joined = torch.cat([part.normal(2, 3) for part in parts])
        torch.testing.assert_close(joined, whole.normal(4, 3))
        joined = torch.cat([part.integers(9, 2) for part in parts])
        torch.testing.assert_close(joined, whole.integers(9, 4))


def test_a_view_is_mirrored_then_shifted_and_air_comes_in() -> None:
    image = np.random.default_rng(0).random((2, 5, 6), np.float32) / 2 + 0.5
    store = SliceStore(Slices(tuple((c[None],) for c in image), ("a", "b"), "M"))
    shown = (store.show([View(1, True, 2, -1), View(0), View(1, False, -1, 3)]) + 1) / 2
    assert shown.shape == (3, 1, 5, 6)
    first, second, third = shown[:, 0].numpy()
    np.testing.assert_allclose(first[2:, :-1], image[1, :-2, ::-1][:, 1:], atol=1e-6)
    assert first[:2].max() == first[:, -1].max() == 0
    np.testing.assert_allclose(second, image[0], atol=1e-6)
    np.testing.assert_allclose(third[:-1, 3:], image[1, 1:, :3], atol=1e-6)
    assert third[-1].max() == third[:, :3].max() == 0


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("pairing", ["unpaired", "paired", "mixed"])
def test_slices_kept_on_a_device_make_the_same_batches(
    tmp_path: Path, pairing: str, device: str
) -> None:
    data = write_prepared(tmp_path / "data", {"train1": "T1 T2", "train2": "T1|T2"})
    asked = {"pairing": pairing, "shared": True, "batch_size": 4, "seed": 1, "augment": True}
    read, kept = (training_batches(read_manifest(data), ["T1"], "T2", **asked) for _ in "ab")  # type: ignore[arg-type]
    needed = sum(store.bytes for store in kept.stores)
    assert not kept.keep_on(torch.device(device), needed - 1)
    assert all(store.kept is None for store in kept.stores)
    assert kept.keep_on(torch.device(device), needed)
    assert sum(store.kept.nbytes for store in kept.stores if store.kept is not None) == needed
    for step in range(6):
        for image in ("source", "target", "paired"):
            assert getattr(read[step], image).equal(getattr(kept[step], image).cpu())


# --- one step -------------------------------------------------------------------------------


@pytest.fixture
def step() -> tuple[SynDiff, Batch, Draw]:
    torch.manual_seed(0)
    batch = Batch(torch.rand(2, 1, 16, 16) * 2 - 1, torch.rand(2, 1, 16, 16) * 2 - 1)
    return SynDiff(TINY), batch, Draw(0, 0)


def test_each_loss_moves_only_its_player(step: tuple[SynDiff, Batch, Draw]) -> None:
    objective, batch, draw = step
    fakes = objective.generate(batch, draw)
    sum(objective.discriminator_losses(batch, fakes.detached(), draw).values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is None for p in objective.generators.parameters())
    for network in objective.discriminators.values():
        grads = [p.grad for p in network.parameters()]
        assert all(g is not None and g.isfinite().all() for g in grads)
        assert any(g.abs().max() > 0 for g in grads if g is not None)
    objective.zero_grad(set_to_none=True)
    with frozen(objective.discriminators):
        sum(objective.generator_losses(batch, fakes, draw).values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is None for p in objective.discriminators.parameters())
    for network in objective.generators.values():
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        assert all(g.isfinite().all() for g in grads)
        assert any(g.abs().max() > 0 for g in grads)


def test_detached_fakes_carry_no_graph(step: tuple[SynDiff, Batch, Draw]) -> None:
    objective, batch, draw = step
    fakes = objective.generate(batch, draw).detached()
    assert not any(t.requires_grad for images in fakes.values.values() for t in images.values())


def test_losses_are_functions_of_seed_and_step(step: tuple[SynDiff, Batch, Draw]) -> None:
    objective, batch, _ = step

    def total(seed: int, at: int) -> float:
        draw = Draw(seed, at)
        fakes = objective.generate(batch, draw)
        return float(sum(objective.generator_losses(batch, fakes, draw).values()).detach())  # type: ignore[union-attr]

    assert total(0, 1) == total(0, 1)
    assert len({total(0, 1), total(1, 1), total(0, 2)}) == 3


def test_weights_scale_their_terms(step: tuple[SynDiff, Batch, Draw]) -> None:
    objective, batch, draw = step
    fakes = objective.generate(batch, draw)
    terms = objective.generator_losses(batch, fakes, draw)
    objective.settings = replace(
        TINY, cycle_one_shot=1.0, cycle_diffusive=2.0, adversarial_one_shot=3.0, structure=0.0
    )
    changed = objective.generator_losses(batch, fakes, draw)
    for m in ("source", "target"):
        ratio = {
            k: float((changed[f"{k}_{m}"] / terms[f"{k}_{m}"]).detach())
            for k in ("cycle_one_shot", "cycle_diffusive", "one_shot")
        }
        assert ratio == pytest.approx(
            {
                "cycle_one_shot": 1 / TINY.cycle_one_shot,
                "cycle_diffusive": 2 / TINY.cycle_diffusive,
                "one_shot": 3.0,
            }
        )
        assert f"structure_{m}" in terms
        assert f"structure_{m}" not in changed


def test_lazy_penalty_has_its_interval(step: tuple[SynDiff, Batch, Draw]) -> None:
    objective, batch, _ = step
    objective.settings = replace(TINY, gradient_penalty_interval=3)
    for at in range(7):
        draw = Draw(0, at)
        fakes = objective.generate(batch, draw).detached()
        terms = objective.discriminator_losses(batch, fakes, draw)
        assert ("penalty_source" in terms) == (at % 3 == 0)


def test_average_warms_up_and_follows() -> None:
    module = TranslationModule(SynDiff(TINY), settings(ema_decay=0.9, ema_warmup=10), 10)
    before = [p.clone() for p in module.ema.parameters()]
    with torch.no_grad():
        for p in module.objective.generators.parameters():
            p.add_(1.0)
    module.step = 1
    module._update_ema()  # decay (1 + 1) / (10 + 1)
    for old, new in zip(before, module.ema.parameters(), strict=True):
        torch.testing.assert_close(new, old + 1 - 2 / 11, rtol=1e-4, atol=1e-5)


def test_rate_follows_the_step_count() -> None:
    module = TranslationModule(SynDiff(TINY), settings(final_lr=1e-5), total_steps=100)
    assert module.rate(1e-3) == pytest.approx(1e-3)
    module.step = 50
    assert module.rate(1e-3) == pytest.approx((1e-3 + 1e-5) / 2)
    module.step = 100
    assert module.rate(1e-3) == pytest.approx(1e-5)


def test_divergence_is_one_clear_line() -> None:
    module = TranslationModule(SynDiff(TINY), settings(), 10)
    module._count("generators/x", torch.tensor(float("nan")))
    with pytest.raises(UserError, match=r"diverged.*generators/x"):
        module.take_means()


# --- runs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(prepared, tmp_path_factory.mktemp("training") / "run")


def test_a_run_leaves_what_it_promises(run: Path) -> None:
    for name in ("settings.json", "history.csv", "checkpoints/last.pt", "cards.json"):
        assert (run / name).is_file(), name
    assert list((run / "logs").glob("events*"))
    rows = list(csv.DictReader((run / "history.csv").open()))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert float(rows[-1]["T1_to_T2/psnr_db"]) > 0
    for name, source in (("T1_to_T2", "T1"), ("T2_to_T1", "T2")):
        translator = load_translator(run / "translators" / name)
        assert translator.name == name
        assert translator.sources == (source,)
        assert set(translator.config["intensity"]) == {"T1", "T2"}


def test_export_is_the_best_average(run: Path) -> None:
    best = load_state(run / "checkpoints/best_T1_to_T2.pt", Average)
    translator = load_translator(run / "translators/T1_to_T2")
    state = translator.network.state_dict()
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, best["ema"][f"diffusive_target.{name}"])


def test_resumed_equals_uninterrupted(prepared: Path, run: Path, tmp_path: Path) -> None:
    part = run_of(prepared, tmp_path / "run", max_minutes=1e-6)  # one step
    assert load_state(part / "checkpoints/last.pt")["step"] == 1
    run_of(prepared, part, resume=True)
    whole, resumed = (load_state(r / "checkpoints/last.pt") for r in (run, part))
    assert whole["step"] == resumed["step"] == 4
    for group in ("generators", "discriminators", "ema"):
        for name, tensor in whole[group].items():
            assert torch.equal(tensor, resumed[group][name]), f"{group} {name}"
    rows = [list(csv.reader((r / "history.csv").open())) for r in (run, part)]
    assert [r[:1] + r[2:] for r in rows[0]] == [r[:1] + r[2:] for r in rows[1] if r[0] != "1"]


def test_a_finished_run_exports_again(prepared: Path, run: Path, tmp_path: Path) -> None:
    said = Watching()
    run_of(prepared, run, resume=True, report=said)
    assert "exporting only" in said.warnings[0]


def test_an_existing_run_is_refused(prepared: Path, run: Path) -> None:
    before = (run / "settings.json").read_text()
    with pytest.raises(OptionError, match="add `resume` to continue"):
        run_of(prepared, run)
    with pytest.raises(OptionError, match="generator_lr"):
        run_of(prepared, run, settings=settings(generator_lr=0.5), resume=True)
    assert (run / "settings.json").read_text() == before


def test_stopping_saves_first(prepared: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 10:
            signal.raise_signal(signal.SIGTERM)

    outcome = train(
        prepared,
        tmp_path / "run",
        source="T1",
        target="T2",
        settings=settings(max_steps=50, validate_every=100),
        report=Watching(stop),
    )
    assert outcome.interrupted
    assert outcome.step in (10, 11)  # a step of more than a second is not finished
    assert load_state(tmp_path / "run/checkpoints/last.pt")["step"] == outcome.step
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_minutes_end_a_run(prepared: Path, tmp_path: Path) -> None:
    outcome = train(
        prepared,
        tmp_path / "run",
        source="T1",
        target="T2",
        settings=settings(max_steps=500),
        max_minutes=1e-6,
    )
    assert outcome.step == 1
    assert outcome.reason == "out of time"
    assert len(outcome.translators) == 2


@pytest.mark.slow  # objectives/test_contract.py has a shorter one of each method
def test_training_lowers_its_loss(prepared: Path, tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    train(
        prepared,
        tmp_path / "run",
        source="T1",
        target="T2",
        settings=settings(max_steps=60, validate_every=1000, generator_lr=3e-3),
        report=Watching(lambda state: seen.append(state.losses)),
    )
    for term in ("cycle_diffusive_target", "cycle_one_shot_source"):
        first, last = (
            np.mean([s[f"generators/{term}"] for s in part]) for part in (seen[:2], seen[-2:])
        )
        assert last < 0.8 * first, term


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"source": "T1", "target": "T1"}, OptionError, "modalities that differ"),
        ({"source": "T1", "target": "CT"}, DataError, "holds no CT"),
        ({"precision": "16"}, OptionError, "precision"),
        ({"devices": "tpu"}, OptionError, "`devices` tpu"),
        ({"settings": settings(batch_size=2, accumulate=3)}, OptionError, "divides the batch"),
        ({"resume": True}, UserError, "no run"),
    ],
)
def test_bad_options(
    prepared: Path, tmp_path: Path, options: dict, error: type[Exception], words: str
) -> None:
    asked = {"source": "T1", "target": "T2", "settings": settings()} | options
    with pytest.raises(error, match=words):
        train(prepared, tmp_path / "run", **asked)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    with pytest.raises(ModelError, match="no checkpoint"):
        load_state(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="damaged"):
        load_state(path)


# --- presets --------------------------------------------------------------------------------


def test_presets_paper_and_github() -> None:
    """The two columns of docs/presets.md."""
    paper, github = preset("paper"), preset("github")
    for p in (paper, github):
        o = p.objective
        assert (o.steps, o.beta_min, o.beta_max) == (4, 0.1, 20.0)
        assert (o.cycle_one_shot, o.cycle_diffusive) == (0.5, 0.5)
        assert (o.adversarial_one_shot, o.adversarial_diffusive) == (1.0, 1.0)
        assert (o.gradient_penalty, o.structure, o.one_shot.upsampling) == (0.5, 0.0, "transposed")
        g = o.generator
        assert (g.channels, g.multipliers, g.blocks) == (64, (1, 1, 2, 2, 4, 4), 2)
        assert (p.batch_size, p.adam_betas, p.shared_subjects) == (1, (0.5, 0.9), True)
    o, g = paper.objective, paper.objective.generator
    assert (paper.epochs, paper.generator_lr, paper.discriminator_lr) == (50, 1e-4, 1e-4)
    assert (paper.final_lr, paper.ema_decay, o.gradient_penalty_interval) == (None, 0.0, 1)
    assert (g.time_dim, g.latent_dim, g.latent_embedding, g.latent_layers) == (32, 256, 256, 3)
    o, g = github.objective, github.objective.generator
    assert (github.epochs, github.generator_lr, github.discriminator_lr) == (500, 1.6e-4, 1e-4)
    assert (github.final_lr, github.ema_decay, o.gradient_penalty_interval) == (1e-5, 0.999, 10)
    assert (g.time_dim, g.latent_dim, g.latent_embedding, g.latent_layers) == (64, 100, 256, 4)


def test_choose_changes_what_is_asked_and_nothing_else() -> None:
    chosen = choose("paper", networks="small", structure=1.5, max_steps=7, seed=None)
    assert chosen.objective.generator == PRESETS["small"].objective.generator
    assert chosen.objective.one_shot.upsampling == "transposed"
    assert chosen.objective.cycle_diffusive == 0.5
    assert (chosen.objective.structure, chosen.max_steps, chosen.seed) == (1.5, 7, 0)
    for wrong in ({"name": "huge"}, {"name": "small", "networks": "big"}):
        with pytest.raises(OptionError):
            choose(**wrong)  # type: ignore[arg-type]


def test_settings_are_kept_with_the_run(run: Path) -> None:
    kept = json.loads((run / "settings.json").read_text())
    assert kept["objective"]["generator"]["channels"] == TINY.generator.channels
    assert (kept["source"], kept["target"], kept["batch_size"]) == ("T1", "T2", 2)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"validate_every": 0}, "validate_every is 0"),
        ({"batch_size": 0}, "batch_size"),
        ({"generator_lr": float("nan")}, "generator_lr"),
        ({"adam_betas": (0.5, 1.5)}, "adam_betas"),
        ({"ema_decay": 2.0}, "ema_decay"),
        ({"max_steps": -5}, "max_steps"),
        ({"seed": -1}, "seed"),
    ],
)
def test_numbers_of_a_training_have_ranges(values: dict, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        settings(**values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"beta_min": float("nan")}, "beta_min"),
        ({"beta_max": 0.0}, "beta_max"),
        ({"one_shot": replace(TINY.one_shot, blocks=-2)}, "blocks=-2"),
    ],
)
def test_hyper_parameters_have_ranges(change: dict, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        replace(TINY, **change)


def test_networks_that_cannot_be_built_are_one_line() -> None:
    wrong = replace(TINY, generator=replace(TINY.generator, channels=7))
    with pytest.raises(OptionError, match="cannot be built with these sizes"):
        method_named("syndiff").build(wrong)
