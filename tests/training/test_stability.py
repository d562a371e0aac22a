"""Stable training: what is not finite spoils nothing, dull slices are skipped, the switches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from syndiff.errors import DataError, UserError
from syndiff.networks.patchgan import PatchDiscriminator
from syndiff.networks.spectral import normalise_spectrally
from syndiff.networks.step_discriminator import StepDiscriminator
from syndiff.objectives.base import Batch, Draw, Fakes
from syndiff.objectives.syndiff import SynDiff
from syndiff.preparation.manifest import read_manifest
from syndiff.reporting import SILENT
from syndiff.training import watch
from syndiff.training.guard import NEVER, DivergedError, Guard
from syndiff.training.module import TranslationModule, frozen
from syndiff.training.presets import TrainSettings, choose
from syndiff.training.progress import Progress
from syndiff.training.run import train
from syndiff.training.slice_files import MIN_RANGE, sound_slices
from syndiff.training.stored import Average
from syndiff.training.subjects import stacks
from syndiff.training.watch import load_state
from syndiff.translators import load_translator
from tests.helpers.reporters import Watching
from tests.helpers.tiny import COUNT, TINY, write_prepared

TRAIN = {"train1": "T1 T2", "train2": "T1 T2"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Nobody to validate on: these runs are about something else."""
    return write_prepared(tmp_path / "data", TRAIN)


@pytest.fixture
def validated(tmp_path: Path) -> Path:
    return write_prepared(tmp_path / "data", TRAIN | {"val1": "T1 T2"})


def settings(**changes: object) -> TrainSettings:
    base = TrainSettings(
        objective=TINY, max_steps=4, batch_size=2, validate_every=2, generator_lr=1e-3
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def run_of(data: Path, run: Path, **options: object) -> Path:
    asked: dict = {"source": "T1", "target": "T2", "settings": settings()} | options
    train(data, run, **asked)
    return run


def slices_file(data: Path, subject: str, modality: str) -> Path:
    return data / f"slices/train/{modality}/{subject}.npy"


# --- what is not finite ---------------------------------------------------------------------


def test_a_slice_that_goes_bad_is_named_and_spoils_nothing(data: Path, tmp_path: Path) -> None:
    """The file is damaged after step 10, when training has long begun."""
    saved: dict = {}

    def damage(progress: Progress) -> None:
        if progress.step == 10:
            for subject in ("train1", "train2"):
                array = np.load(slices_file(data, subject, "T1"), mmap_mode="r+")
                array[2, 5, 5] = np.inf
            saved.update(load_state(tmp_path / "run/checkpoints/last.pt"))

    with pytest.raises(UserError, match=r"diverged at step 1\d: .*train[12] T1 slice 2") as error:
        run_of(
            data,
            tmp_path / "run",
            settings=settings(max_steps=20, validate_every=5, augment=False),
            report=Watching(damage),
        )
    assert "discriminators/" in str(error.value)
    assert "spectral_norm" in str(error.value)
    state = load_state(tmp_path / "run/checkpoints/last.pt")
    assert saved["step"] <= state["step"] <= 20
    for group in ("generators", "discriminators", "ema"):
        assert all(t.isfinite().all() for t in state[group].values())
    for optimizer in state["optimizers"]:
        assert all(s["exp_avg_sq"].isfinite().all() for s in optimizer["state"].values())


@pytest.fixture
def unbounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning rates that nobody may ask for, and that diverge at once."""
    monkeypatch.setattr("syndiff.training.presets.check_ranges", lambda values: None)


@pytest.mark.usefixtures("unbounded")
def test_a_step_too_far_leaves_no_checkpoint_that_is_not_finite(
    data: Path, tmp_path: Path
) -> None:
    """Saving happens at every step here, so a spoiled state would be on disk."""
    with pytest.raises(UserError, match="diverged"):
        run_of(
            data,
            tmp_path / "run",
            settings=settings(max_steps=10, validate_every=1, generator_lr=1e30, final_lr=None),
        )
    state = load_state(tmp_path / "run/checkpoints/last.pt")
    assert all(t.isfinite().all() for t in state["generators"].values())


@pytest.mark.usefixtures("unbounded")
def test_images_that_are_not_finite_end_a_run(validated: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="diverged at step 0: images of T1_to_T2 not finite"):
        run_of(
            validated,
            tmp_path / "run",
            settings=settings(validate_every=1, generator_lr=1e38, final_lr=None),
        )


class Bowl(nn.Module):
    """Both players fall towards 0, until a step whose gradient is not finite."""

    first_phase, second_phase = 0.0, 0

    def __init__(self, bad: dict[str, int]) -> None:
        super().__init__()
        self.generators = nn.ModuleDict({"g": nn.Linear(1, 1, bias=False)})
        self.discriminators = nn.ModuleDict({"d": nn.Linear(1, 1, bias=False)})
        self.bad = bad

    def generate(self, batch: Batch, draw: Draw) -> Fakes:
        return Fakes()

    def _loss(self, player: str, network: nn.Module, draw: Draw) -> dict[str, Tensor]:
        loss = network(torch.ones(1, 1)).square().sum()
        if self.bad.get(player) == draw.step:
            loss = (loss - loss.detach()).sqrt()  # 0, with an infinite slope
        return {"loss": loss}

    def discriminator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        return self._loss("discriminators", self.discriminators["d"], draw)

    def generator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        return self._loss("generators", self.generators["g"], draw)


class Optimizer:
    """As Lightning wraps one; the module needs no more of it."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer, self.param_groups = optimizer, optimizer.param_groups
        self.zero_grad, self.step = optimizer.zero_grad, optimizer.step


def module_of(objective: nn.Module, monkeypatch: pytest.MonkeyPatch) -> TranslationModule:
    """A module that takes steps without Lightning's trainer."""
    module = TranslationModule(objective, settings(), 100)  # type: ignore[arg-type]
    optimizers = [Optimizer(o) for o in module.configure_optimizers()]
    monkeypatch.setattr(module, "_optimizers", lambda: optimizers)
    monkeypatch.setattr(module, "manual_backward", lambda loss: loss.backward())
    monkeypatch.setattr(TranslationModule, "trainer", type("", (), {"world_size": 1}))
    monkeypatch.setattr(TranslationModule, "global_rank", 0)
    return module


BATCH = Batch(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16))


@pytest.mark.parametrize(
    ("bad", "step", "what"),
    [
        ({"generators": 2}, 2, ["the gradient of the generators"]),
        ({"discriminators": 1, "generators": 3}, 1, ["the gradient of the discriminators"]),
    ],
)
def test_weights_and_moments_stay_from_the_first_bad_step_on(
    monkeypatch: pytest.MonkeyPatch, bad: dict[str, int], step: int, what: list[str]
) -> None:
    """A gradient may be infinite where the loss is not."""
    module = module_of(Bowl(bad), monkeypatch)
    weights = []
    for _ in range(6):
        module.training_step(BATCH, 0)
        weights.append(module.objective.generators["g"].weight.item())  # type: ignore[union-attr]
    assert len(set(weights)) == len(set(weights[:step])) == step
    moments = module._optimizers()[1].optimizer.state_dict()["state"][0]
    assert moments["step"] == step
    assert moments["exp_avg_sq"].isfinite().all()
    with pytest.raises(DivergedError) as error:
        module.take_means()
    assert (error.value.step, error.value.what) == (step, what)


def test_the_guard_changes_no_sound_step() -> None:
    """A fused optimizer told that all is well steps to the same bits."""
    torch.manual_seed(0)
    one, two = nn.Linear(4, 4), nn.Linear(4, 4)
    two.load_state_dict(one.state_dict())
    optimizers = [torch.optim.Adam(m.parameters(), 1e-2, fused=True) for m in (one, two)]
    guard = Guard(("generators",))
    for step in range(3):
        x = torch.randn(2, 4)
        for network, optimizer in zip((one, two), optimizers, strict=True):
            optimizer.zero_grad()
            network(x).square().sum().backward()
        optimizers[1].found_inf = guard.check("generators", two.parameters(), step)  # type: ignore[attr-defined]
        for optimizer in optimizers:
            optimizer.step()
    assert guard.read() == (NEVER, [])
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_discriminators_step_before_the_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generators' losses are taken against discriminators that have just moved."""
    seen: list[tuple[str, float]] = []

    class Watched(Bowl):
        def _loss(self, player: str, network: nn.Module, draw: Draw) -> dict[str, Tensor]:
            seen.append((player, self.discriminators["d"].weight.item()))  # type: ignore[union-attr]
            return super()._loss(player, network, draw)

    module = module_of(Watched({}), monkeypatch)
    before = module.objective.discriminators["d"].weight.item()  # type: ignore[union-attr]
    module.training_step(BATCH, 0)
    after = module.objective.discriminators["d"].weight.item()  # type: ignore[union-attr]
    assert before != after
    assert seen == [("discriminators", before), ("generators", after)]


# --- slices ---------------------------------------------------------------------------------


def test_nearly_constant_slices_are_skipped_and_counted(data: Path, tmp_path: Path) -> None:
    array = np.load(slices_file(data, "train1", "T1"))
    array[1] = 0.4
    array[3] = 0.4
    array[3, 0, 0] = 0.4 + 0.9 * MIN_RANGE
    np.save(slices_file(data, "train1", "T1"), array)
    said = Watching()
    run = run_of(data, tmp_path / "run", report=said)
    assert f"skipped 2 of {2 * COUNT} T1 slices that are nearly constant" in said.warnings
    for name in ("T1_to_T2", "T2_to_T1"):
        training = load_translator(run / "translators" / name).config["training"]
        assert (training["slices"], training["slices_skipped"]) == (4 * COUNT - 2, 2)
        assert training["training_subjects"] == 2


def test_what_is_skipped_is_never_drawn(data: Path) -> None:
    path = slices_file(data, "train1", "T2")
    array = np.load(path)
    array[2] = 0.0
    np.save(path, array)
    pairs = list(stacks(read_manifest(data), "train", ("T1", "T2")).values())
    slices = sound_slices(pairs, SILENT)
    assert len(slices) == 2 * COUNT - 1
    assert slices.name(2) == "train1 T1+T2 slice 3"  # a pair goes if either of it is dull
    np.testing.assert_array_equal(slices[2][1], array[3])


def test_a_modality_is_never_left_empty(data: Path, tmp_path: Path) -> None:
    for subject in ("train1", "train2"):
        np.save(slices_file(data, subject, "T2"), np.zeros((COUNT, 16, 16), np.float32))
    with pytest.raises(DataError, match=f"all {2 * COUNT} T2 training slices are nearly constant"):
        run_of(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5, 7.0])
def test_values_that_are_no_image_are_found_before_training(
    data: Path, tmp_path: Path, value: float
) -> None:
    for subject in ("train1", "train2"):
        array = np.load(slices_file(data, subject, "T1"))
        array[4, 3, 3] = value
        np.save(slices_file(data, subject, "T1"), array)
    with pytest.raises(DataError, match=r"train[12] T1 slice 4 holds values"):
        run_of(data, tmp_path / "run")


# --- the average and the best ---------------------------------------------------------------


def test_an_early_average_is_not_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 30 steps the warmed-up average has forgotten the initial weights; 0.999 has not."""

    def remembered(warmup: int) -> float:
        module = TranslationModule(SynDiff(TINY), settings(ema_warmup=warmup), 100)
        start = [p.clone() for p in module.ema.parameters()]
        with torch.no_grad():  # the generators jump once, as training's first steps do
            for p in module.objective.generators.parameters():
                p.add_(1.0)
        for step in range(1, 31):
            module.step = step
            module._update_ema()
        moved = [(e - s).mean() for e, s in zip(module.ema.parameters(), start, strict=True)]
        return 1 - float(torch.stack(moved).mean())

    assert remembered(warmup=10) < 1e-5
    assert remembered(warmup=0) > 0.9


def test_the_best_validation_is_exported_not_the_last(
    validated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each direction by itself: one is at its best in the middle, the other one at the end."""
    grades: Iterator[float] = iter([20.0, 20.0, 25.0, 21.0, 22.0, 30.0])  # two directions each
    real = watch.validate

    def graded(*args: Any) -> Any:
        found = real(*args)
        assert found is not None
        return replace(found, scores=found.scores | {"psnr_db": next(grades), "ssim": 0.5})

    monkeypatch.setattr(watch, "validate", graded)
    run = run_of(validated, tmp_path / "run", settings=settings(max_steps=6))
    best, back, last = (
        load_state(run / f"checkpoints/{n}.pt", Average)
        for n in ("best_T1_to_T2", "best_T2_to_T1", "last")
    )
    assert (best["step"], back["step"], last["step"]) == (4, 6, 6)
    assert {name: found["step"] for name, found in last["best"].items()} == {
        "T1_to_T2": 4,
        "T2_to_T1": 6,
    }
    assert load_translator(run / "translators/T2_to_T1").config["training"]["steps"] == 6
    translator = load_translator(run / "translators/T1_to_T2")
    assert translator.config["training"]["steps"] == 4
    weights = translator.network.state_dict()
    assert all(torch.equal(w, best["ema"][f"diffusive_target.{k}"]) for k, w in weights.items())
    assert not all(
        torch.equal(w, last["ema"][f"diffusive_target.{k}"]) for k, w in weights.items()
    )


# --- spectral normalisation -----------------------------------------------------------------


def largest_singular_values(network: nn.Module) -> list[float]:
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return [float(torch.linalg.matrix_norm(m.weight.detach().flatten(1), ord=2)) for m in layers]


SPECTRAL = replace(TINY, spectral_norm=True, gradient_penalty_interval=1)


def test_every_layer_keeps_the_norm_1(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    objective = SynDiff(SPECTRAL)
    module = module_of(objective, monkeypatch)
    batch = Batch(torch.rand(2, 1, 16, 16) * 2 - 1, torch.rand(2, 1, 16, 16) * 2 - 1)
    before = [p.clone() for p in objective.discriminators.parameters()]
    for _ in range(5):
        module.training_step(batch, 0)
    moved = [
        (a != b).any().item()
        for a, b in zip(before, objective.discriminators.parameters(), strict=True)
    ]
    assert sum(moved) > 0.9 * len(moved)
    values = largest_singular_values(objective.discriminators.eval())
    assert len(values) == len(largest_singular_values(SynDiff(TINY).discriminators))
    assert values == pytest.approx([1.0] * len(values), abs=0.1)
    assert all(np.isfinite(v) for v in module.take_means().values())


def test_layers_that_start_silent_get_gradients_like_the_others() -> None:
    torch.manual_seed(0)
    network = StepDiscriminator(stem=4, widths=(8, 8), time_dim=8)
    normalise_spectrally(network)
    x, t = torch.rand(4, 1, 16, 16), torch.arange(4)
    network(x, x.flip(0), t).square().sum().backward()
    sizes = [p.grad.norm().item() for p in network.parameters() if p.grad is not None]
    assert max(sizes) < 1e3


def test_frozen_discriminators_stay_frozen() -> None:
    network = PatchDiscriminator(channels=4, halvings=2)
    normalise_spectrally(network)
    x = torch.rand(1, 1, 16, 16, requires_grad=True)
    with frozen(network):
        network(x).sum().backward()
    assert x.grad is not None
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_the_switch_off_changes_nothing() -> None:
    torch.manual_seed(0)
    off = SynDiff(TINY)
    torch.manual_seed(0)
    on = SynDiff(SPECTRAL)
    assert all(
        torch.equal(a, b)
        for a, b in zip(off.generators.parameters(), on.generators.parameters(), strict=True)
    )
    assert not any("parametrizations" in name for name in off.state_dict())
    assert max(largest_singular_values(off.discriminators)) != pytest.approx(1.0, abs=1e-3)
    assert not choose("small").objective.spectral_norm
    assert choose("small", spectral_norm=True).objective.spectral_norm


def test_spectrally_normalised_runs_resume_to_the_same_bits(data: Path, tmp_path: Path) -> None:
    chosen = settings(objective=SPECTRAL)
    whole = run_of(data, tmp_path / "whole", settings=chosen)
    part = run_of(data, tmp_path / "part", settings=chosen, max_minutes=1e-6)
    run_of(data, part, settings=chosen, resume=True)
    a, b = (load_state(run / "checkpoints/last.pt") for run in (whole, part))
    assert any("_u" in name for name in a["discriminators"])
    for group in ("generators", "discriminators", "ema"):
        assert all(torch.equal(a[group][k], b[group][k]) for k in a[group])


def test_settings_of_an_older_version_can_be_resumed(data: Path, tmp_path: Path) -> None:
    """What its settings.json does not mention had the value that is the default now."""
    run = run_of(data, tmp_path / "run")
    path = run / "settings.json"
    kept = json.loads(path.read_text())
    del kept["pairing"], kept["objective"]["spectral_norm"]
    path.write_text(json.dumps(kept))
    run_of(data, run, resume=True, settings=settings(max_steps=5))
    assert load_state(run / "checkpoints/last.pt")["step"] == 5


def test_the_gradient_penalty_is_taken_in_full_precision() -> None:
    torch.manual_seed(0)
    objective = SynDiff(TINY)
    for p in objective.discriminators.parameters():  # layers that start silent have no gradient
        if p.dim() > 1:
            torch.nn.init.normal_(p, 0, 0.15)
    batch, draw = Batch(torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32)), Draw(0, 0)
    fakes = objective.generate(batch, draw)

    def penalty() -> torch.Tensor:
        return objective.discriminator_losses(batch, fakes.detached(), draw)["penalty_target"]

    full = penalty()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = penalty()
    assert float(full.detach()) > 0
    assert torch.equal(full, mixed)
