"""All eight methods through the front door: their presets, and train → resume → translate."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from syndiff.errors import OptionError
from syndiff.evaluation.candidates import How
from syndiff.evaluation.evaluate import evaluate
from syndiff.inference import TranslationOptions, translate_file
from syndiff.io import formats as volumes
from syndiff.io.atomic import read_json
from syndiff.networks.patchgan import MultiScaleDiscriminator
from syndiff.objectives.base import Draw
from syndiff.objectives.methods import METHODS, method_named, method_of
from syndiff.training.hyperparameters import from_plain
from syndiff.training.module import TranslationModule
from syndiff.training.presets import TrainSettings, choose, preset
from syndiff.training.run import train
from tests.helpers.methods import METHODS as TINY_METHODS
from tests.helpers.methods import batch

OTHERS = [name for name in METHODS if name != "syndiff"]
every_other = pytest.mark.parametrize("name", OTHERS)


def test_the_paper_s_eight() -> None:
    titles = ["SynDiff", "cGAN", "UNIT", "MUNIT", "AttGAN", "SAGAN", "DDPM", "UNIT-DDPM"]
    assert [method.title for method in METHODS.values()] == titles
    for name, method in METHODS.items():
        assert method.name == name
        assert method_of(method.settings()) is method


CPU = TranslationOptions(device="cpu")


@pytest.mark.parametrize(
    ("name", "epochs", "rate", "decay", "weights"),
    [
        ("cyclegan", 100, 2e-4, 50, {"cycle": 100, "adversarial": 1}),
        ("unit", 100, 1e-4, 0, {"cycle": 10, "adversarial": 1, "reconstruction": 10}),
        ("munit", 100, 1e-4, 0, {"image": 10, "content": 1, "style": 1, "adversarial": 1}),
        ("attgan", 100, 2e-4, 50, {"cycle": 100, "adversarial": 1}),
        ("sagan", 100, 2e-4, 50, {"cycle": 100, "adversarial": 1}),
        ("ddpm", 50, 1e-4, 0, {"steps": 1000}),
        ("unit_ddpm", 50, 1e-4, 0, {"steps": 1000, "release_time": 1}),
    ],
)
def test_paper_presets_hold_what_section_iv_b_says(
    name: str, epochs: int, rate: float, decay: int, weights: dict[str, float]
) -> None:
    settings = preset("paper", name)
    assert (settings.epochs, settings.linear_decay_epochs) == (epochs, decay)
    assert settings.generator_lr == settings.discriminator_lr == rate
    assert settings.adam_betas == (0.5, 0.9)
    assert settings.final_lr is None
    assert {key: getattr(settings.objective, key) for key in weights} == weights


@every_other
def test_presets_differ_in_nothing_but_the_method(name: str) -> None:
    own = {"objective", *METHODS[name].training, "final_lr", "linear_decay_epochs"}
    for kind in ("default", "small"):
        ours, theirs = preset(kind), preset(kind, name)
        differing = {
            f.name
            for f in fields(TrainSettings)
            if getattr(ours, f.name) != getattr(theirs, f.name)
        }
        assert differing <= (own if kind == "default" else {"objective"})
    with pytest.raises(OptionError, match="github"):
        preset("github", name)


def test_a_linear_decay_ends_at_zero_and_starts_late() -> None:
    method = METHODS["cyclegan"]
    settings = choose("paper", method="cyclegan", max_steps=1000)
    module = TranslationModule(method.build(TINY_METHODS["cyclegan"][1]), settings, 1000)
    rates = []
    for step in (0, 499, 500, 750, 1000):
        module.step = step
        rates.append(module.rate(2e-4))
    np.testing.assert_allclose(rates, [2e-4, 2e-4, 2e-4, 1e-4, 0], atol=1e-12)


def test_hyper_parameters_by_name() -> None:
    objective = choose(
        "small", assignments=["steps=8", "cycle-one-shot=0.25", "multipliers=1,2"]
    ).objective
    assert (objective.steps, objective.cycle_one_shot) == (8, 0.25)
    assert objective.generator.multipliers == (1, 2)  # by the name that it had before
    dotted = choose("small", assignments=["generator.multipliers=1,2"]).objective
    assert dotted.generator == objective.generator
    assert choose("small", assignments=["spectral_norm=true"]).objective.spectral_norm is True
    for wrong, words in {
        "step=8": "has no step",
        "steps": "NAME=VALUE",
        "steps=many": "such as 4",
        "multipliers=a": "numbers",
        "generator.chanels=8": "perhaps generator.channels",
        "generator=unknown": "one of ncsnpp",
        "one_shot=ncsnpp": "expected one of resnet, or a value of its own",
        "step_discriminator=ncsnpp": r"a value of its own, such as step_discriminator\.stem",
        "spectral_norm=maybe": "spectral_norm",
    }.items():
        with pytest.raises(OptionError, match=words):
            choose("small", assignments=[wrong])


def test_what_a_method_has_not_is_refused() -> None:
    with pytest.raises(OptionError, match="cyclegan has no structure"):
        choose("small", method="cyclegan", structure=1.0)
    with pytest.raises(OptionError, match="method"):
        choose("small", method="pix2pix")
    with pytest.raises(OptionError, match="networks"):
        choose("paper", "small", method="unit")
    with pytest.raises(OptionError, match="2 sources"):
        method_named("ddpm").build(TINY_METHODS["ddpm"][1], source_channels=2)
    without = replace(method_named("munit"), pairs=False)
    with pytest.raises(OptionError, match="pairs"):
        without.build(TINY_METHODS["munit"][1], supervised=True)


@pytest.mark.parametrize("name", ["cyclegan", "unit", "munit", "attgan", "sagan", "ddpm"])
def test_small_discriminators_see_half_a_slice(name: str) -> None:
    # Of 64 pixels. Those of UNIT and MUNIT learned much more slowly from patches of 22.
    objective = METHODS[name].build(METHODS[name].small)
    for which, network in objective.discriminators.items():
        first = network.scales[0] if isinstance(network, MultiScaleDiscriminator) else network
        patch = jump = 1
        for layer in first.modules():
            if isinstance(layer, nn.Conv2d):
                patch += (layer.kernel_size[0] - 1) * jump
                jump *= layer.stride[0]
        assert patch >= 32, which


def test_an_empty_translation_does_not_pay_in_unit_ddpm() -> None:
    # Nothing is easier to denoise; the structure term is what makes it dear.
    assert METHODS["unit_ddpm"].small.structure > 0
    objective = METHODS["unit_ddpm"].build(
        replace(TINY_METHODS["unit_ddpm"][1], structure=1.0), source_channels=1
    )
    images, draw = batch(), Draw(seed=0, step=0)
    fakes = objective.generate(images, draw)
    terms = {}
    for kind in ("empty", "inverted"):
        made = {"empty": torch.full_like(images.source, -1.0), "inverted": -images.source}
        fakes["other_0"]["source"] = made[kind]
        terms[kind] = float(objective.generator_losses(images, fakes, draw)["structure_source"])
    assert terms["empty"] > 0.1
    assert terms["inverted"] == pytest.approx(0, abs=1e-6)


def tiny(name: str, steps: int) -> TrainSettings:
    return replace(
        preset("small", name),
        objective=TINY_METHODS[name][1],
        max_steps=steps,
        validate_every=100,
    )


# One of each kind of translator, but for the longest; all keep the contract in test_contract.py.
SLOW = ("attgan", "sagan", "ddpm", "unit_ddpm")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in METHODS]
)
def test_train_resume_translate_evaluate(
    name: str, prepared: Path, cohort: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = {"source": "T1", "target": "T2", "preset": "small", "devices": "cpu"}
    train(prepared, run, settings=tiny(name, 2), **options)  # type: ignore[arg-type]
    outcome = train(prepared, run, settings=tiny(name, 3), resume=True, **options)  # type: ignore[arg-type]
    assert outcome.step == 3
    assert read_json(run / "settings.json", "settings")["method"] == name
    model = run / "translators" / "T1_to_T2"
    scan = cohort / "sub-006" / "anat" / "sub-006_T1w.nii.gz"
    made = translate_file(model, scan, tmp_path / "made.nii.gz", CPU).volume
    source = volumes.read(scan)
    assert made.array.shape == source.array.shape
    np.testing.assert_array_equal(made.affine, source.affine)
    assert np.isfinite(made.array).all()
    results = evaluate(prepared, tmp_path / "report", models={name: model}, how=How(device="cpu"))
    assert np.isfinite(results["models"][name]["person_means"]["psnr_db"])


def test_another_method_cannot_resume_a_run(prepared: Path, tmp_path: Path) -> None:
    options = {"source": "T1", "target": "T2", "preset": "small", "devices": "cpu"}
    train(prepared, tmp_path, settings=tiny("cyclegan", 1), **options)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="method"):
        train(prepared, tmp_path, settings=tiny("sagan", 2), resume=True, **options)  # type: ignore[arg-type]


OLD = {  # what settings.json of version 0.1 held of a run with small networks
    "steps": 4, "beta_min": 0.1, "beta_max": 20.0, "cycle_one_shot": 2.0, "cycle_diffusive": 5.0,
    "adversarial_one_shot": 1.0, "adversarial_diffusive": 1.0, "gradient_penalty": 0.5,
    "gradient_penalty_interval": 10, "structure": 5.0, "diffusive": True, "one_shot_epochs": -1.0,
    "deviation_group": 4, "channels": 32, "multipliers": [1, 2, 2], "blocks": 1,
    "attention_levels": [2], "time_dim": 32, "latent_dim": 32, "latent_embedding": 64,
    "latent_layers": 3, "one_shot_channels": 24, "one_shot_blocks": 3, "upsampling": "resize",
    "step_stem": 24, "step_widths": [32, 64, 96, 96], "step_time_dim": 64, "patch_channels": 48,
    "patch_halvings": 2, "spectral_norm": False,
}  # fmt: skip


def test_the_flat_settings_of_an_old_run_are_read() -> None:
    method = METHODS["syndiff"]
    read = from_plain(OLD, method)
    as_then = {"detach_one_shot": False, "structure_radius_mm": 0.0, "one_shot_first": 0.0}
    small = replace(choose("small").objective, **as_then, one_shot_frozen=False)
    assert read == small
    assert from_plain(json.loads(json.dumps(asdict(read))), method) == read
    with pytest.raises(OptionError, match="perhaps one_shot_epochs"):
        from_plain(OLD | {"one_shot_epoch": 1}, method)
    with pytest.raises(OptionError, match=r"generator\.blocks=1\.5"):
        from_plain(OLD | {"blocks": 1.5}, method)


_OLD_CYCLE = {
    "cycle": 2.0, "adversarial": 1.0, "image_pool": 0, "patch_channels": 32, "patch_halvings": 2,
}  # fmt: skip
_OLD_RESNET = {"channels": 24, "blocks": 3, "upsampling": "resize"}
_OLD_DIFFUSION = {
    "steps": 1000, "cycle": 2.0, "structure": 5.0, "structure_radius_mm": 2.0, "channels": 16,
    "multipliers": [1, 2, 3, 4], "blocks": 1, "attention_levels": [3], "heads": 2, "dropout": 0.0,
    "one_shot_channels": 16, "one_shot_blocks": 3, "upsampling": "resize",
}  # fmt: skip
OLD_OTHERS = {  # what settings.json held of the other methods' small runs
    "cyclegan": _OLD_CYCLE | _OLD_RESNET,
    "unit": {
        "cycle": 2.0, "adversarial": 1.0, "reconstruction": 2.0, "kl": 0.004, "channels": 20,
        "blocks": 2, "upsampling": "transposed", "cascade_channels": 32, "cascade_halvings": 4,
    },
    "munit": {
        "image": 10.0, "content": 1.0, "style": 1.0, "adversarial": 1.0, "channels": 16,
        "blocks": 2, "style_dim": 8, "hidden": 64, "cascade_channels": 24, "cascade_halvings": 4,
        "scales": 2,
    },
    "attgan": _OLD_CYCLE | {"channels": 16, "levels": 4, "finest_gate": False},
    "sagan": _OLD_CYCLE | _OLD_RESNET | {"attention": 2},
    "ddpm": _OLD_DIFFUSION
    | {"variational": 0.001, "adversarial": 1.0, "patch_channels": 48, "patch_halvings": 2},
    "unit_ddpm": _OLD_DIFFUSION | {"release_time": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", list(OLD_OTHERS))
def test_the_flat_settings_of_the_other_methods_are_read(name: str) -> None:
    method = METHODS[name]
    assert from_plain(OLD_OTHERS[name], method) == method.small
    # Each of a network's sizes still has its earlier name, and a value of its own there.
    for old, now in method.renamed.items():
        text = str(OLD_OTHERS[name][old]).strip("[]")  # type: ignore[index]
        typed = choose("paper", method=name, assignments=[f"{old}={text}"]).objective
        assert typed == choose("paper", method=name, assignments=[f"{now}={text}"]).objective
    with pytest.raises(OptionError, match="has no channel"):
        from_plain(OLD_OTHERS[name] | {"channel": 1}, method)


@pytest.mark.parametrize("name", list(METHODS))
def test_settings_survive_json(name: str) -> None:
    for settings in (METHODS[name].settings(), choose("small", method=name).objective):
        assert from_plain(json.loads(json.dumps(asdict(settings))), METHODS[name]) == settings
