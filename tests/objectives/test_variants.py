"""SynDiff's variants: what each leaves out is not computed; each trains, resumes, translates."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from syndiff.errors import ModelError, OptionError
from syndiff.inference import TranslationOptions, translate_slices
from syndiff.networks.ncsnpp import NCSNpp
from syndiff.objectives.base import Batch, Draw
from syndiff.objectives.syndiff import SynDiff
from syndiff.training.presets import TrainSettings
from syndiff.training.run import train
from syndiff.training.watch import LAST, load_state
from syndiff.translators import OneShotTranslator, load_translator
from syndiff.translators.sampling import Sampling
from tests.helpers.tiny import SIZE, TINY, write_prepared

# --- one step -------------------------------------------------------------------------------

TERMS = {
    "D": {"penalty", "diffusive", "one_shot"},
    "G": {"diffusive", "one_shot", "cycle_one_shot", "cycle_diffusive", "structure"},
}
CALLS = {"G one_shot": 2, "G diffusive": 1, "D one_shot": 3, "D diffusive": 3}

# Settings → the terms that are missing, and the calls of each network that differ.
LEFT_OUT: dict[str, tuple[dict[str, Any], dict[str, set[str]], dict[str, int]]] = {
    "all of it": ({}, {}, {}),
    "l1 projector": (
        {"adversarial_diffusive": 0.0},
        {"D": {"penalty", "diffusive"}, "G": {"diffusive"}},
        {"D diffusive": 0},
    ),
    "no one-shot discriminator": (
        {"adversarial_one_shot": 0.0},
        {"D": {"one_shot"}, "G": {"one_shot"}},
        {"D one_shot": 0},
    ),
    "no one-shot cycle": ({"cycle_one_shot": 0.0}, {"G": {"cycle_one_shot"}}, {"G one_shot": 1}),
    "no diffusive cycle": ({"cycle_diffusive": 0.0}, {"G": {"cycle_diffusive"}}, {}),
    "no structure": ({"structure": 0.0}, {"G": {"structure"}}, {}),
    "no penalty": ({"gradient_penalty": 0.0}, {"D": {"penalty"}}, {}),
    "non-diffusive module": (
        {"diffusive": False},
        {"D": {"penalty", "diffusive"}, "G": {"diffusive", "cycle_diffusive"}},
        {"G diffusive": 0, "D diffusive": 0},
    ),
    "frozen one-shot module": (
        {"one_shot_epochs": 0.0},
        {"D": {"one_shot"}, "G": {"one_shot", "cycle_one_shot", "structure"}},
        {"G one_shot": 1, "D one_shot": 0},
    ),
}


def batch(source_channels: int = 1) -> Batch:
    values = torch.Generator().manual_seed(1)
    shapes = (2, source_channels, SIZE, SIZE), (2, 1, SIZE, SIZE)
    return Batch(*(torch.rand(shape, generator=values) * 2 - 1 for shape in shapes))


def built(**changes: Any) -> SynDiff:
    torch.manual_seed(0)
    return SynDiff(replace(TINY, **changes))


def kinds(names: Mapping[str, Any]) -> set[str]:
    """Without the modality, each of which must be there twice."""
    found = Counter(name.rpartition("_")[0] for name in names)
    assert set(found.values()) <= {2}
    return set(found)


def one_step(objective: SynDiff, images: Batch, step: int) -> dict[str, dict[str, torch.Tensor]]:
    """Both players' terms, their gradients accumulated."""
    draw = Draw(0, step)
    fakes = objective.generate(images, draw)
    terms = {
        "D": objective.discriminator_losses(images, fakes.detached(), draw),
        "G": objective.generator_losses(images, fakes, draw),
    }
    for of_player in terms.values():
        if of_player:
            torch.stack(list(of_player.values())).sum().backward()
    return terms


def by_kind(objective: SynDiff) -> dict[str, list[nn.Module]]:
    """ "G one_shot" → these networks."""
    found = defaultdict[str, list[nn.Module]](list)
    for player, group in (("G", objective.generators), ("D", objective.discriminators)):
        for name, network in group.items():
            kind = "one_shot" if name.startswith("one_shot") else "diffusive"
            found[f"{player} {kind}"].append(network)
    return found


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_has_no_weight_is_neither_built_nor_computed(name: str) -> None:
    changes, missing, other_calls = LEFT_OUT[name]
    objective, calls = built(**changes), Counter[str]()
    for kind, networks in by_kind(objective).items():
        for network in networks:
            network.register_forward_hook(lambda *called, kind=kind: calls.update([kind]))
    terms = one_step(objective, batch(), step=0)
    for player, of_all in TERMS.items():
        assert kinds(terms[player]) == of_all - missing.get(player, set())
    expected = {kind: 2 * n for kind, n in (CALLS | other_calls).items() if n}
    assert calls == expected
    assert by_kind(objective).keys() == expected.keys()


def test_without_an_adversary_no_sample_is_drawn_for_it() -> None:
    assert "denoised_prev" in built().generate(batch(), Draw(0, 0)).values
    fakes = built(adversarial_diffusive=0.0).generate(batch(), Draw(0, 0))
    assert "denoised_prev" not in fakes.values


def test_the_one_shot_module_stops_at_its_epoch() -> None:
    objective = built(one_shot_epochs=1.5)
    objective.steps_per_epoch = 4
    assert [objective.one_shot_learns(step) for step in (0, 5, 6, 7)] == [True, True, False, False]
    before, after = (one_step(objective, batch(), step) for step in (5, 6))
    assert "one_shot" in kinds(before["D"]) & kinds(before["G"])
    assert kinds(after["D"]) == {"penalty", "diffusive"}
    assert kinds(after["G"]) == {"diffusive", "cycle_diffusive"}
    objective.zero_grad(set_to_none=True)
    one_step(objective, batch(), step=7)
    for group in (objective.generators, objective.discriminators):
        for name, network in group.items():
            still = all(p.grad is None for p in network.parameters())
            assert still == name.startswith("one_shot"), name


def test_without_a_source_only_the_target_s_diffusion_is_there() -> None:
    objective = SynDiff(TINY, source_channels=0)
    assert set(objective.generators) == set(objective.discriminators) == {"diffusive_target"}
    assert objective.makes == ("target",)
    terms = one_step(objective, batch(source_channels=0), step=0)
    assert set(terms["D"]) == {"penalty_target", "diffusive_target"}
    assert set(terms["G"]) == {"diffusive_target", "cycle_diffusive_target"}
    for network in objective.children():
        assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("steps", [1, 2, 8, 16])
def test_any_number_of_steps(steps: int) -> None:
    objective = built(steps=steps)
    seen = {int(t) for at in range(100) for t in Draw(0, at).integers(objective.settings.steps, 2)}
    assert seen == set(range(steps))
    for terms in one_step(objective, batch(), step=0).values():
        assert all(torch.isfinite(value) for value in terms.values())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cycle_diffusive": 0.0, "adversarial_diffusive": 0.0}, "no loss for the diffusive"),
        (
            {"cycle_one_shot": 0.0, "adversarial_one_shot": 0.0, "structure": 0.0},
            "no loss for the one-shot",
        ),
        ({"diffusive": False, "one_shot_epochs": 0.0}, "diffusive=false"),
        ({"steps": 0}, "steps=0"),
        ({"gradient_penalty_interval": 0}, "gradient_penalty_interval=0"),
        ({"cycle_one_shot": -1.0}, "cycle_one_shot"),
        ({"structure": float("nan")}, "structure"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        built(**changes)


@pytest.mark.parametrize("detached", [False, True])
def test_the_diffusive_losses_reach_the_one_shot_module_unless_detached(detached: bool) -> None:
    objective = built(detach_one_shot=detached)
    for p in objective.parameters():  # layers that start silent have no gradient
        if p.dim() > 1:
            torch.nn.init.normal_(p, 0, 0.15)
    images, draw = batch(), Draw(seed=0, step=0)
    terms = objective.generator_losses(images, objective.generate(images, draw), draw)
    diffusive = [v for k, v in terms.items() if k.startswith(("cycle_diffusive", "diffusive"))]
    torch.stack(diffusive).sum().backward()
    for name, network in objective.generators.items():
        reached = any(p.grad is not None and bool(p.grad.any()) for p in network.parameters())
        assert reached == (name.startswith("diffusive") or not detached), name


# --- whole runs -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten slices of either modality to train on: five steps in a pass."""
    subjects = {f"train{i}": "T1 T2" for i in range(1, 5)} | {"val1": "T1 T2"}
    return write_prepared(tmp_path_factory.mktemp("variants") / "data", subjects)


def run_of(data: Path, run: Path, until: int, **options: Any) -> Path:
    """Train up to that step; what is no option of `train` is a setting of SynDiff's.

    `wider` is the width of its one-shot generators.
    """
    wider = replace(TINY.one_shot, channels=options.pop("wider", TINY.one_shot.channels))
    known = {"source", "target", "one_shot", "resume"}
    asked = {"source": "T1", "target": "T2"} | {k: v for k, v in options.items() if k in known}
    changes = {k: v for k, v in options.items() if k not in known}
    settings = TrainSettings(
        objective=replace(TINY, one_shot=wider, **changes),
        max_steps=until,
        batch_size=2,
        validate_every=100,
        generator_lr=1e-3,
        final_lr=None,
    )
    train(data, run, settings=settings, devices="cpu", **asked)
    return run


def networks(run: Path, player: str = "generators", prefix: str = "") -> dict[str, torch.Tensor]:
    state = load_state(run / LAST)[player]
    return {name: tensor for name, tensor in state.items() if name.startswith(prefix)}


def equal(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    """Bit for bit, and about something."""
    return bool(a) and a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def images(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).random((count, SIZE, SIZE), np.float32)


@pytest.fixture(scope="module")
def one_shot_run(data: Path) -> Path:
    """Of the non-diffusive module alone."""
    return run_of(data, data.parent / "one_shot", 2, diffusive=False)


VARIANTS: dict[str, dict[str, Any]] = {
    "T/k = 1": {"steps": 1},
    "T/k = 16": {"steps": 16},
    "l1 projector, 4 steps": {"adversarial_diffusive": 0.0},
    "l1 projector, 1000 steps": {"adversarial_diffusive": 0.0, "steps": 1000},
    "without adversarial loss": {"adversarial_diffusive": 0.0, "adversarial_one_shot": 0.0},
    "without cycle loss": {"cycle_diffusive": 0.0, "cycle_one_shot": 0.0},
    "non-diffusive module": {"diffusive": False},
    "stopped after an epoch": {"one_shot_epochs": 0.2},
    "pretrained, frozen": {"one_shot": True, "one_shot_epochs": 0.0},
    "pretrained, trained": {"one_shot": True},
}


# The others go through the same lines; their losses and networks are tested above.
SLOW = {
    "T/k = 16", "l1 projector, 1000 steps", "without cycle loss", "stopped after an epoch",
    "pretrained, trained", "T/k = 1", "without adversarial loss",
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in VARIANTS]
)
def test_a_variant_trains_resumes_and_translates(
    name: str, data: Path, one_shot_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    forward = NCSNpp.forward

    def counted(network: NCSNpp, *inputs: Any) -> torch.Tensor:
        passes.append(len(inputs))
        return forward(network, *inputs)

    monkeypatch.setattr(NCSNpp, "forward", counted)
    options = dict(VARIANTS[name])
    if options.get("one_shot"):
        options["one_shot"] = one_shot_run
    run = run_of(data, tmp_path / "run", 2, **options)
    assert len(passes) <= 2 * 2 + 4 * 20  # training, and validation there and back
    run_of(data, run, 3, resume=True, **options)
    whole = run_of(data, tmp_path / "whole", 3, **options)
    for player in ("generators", "ema"):
        assert equal(networks(run, player), networks(whole, player))
    there, back = (load_translator(run / "translators" / n) for n in ("T1_to_T2", "T2_to_T1"))
    assert isinstance(there, OneShotTranslator) == (name == "non-diffusive module")
    few = Sampling(steps=10 if there.respaceable and there.sampling_steps > 10 else 0)
    made = translate_slices(there, images(), TranslationOptions(device="cpu", sampling=few))
    assert made.shape == images().shape
    assert np.isfinite(made).all()
    assert not np.array_equal(
        made, translate_slices(back, images(), TranslationOptions(device="cpu", sampling=few))
    )


def test_a_stopped_module_stays_as_it_is_and_the_rest_goes_on(data: Path, tmp_path: Path) -> None:
    free = run_of(data, tmp_path / "free", 2)
    stopped = run_of(data, tmp_path / "stopped", 4, one_shot_epochs=0.2)  # two of ten steps
    for player in ("generators", "discriminators"):
        assert equal(networks(stopped, player, "one_shot"), networks(free, player, "one_shot"))
        assert not equal(networks(stopped, player, "diffus"), networks(free, player, "diffus"))


def test_a_pretrained_module_is_the_earlier_run_s_average(
    data: Path, one_shot_run: Path, tmp_path: Path
) -> None:
    options = {"one_shot": one_shot_run, "one_shot_epochs": 0.0}
    frozen = run_of(data, tmp_path / "frozen", 2, **options)
    assert equal(networks(frozen, prefix="one_shot"), networks(one_shot_run, "ema"))
    assert not networks(frozen, "discriminators", "one_shot")
    trained = run_of(data, tmp_path / "trained", 1, one_shot=one_shot_run)
    scratch = run_of(data, tmp_path / "scratch", 1)
    for player, earlier in (("generators", "ema"), ("discriminators", "discriminators")):
        before = networks(one_shot_run, earlier, "one_shot")
        moved, other = (networks(run, player, "one_shot") for run in (trained, scratch))
        steps = torch.cat([(moved[k] - before[k]).flatten().abs() for k in before])
        assert 0 < steps.max() < 1.1e-3  # one step of Adam's from there
        assert max((other[k] - before[k]).abs().max() for k in before) > 2e-3
    record = load_translator(trained / "translators" / "T1_to_T2").config["training"]
    assert record["one_shot_of"] == one_shot_run.name


def test_what_cannot_be_begun_with_is_refused(
    data: Path, one_shot_run: Path, tmp_path: Path
) -> None:
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"one_shot_epochs": 0.0}, OptionError, "untrained"),
        ({"one_shot": tmp_path}, ModelError, "no checkpoint"),
        (
            {"one_shot": one_shot_run, "source": "T2", "target": "T1"},
            OptionError,
            "between T1 and T2",
        ),
        ({"one_shot": one_shot_run, "wider": 8}, ModelError, "another size"),
        ({"one_shot": one_shot_run, "source": ()}, OptionError, "no one-shot module"),
    ]
    for options, error, words in cases:
        with pytest.raises(error, match=words):
            run_of(data, tmp_path / "run", 1, **options)
        assert not (tmp_path / "run").exists()
    run = run_of(data, tmp_path / "with", 1, one_shot=one_shot_run)
    with pytest.raises(OptionError, match="one_shot"):
        run_of(data, run, 2, resume=True, one_shot=tmp_path / "other")


# --- a chain cut short ----------------------------------------------------------------------


def test_only_a_chain_without_an_adversary_can_be_cut_short() -> None:
    card = {"sources": ["T1"], "target": "T2", "spacing_mm": 4.0, "size": [SIZE, SIZE]}
    card |= {"intensity": {}}
    l1 = built(adversarial_diffusive=0.0, steps=1000)
    translator = l1.translator(l1.generators, "target", card)
    assert (translator.chain_steps(7), l1.schedule.steps) == (7, 1000)
    for wrong in (-1, 1001):
        with pytest.raises(OptionError, match="1 to 1000"):
            translator.chain_steps(wrong)
    full = built()
    with pytest.raises(OptionError, match="4, as trained"):
        full.translator(full.generators, "target", card).chain_steps(2)


def test_the_network_is_told_the_training_s_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    card = {"sources": ["T1"], "target": "T2", "spacing_mm": 4.0, "size": [SIZE, SIZE]}
    l1 = built(adversarial_diffusive=0.0, steps=1000)
    translator = l1.translator(l1.generators, "target", card | {"intensity": {}})
    told: list[int] = []
    forward = NCSNpp.forward

    def listening(network: NCSNpp, x_t: Any, source: Any, t: Any, z: Any) -> torch.Tensor:
        told.append(int(t[0]))
        return forward(network, x_t, source, t, z)

    monkeypatch.setattr(NCSNpp, "forward", listening)
    translate_slices(
        translator, images(1), TranslationOptions(device="cpu", sampling=Sampling(steps=4))
    )
    assert told == [999, 666, 333, 0]
