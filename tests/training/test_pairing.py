"""Several sources, pairs and mixtures: what is drawn, what is minimised, what comes out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from syndiff import losses
from syndiff.errors import DataError, GeometryError, OptionError
from syndiff.inference import TranslationOptions, describe, translate_file, translate_volume
from syndiff.io import formats as volumes
from syndiff.io.volume import Volume, same_grid
from syndiff.losses import by_channel, distance
from syndiff.objectives.base import Batch, Draw
from syndiff.objectives.syndiff import SynDiff
from syndiff.preparation.manifest import read_manifest
from syndiff.training.data import Batches, training_batches
from syndiff.training.module import TranslationModule, frozen
from syndiff.training.presets import TrainSettings
from syndiff.training.run import train
from syndiff.training.watch import load_state
from syndiff.translators import load_translator
from tests.helpers.reporters import Watching
from tests.helpers.tiny import COUNT, TINY, write_prepared

SUBJECTS = {
    "train1": "T1 PD T2",
    "train2": "T1 PD T2",
    "train3": "T1 PD",
    "train4": "T2",
    "train5": "T1|PD|T2",
    "val1": "T1 PD T2",
    "test1": "T1 PD T2",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("pairing") / "data", SUBJECTS)


def batches_of(
    data: Path, pairing: str, sources: tuple[str, ...] = ("T1", "PD"), **changes: object
) -> Batches:
    options: dict = {"shared": False, "batch_size": 4, "seed": 0, "augment": False} | changes
    return training_batches(read_manifest(data), sources, "T2", pairing=pairing, **options)


def numbers(images: Tensor) -> list[list[int]]:
    """Which slice each channel of each sample is, as pixel (0, 0) says."""
    return ((images[:, :, 0, 0] + 1) / 2 * 1000).round().int().tolist()


def subject(number: int) -> str:
    return list(SUBJECTS)[number // COUNT]


# --- what is drawn --------------------------------------------------------------------------


def test_paired_samples_are_one_slice_of_one_person(data: Path) -> None:
    batches = batches_of(data, "paired", batch_size=5)
    assert batches.steps_per_epoch == 2
    seen = []
    for step in (0, 1):
        batch = batches[step]
        assert batch.source.shape == (5, 2, 16, 16)
        assert batch.paired.all()
        (t1, pd), (t2,) = (
            zip(*numbers(batch.source), strict=True),
            zip(*numbers(batch.target), strict=True),
        )
        assert t1 == pd == t2
        seen += t1
    assert sorted(seen) == list(range(2 * COUNT))  # the two paired subjects, each slice once


def test_paired_samples_are_moved_alike(data: Path) -> None:
    still, moved = (batches_of(data, "paired", augment=a) for a in (False, True))
    a, b = still[0], moved[0]
    assert not torch.equal(a.target, b.target)
    # The head's outline is the same in all modalities, so it still is if all moved together.
    outlines = (torch.cat([b.source, b.target], dim=1) > -0.9)[:, :, 1:]
    assert torch.equal(outlines[:, 0], outlines[:, 1])
    assert torch.equal(outlines[:, 0], outlines[:, 2])


def test_unpaired_sources_are_one_slice_of_one_person(data: Path) -> None:
    batches = batches_of(data, "unpaired", batch_size=5)
    sources, targets = set(), set()
    for step in range(batches.steps_per_epoch):
        batch = batches[step]
        assert not batch.paired.any()
        for (t1, pd), (t2,) in zip(numbers(batch.source), numbers(batch.target), strict=True):
            assert t1 == pd
            sources.add(subject(t1))
            targets.add(subject(t2))
    assert not sources & targets
    assert "train3" in sources
    assert {"train4", "train5"} <= targets
    assert "train5" not in sources  # its T1 and PD do not lie on one grid


def test_mixed_is_in_proportion_and_repeats_nothing(data: Path) -> None:
    batches = batches_of(data, "mixed", batch_size=4)
    # 2 paired subjects; train3 gives sources, train4 and train5 targets: 10 + max(5, 10)
    assert batches.positions == 20
    for epoch in (0, 1):
        samples = [batches.sample(20 * epoch + i) for i in range(20)]
        paired = [s for s in samples if s.paired]
        assert len(paired) == 10
        assert len({s.names for s in paired}) == 10
        assert {s.names[0].split()[0] for s in paired} == {"train1", "train2"}
        others = [s for s in samples if not s.paired]
        assert len({s.names[1] for s in others}) == 10
        assert {s.names[1].split()[0] for s in others} == {"train4", "train5"}
        assert {s.names[0].split()[0] for s in others} == {"train3"}
    order = [[batches.sample(20 * e + i).paired for i in range(20)] for e in (0, 1)]
    assert order[0] != order[1]


def test_paired_subjects_give_what_no_unpaired_one_has(tmp_path: Path) -> None:
    write_prepared(tmp_path / "data", {"train1": "T1 T2", "train2": "T2"})
    batches = batches_of(tmp_path / "data", "mixed", sources=("T1",))
    names = [batches.sample(i).names for i in range(batches.positions)]
    unpaired = [n for n in names if len(n) == 2]
    assert {source.split()[0] for source, _ in unpaired} == {"train1"}
    assert {target.split()[0] for _, target in unpaired} == {"train2"}


@pytest.mark.parametrize("pairing", ["unpaired", "paired", "mixed"])
def test_batches_are_functions_of_seed_and_step(data: Path, pairing: str) -> None:
    whole, again, other = (
        batches_of(data, pairing, augment=True, seed=seed) for seed in (3, 3, 4)
    )
    parts = [
        batches_of(data, pairing, augment=True, seed=3, batch_size=2, rank=r, world=2)
        for r in (0, 1)
    ]
    for step in (7, 0):
        batch = whole[step]
        for name in ("source", "target", "paired"):
            joined = torch.cat([getattr(part[step], name) for part in parts])
            assert torch.equal(joined, getattr(batch, name))
            assert torch.equal(getattr(again[step], name), getattr(batch, name))
        assert not torch.equal(other[step].source, batch.source)
        assert parts[1].names(step) == whole.names(step)


def test_who_is_left_out_is_said(data: Path) -> None:
    said = Watching()
    batches_of(data, "paired", report=said)
    assert any("3 of 5 training subjects" in line for line in said.warnings)
    said.warnings.clear()
    batches_of(data, "unpaired", report=said)
    assert any("1 of 4 training subjects lack one of T1, PD" in line for line in said.warnings)


@pytest.mark.parametrize(
    ("subjects", "pairing", "words"),
    [
        ({"train1": "T1|T2"}, "paired", "no training subject has T1 and T2 on one grid"),
        ({"train1": "T1|T2"}, "paired", "register_training"),
        ({"train1": "T1|T2"}, "mixed", "no training subject has T1 and T2 on one grid"),
        ({"train1": "T1 T2"}, "mixed", "use `pairing` paired"),
        ({"train1": "T2"}, "unpaired", "no training subject has T1"),
    ],
)
def test_data_that_a_pairing_cannot_use(
    tmp_path: Path, subjects: dict[str, str], pairing: str, words: str
) -> None:
    write_prepared(tmp_path / "data", subjects)
    with pytest.raises(DataError, match=words):
        batches_of(tmp_path / "data", pairing, sources=("T1",))


def test_sources_on_different_grids_cannot_be_used(tmp_path: Path) -> None:
    write_prepared(tmp_path / "data", {"train1": "T1|PD|T2"})
    with pytest.raises(DataError, match="no training subject has T1 and PD on one grid"):
        batches_of(tmp_path / "data", "unpaired")


# --- what is minimised ----------------------------------------------------------------------


def images(channels: int = 1, b: int = 4) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.rand(b, channels, 16, 16) * 2 - 1, torch.rand(b, 1, 16, 16) * 2 - 1


def both_losses(objective: SynDiff, batch: Batch) -> dict[str, Tensor]:
    draw = Draw(0, 0)
    fakes = objective.generate(batch, draw)
    terms = objective.discriminator_losses(batch, fakes.detached(), draw)
    made = objective.generator_losses(batch, fakes, draw)
    return {f"D/{k}": v for k, v in terms.items()} | {f"G/{k}": v for k, v in made.items()}


def build(**options: object) -> SynDiff:
    torch.manual_seed(0)
    return SynDiff(TINY, **options)  # type: ignore[arg-type]


def test_a_batch_without_pairs_is_what_it_was() -> None:
    """Where no sample is paired, the losses are those of a batch that knows of no pairs."""
    source, target = images()
    terms = both_losses(build(), Batch(source, target))
    again = both_losses(build(), Batch(source, target, torch.zeros(4, dtype=torch.bool)))
    assert all(torch.equal(terms[k], again[k]) for k in terms)
    assert set(terms) == set(again)
    # The sum that the losses had before there were pairs; rounding is far below this.
    assert float(sum(terms.values()).detach()) == pytest.approx(19.0873966, rel=1e-4)  # type: ignore[union-attr]


def test_paired_samples_are_conditioned_on_the_acquired_image() -> None:
    """G_θ sees the acquired other modality where there are pairs, the guess elsewhere."""
    source, target = images()
    paired = torch.tensor([True, False, True, False])
    objective = build()
    with torch.no_grad():
        for p in objective.generators.parameters():  # silent layers would hide the condition
            if p.dim() > 1:
                torch.nn.init.normal_(p, 0, 0.15)
        seen = {}
        for m in ("source", "target"):
            network = objective.generators[f"diffusive_{m}"]
            network.register_forward_pre_hook(lambda _, args, m=m: seen.update({m: args[1]}))
        fakes = objective.generate(Batch(source, target, paired), Draw(0, 0))
        free = objective.generate(Batch(source, target), Draw(0, 0))
    objective_seen = dict(seen)  # of the last call: all unpaired
    assert torch.equal(objective_seen["source"], free["guess"]["source"])
    changed = (fakes["denoised"]["source"] != free["denoised"]["source"]).any(3).any(2).any(1)
    assert changed.tolist() == paired.tolist()
    with torch.no_grad():
        objective.generate(Batch(source, target, paired), Draw(0, 0))
    expected = torch.where(paired[:, None, None, None], target, free["guess"]["source"])
    assert torch.equal(seen["source"], expected)


def test_paired_samples_have_a_pixel_loss_instead_of_the_cycle() -> None:
    source, target = images()
    paired = torch.tensor([True, False, True, False])
    batch, objective = Batch(source, target, paired), build()
    fakes = objective.generate(batch, Draw(0, 0))
    terms = objective.generator_losses(batch, fakes, Draw(0, 0))
    weight = TINY.cycle_one_shot

    def l1(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().mean((1, 2, 3))

    for m, o in (("source", "target"), ("target", "source")):
        pixel = l1(fakes["guess"][m], batch[o])[[0, 2]].sum() / 4
        cycle = l1(fakes["round_trip"][m], batch[m])[[1, 3]].sum() / 4
        torch.testing.assert_close(terms[f"pixel_{o}"], weight * pixel)
        torch.testing.assert_close(terms[f"cycle_one_shot_{m}"], weight * cycle)


def test_a_batch_of_pairs_has_no_cycle() -> None:
    source, target = images()
    batch, objective = Batch(source, target, torch.ones(4, dtype=torch.bool)), build()
    fakes = objective.generate(batch, Draw(0, 0))
    assert not fakes["round_trip"]
    terms = objective.generator_losses(batch, fakes, Draw(0, 0))
    assert {k for k in terms if k.startswith(("cycle_one", "pixel"))} == {
        "pixel_source",
        "pixel_target",
    }
    expected = TINY.cycle_one_shot * losses.cycle(fakes["guess"]["source"], target)
    assert torch.equal(terms["pixel_target"], expected)


def test_a_supervised_run_builds_no_one_shot_networks() -> None:
    objective = build(supervised=True)
    assert set(objective.generators) == {"diffusive_source", "diffusive_target"}
    assert set(objective.discriminators) == {"diffusive_source", "diffusive_target"}
    source, target = images()
    terms = both_losses(objective, Batch(source, target, torch.ones(4, dtype=torch.bool)))
    assert {k.rpartition("_")[0] for k in terms} == {
        "D/diffusive",
        "D/penalty",
        "G/diffusive",
        "G/cycle_diffusive",
    }


@pytest.mark.parametrize("supervised", [False, True])
def test_several_sources_move_every_network(supervised: bool) -> None:
    objective = build(source_channels=3, supervised=supervised)
    assert objective.makes == ("target",)
    assert "diffusive_source" not in objective.generators
    source, target = images(3)
    paired = torch.tensor([True, supervised, supervised, supervised])
    batch, draw = Batch(source, target, paired), Draw(0, 0)
    fakes = objective.generate(batch, draw)
    sum(objective.discriminator_losses(batch, fakes.detached(), draw).values()).backward()  # type: ignore[union-attr]
    with frozen(objective.discriminators):
        sum(objective.generator_losses(batch, fakes, draw).values()).backward()  # type: ignore[union-attr]
    for player in (objective.generators, objective.discriminators):
        for name, network in player.items():
            grads = [p.grad for p in network.parameters() if p.grad is not None]
            assert all(g.isfinite().all() for g in grads)
            assert any(g.abs().max() > 0 for g in grads), name


def test_only_counted_samples_count() -> None:
    a, b = (
        torch.zeros(2, 1, 2, 2),
        torch.tensor([1.0, 5.0])[:, None, None, None].expand(2, 1, 2, 2),
    )
    assert distance(a, b, torch.tensor([True, True])) == 3
    assert distance(a, b, torch.tensor([True, False])) == 0.5
    assert distance(a, b, torch.tensor([False, True])) == 2.5


def test_every_channel_meets_every_channel() -> None:
    two, one = torch.arange(8.0).reshape(2, 2, 1, 2), torch.arange(4.0).reshape(2, 1, 1, 2) + 10
    left, right = by_channel(two, one)
    assert left[:, 0, 0, 0].tolist() == [0, 2, 4, 6]
    assert right[:, 0, 0, 0].tolist() == [10, 10, 12, 12]
    left, right = by_channel(one, one + 1)
    assert torch.equal(left, one)
    assert torch.equal(right, one + 1)


# --- what comes out -------------------------------------------------------------------------


def settings(**changes: object) -> TrainSettings:
    base = TrainSettings(
        objective=TINY, max_steps=4, batch_size=3, validate_every=2, generator_lr=1e-3
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several") / "run"
    train(data, folder, source=["T1", "PD"], target="T2", settings=settings(pairing="mixed"))
    return folder


def test_several_sources_make_one_translator(run: Path) -> None:
    (folder,) = (run / "translators").iterdir()
    assert folder.name == "T1+PD_to_T2"
    translator = load_translator(folder)
    assert translator.sources == ("T1", "PD")
    assert translator.config["network"]["in_channels"] == 3
    assert translator.config["training"]["pairing"] == "mixed"
    assert set(translator.config["intensity"]) == {"T1", "PD", "T2"}
    assert dict(describe(folder))["translates"] == "T1 and PD → T2"
    assert "T1+PD_to_T2/psnr_db" in (run / "history.csv").read_text()


def test_it_can_be_evaluated(data: Path, run: Path, tmp_path: Path) -> None:
    from syndiff.evaluation.candidates import How
    from syndiff.evaluation.evaluate import evaluate

    models = {"mine": run / "translators/T1+PD_to_T2"}
    results = evaluate(data, tmp_path / "out", models=models, how=How(device="cpu"))
    assert results["source"] == "T1+PD"
    assert np.isfinite(results["models"]["mine"]["person_means"]["psnr_db"])


@pytest.mark.parametrize("pairing", [pytest.param("paired", marks=pytest.mark.slow), "mixed"])
def test_resumed_equals_uninterrupted(data: Path, tmp_path: Path, pairing: str) -> None:
    chosen = settings(pairing=pairing)
    for name, minutes in (("whole", None), ("part", 1e-6)):
        run = tmp_path / name
        train(data, run, source="T1", target="T2", settings=chosen, max_minutes=minutes)
    train(data, run, source="T1", target="T2", settings=chosen, resume=True)
    whole, part = (load_state(tmp_path / n / "checkpoints/last.pt") for n in ("whole", "part"))
    assert whole["step"] == part["step"] == 4
    for name, tensor in whole["ema"].items():
        assert torch.equal(tensor, part["ema"][name]), name


def test_supervised_training_lowers_the_pixel_loss(data: Path, tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    train(
        data,
        tmp_path / "run",
        source=["T1", "PD"],
        target="T2",
        settings=settings(
            pairing="paired", max_steps=40, validate_every=1000, generator_lr=5e-3, augment=False
        ),
        report=Watching(lambda state: seen.append(state.losses)),
    )
    values = [s["generators/cycle_diffusive_target"] for s in seen]
    assert len(values) == 4
    assert values[-1] < 0.7 * values[0]


# --- volumes --------------------------------------------------------------------------------


def head(seed: int, spacing: float = 4.0) -> Volume:
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in (16, 16, 6)], indexing="ij")
    noise = np.random.default_rng(seed).random(x.shape)
    array = np.where(x**2 + y**2 + 0.3 * z**2 < 0.8, 100 + 50 * noise, 0)
    return Volume(array.astype(np.float32), np.diag([spacing, spacing, 5.0, 1.0]))


def test_volumes_of_several_sources(run: Path, tmp_path: Path) -> None:
    model = run / "translators/T1+PD_to_T2"
    t1, pd = head(1), head(2)
    volumes.write(t1, tmp_path / "T1.nii.gz")
    volumes.write(pd, tmp_path / "PD.nii.gz")
    out = tmp_path / "T2.nii.gz"
    translate_file(model, tmp_path / "T1.nii.gz", out, also={"PD": tmp_path / "PD.nii.gz"})
    assert same_grid(volumes.read(out), t1)
    translator = load_translator(model)
    with torch.no_grad():
        for p in translator.parameters():
            if p.dim() > 1:
                torch.nn.init.normal_(p, 0, 0.15)
    cpu = TranslationOptions(device="cpu")
    made = translate_volume(translator, t1, cpu, also={"PD": pd}).volume
    for other in ({"volume": pd, "also": {"PD": pd}}, {"volume": t1, "also": {"PD": t1}}):
        changed = translate_volume(translator, options=cpu, **other).volume  # type: ignore[arg-type]
        assert np.abs(changed.array - made.array).max() > 1


def test_sources_must_be_complete_and_on_one_grid(run: Path) -> None:
    translator = load_translator(run / "translators/T1+PD_to_T2")
    with pytest.raises(OptionError, match="nothing besides"):
        translate_volume(translator, head(1), TranslationOptions(device="cpu"))
    with pytest.raises(OptionError, match="FLAIR"):
        translate_volume(
            translator, head(1), TranslationOptions(device="cpu"), also={"FLAIR": head(2)}
        )
    with pytest.raises(GeometryError, match="another grid"):
        translate_volume(
            translator,
            head(1),
            TranslationOptions(device="cpu"),
            also={"PD": head(2, spacing=4.1)},
        )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": ["T1", "T1"]}, "modalities that differ"),
        ({"source": ["T1", "T2"]}, "modalities that differ"),
        ({"source": [], "settings": settings(pairing="mixed")}, "unpaired"),
        ({"settings": settings(pairing="some")}, "unpaired, paired, mixed"),
    ],
)
def test_bad_options(data: Path, tmp_path: Path, options: dict, words: str) -> None:
    asked: dict = {"source": "T1", "target": "T2", "settings": settings()} | options
    with pytest.raises(OptionError, match=words):
        train(data, tmp_path / "run", **asked)
    assert not (tmp_path / "run").exists()


def test_nothing_is_written_where_pairs_are_missing(tmp_path: Path) -> None:
    data = write_prepared(tmp_path / "data", {"train1": "T1|T2"})
    with pytest.raises(DataError, match="on one grid"):
        train(
            data, tmp_path / "run", source="T1", target="T2", settings=settings(pairing="paired")
        )
    assert not (tmp_path / "run").exists()


def test_a_player_without_networks_is_no_obstacle() -> None:
    """Nothing to guess: the one-shot terms are absent, the module trains all the same."""
    module = TranslationModule(build(supervised=True), settings(), 4)
    assert len(list(module.ema.parameters())) == len(
        list(module.objective.generators.parameters())
    )
