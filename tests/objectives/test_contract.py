"""What every method must do, whatever it is: one set of checks over all of them.

A new method adds its class and its smallest settings to METHODS in tests/helpers/methods.py.
"""

from __future__ import annotations

import copy
import gc
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from syndiff.inference import TranslationOptions
from syndiff.networks import compiled
from syndiff.objectives.base import Batch, Draw, Fakes
from syndiff.preparation.manifest import read_manifest
from syndiff.training.data import training_batches
from syndiff.training.validation import validation_slices
from syndiff.translators import Translator, load_translator
from syndiff.translators.sampling import Sampling
from tests.helpers.methods import (
    CARD,
    METHODS,
    batch,
    build,
    every_method,
    gradients,
    losses_of,
    slices,
    tethered,
    translate,
    translator_of,
)
from tests.helpers.tolerance import of_translation

# --- training -------------------------------------------------------------------------------


@every_method
def test_terms_are_finite_scalars(name: str) -> None:
    for term, value in losses_of(build(name), batch()).items():
        assert value.shape == (), term
        assert torch.isfinite(value), term


@every_method
def test_discriminators_losses_reach_the_discriminators_only(name: str) -> None:
    objective, draw, images = build(name), Draw(seed=0, step=0), batch()
    fakes = objective.generate(images, draw).detached()
    terms = objective.discriminator_losses(images, fakes, draw)
    assert bool(terms) == bool(len(objective.discriminators))
    if terms:
        sum(terms.values(), torch.zeros(())).backward()
    assert not gradients(objective.generators).any()
    for which, network in objective.discriminators.items():
        assert torch.isfinite(gradients(network)).all(), which
        assert gradients(network).any(), which


@every_method
def test_generators_losses_reach_the_generators_only(name: str) -> None:
    objective, draw, images = build(name), Draw(seed=0, step=0), batch()
    fakes = objective.generate(images, draw)
    objective.discriminators.requires_grad_(False)
    terms = objective.generator_losses(images, fakes, draw)
    sum(terms.values(), torch.zeros(())).backward()
    assert not gradients(objective.discriminators).any()
    for which, network in objective.generators.items():
        assert torch.isfinite(gradients(network)).all(), which
        assert gradients(network).any(), which


@every_method
def test_detached_fakes_have_the_values_but_no_graph(name: str) -> None:
    fakes: Fakes = build(name).generate(batch(), Draw(seed=0, step=0))
    graphs = 0
    for kind, images in fakes.detached().values.items():
        for modality, image in images.items():
            assert not image.requires_grad, kind
            assert torch.equal(image, fakes[kind][modality])
            graphs += fakes[kind][modality].requires_grad
    assert graphs


@every_method
def test_losses_are_a_function_of_seed_and_step(name: str) -> None:
    objective, images = build(name), batch()
    first, again = (losses_of(objective, images, step=3) for _ in range(2))
    assert all(torch.equal(first[term], again[term]) for term in first)


@every_method
@pytest.mark.parametrize("size", [1, 3])
def test_any_batch_size(name: str, size: int) -> None:
    assert all(torch.isfinite(v) for v in losses_of(build(name), batch(size)).values())


@every_method
def test_bfloat16_is_finite(name: str) -> None:
    objective = build(name)
    with torch.autocast("cpu", torch.bfloat16):
        terms = losses_of(objective, batch())
    exact = losses_of(objective, batch())
    sum(terms.values(), torch.zeros(())).backward()
    assert torch.isfinite(gradients(objective)).all()
    for term, value in terms.items():
        assert value.item() == pytest.approx(exact[term].item(), rel=0.1, abs=0.05), term


@every_method
def test_no_weight_is_held_twice(name: str) -> None:
    objective = build(name)
    held = [t.data_ptr() for t in objective.generators.state_dict().values()]
    assert len(held) == len(set(held))
    average = copy.deepcopy(objective.generators)  # as the moving average is made
    assert not {p.data_ptr() for p in average.parameters()} & set(held)


def living() -> tuple[int, int]:
    """Bytes of all tensors that Python holds, and how many of these hold a graph."""
    kinds = (torch.Tensor, torch.nn.Parameter)  # not the fake ones that another test may have left
    tensors = [o for o in gc.get_objects() if type(o) in kinds]
    return sum(t.nbytes for t in tensors), sum(t.grad_fn is not None for t in tensors)


@every_method
def test_a_step_leaves_no_image_and_no_graph(name: str) -> None:
    step = tethered(name)
    for number in range(2):  # makes moments, gradients and sums, with and without lazy terms
        step(number)
    gc.collect()
    gc.disable()  # what a step made must be gone by itself, not once a cycle is found
    try:
        before = living()
        for number in range(2, 4):
            step(number)
        assert living() == before
        assert before[1] == 0
    finally:
        gc.enable()


def slopes(name: str, **changes: Any) -> torch.Tensor:
    """The generators' gradients in a step, against discriminators that have stepped in it."""
    step = tethered(name, **changes)
    step(0)
    return gradients(step.module.objective.generators)


@every_method
def test_recomputing_changes_nothing_but_memory(name: str) -> None:
    torch.testing.assert_close(slopes(name, recompute=True), slopes(name))


@every_method
def test_a_batch_in_parts_is_the_same_batch(name: str) -> None:
    settings = METHODS[name][1]
    if name == "syndiff":  # a part sees its own samples' deviation only
        alone = replace(settings.step_discriminator, deviation_group=1)
        settings = replace(settings, step_discriminator=alone)
    whole = slopes(name, objective=settings)
    parts = slopes(name, objective=settings, accumulate=2)
    # Far more than rounding, far less than a wrong mean; the discriminators have stepped, and
    # where a gradient is nearly 0 Adam makes a whole step of its rounding.
    assert (parts - whole).norm() < 0.01 * whole.norm()
    # In mixed precision weights are converted once a step: not by the pass without gradients.
    whole, parts = (
        slopes(name, precision="bf16", objective=settings, accumulate=n) for n in (1, 2)
    )
    assert (parts - whole).norm() < 0.05 * whole.norm()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, [2]), ({"recompute": True}, [2, 2]), ({"accumulate": 2}, [1, 1, 1, 1])],
)
def test_how_often_a_block_runs_and_on_how_much(
    changes: dict[str, Any], expected: list[int]
) -> None:
    step, seen = tethered("syndiff", **changes), []
    block = step.module.objective.generators["diffusive_target"].residual[0]
    block.conv_0.register_forward_hook(lambda layer, inputs, output: seen.append(len(output)))
    step(0)
    assert seen == expected  # batch sizes


@every_method
def test_a_tiny_training_improves_its_objective(name: str, prepared: Path) -> None:
    """On slices of somebody else, with the same draws before and after."""
    manifest = read_manifest(prepared)
    unseen = validation_slices(manifest, ("T1",), "T2").sources
    probe = Batch(*(torch.from_numpy(unseen[m][:4] * 2 - 1) for m in ("T1", "T2")))
    batches = training_batches(
        manifest, ("T1",), "T2",
        pairing="unpaired", shared=False, batch_size=2, seed=0, augment=False,
    )  # fmt: skip
    module = tethered(name, final_lr=None).module

    @torch.no_grad()
    def own() -> float:
        """The generators' terms that are not an opponent's opinion, over some draws."""
        total = 0.0
        for at in range(4):
            draw = Draw(seed=99, step=at)
            fakes = module.objective.generate(probe, draw)
            terms = module.objective.generator_losses(probe, fakes, draw)
            opinions = ("adversarial", "one_shot", "diffusive")
            total += sum(v.item() for k, v in terms.items() if not k.startswith(opinions))
        return total

    before = own()
    for number in range(40):
        module.training_step(batches[number], number)
    assert own() < 0.8 * before


# --- translation ----------------------------------------------------------------------------


@every_method
def test_saved_and_loaded_make_the_same_image(name: str, tmp_path: Path) -> None:
    translator = translator_of(name)
    loaded = load_translator(translator.save(tmp_path / "T1_to_T2"))
    assert loaded.config["method"] == name
    assert loaded.config["settings"]
    np.testing.assert_array_equal(translate(loaded, slices()), translate(translator, slices()))


@every_method
def test_odd_sizes_and_batches(name: str) -> None:
    translator, images = translator_of(name), slices(3, 41, 35)
    whole = translate(translator, images, batch_size=3)
    assert whole.shape == images.shape
    assert np.isfinite(whole).all()
    parts = translate(translator, images, batch_size=2)
    tolerance = of_translation(translator, images, batch_size=3)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=tolerance)
    assert np.abs(translate(translator, 1 - images[::-1]) - whole).max() > 1e-3


@every_method
def test_weights_in_bf16_make_the_image_of_mixed_precision(name: str) -> None:
    translator = translator_of(name)
    lowered = translator.for_precision("bf16")
    assert {p.dtype for p in lowered.parameters()} >= {torch.bfloat16}
    assert {p.dtype for p in translator.parameters()} == {torch.float32}
    assert lowered.for_precision("bf16") is lowered
    assert translator.for_precision("32") is translator
    found = translate(translator, slices(), precision="bf16")
    assert np.abs(found - translate(translator, slices())).max() > 0
    translator.for_precision = lambda precision: translator  # type: ignore[method-assign]
    np.testing.assert_array_equal(found, translate(translator, slices(), precision="bf16"))


@every_method
def test_a_translator_keeps_nothing_between_calls(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever option one call has, the next one makes the default image."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    translator = translator_of(name)
    before = translate(translator, slices())
    kept = set(vars(translator)), {n: b.clone() for n, b in translator.state_dict().items()}
    chosen: list[dict[str, Any]] = [
        {"seed": 3}, {"batch_size": 1}, {"device": "cpu"}, {"shared_noise": False},
        {"sampling": Sampling("expectation", samples=2)}, {"precision": "bf16"},
        {"compiled": True}, {"check": False}, {"allow_synthetic": True},
    ]  # fmt: skip
    # One undersamples a volume before there are slices of it, the other asks for further chains.
    of_volumes = {"accelerate", "samples"}
    named = {n for each in chosen for n in each} | of_volumes
    assert named == {f.name for f in fields(TranslationOptions)}
    if translator.respaceable:
        chosen.append({"sampling": Sampling(steps=2)})
    if type(translator).estimate is not Translator.estimate:
        chosen.append({"sampling": Sampling("regression")})
    for options in chosen:
        translate(translator, slices(), **options)
        np.testing.assert_array_equal(translate(translator, slices(), device="cpu"), before)
    assert set(vars(translator)) == kept[0]
    for key, value in translator.state_dict().items():
        assert torch.equal(value, kept[1][key])
    assert translator.chain_steps() == translator.sampling_steps


@every_method
def test_the_seed_matters_to_stochastic_methods_only(name: str) -> None:
    translator = translator_of(name)
    first, other = (translate(translator, slices(), seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(translate(translator, slices(), seed=0), first)
    assert translator.stochastic == (not np.array_equal(first, other))


@every_method
def test_the_two_directions_have_their_own_networks(name: str) -> None:
    there, back = (translate(translator_of(name, to), slices()) for to in ("target", "source"))
    assert np.abs(there - back).max() > 1e-3


@every_method
def test_translators_have_the_weights_they_are_given(name: str) -> None:
    objective = build(name, awake=True)
    average = copy.deepcopy(objective.generators)
    before = translate(objective.translator(average, "target", CARD), slices())
    for p in objective.generators.parameters():
        torch.nn.init.zeros_(p)
    np.testing.assert_array_equal(
        translate(objective.translator(average, "target", CARD), slices()), before
    )
    for p in average.parameters():
        torch.nn.init.zeros_(p)
    changed = translate(objective.translator(average, "target", CARD), slices())
    assert np.abs(changed - before).max() > 1e-3
