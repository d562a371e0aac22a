"""Networks compiled by torch: the same steps and images, and one line where it cannot be done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed
from torch._inductor.exc import TritonMissing

from syndiff.benchmark.ceiling import TINY_WORK
from syndiff.benchmark.run import Options, benchmark
from syndiff.benchmark.workloads import COMPILED, ONNX, OURS
from syndiff.errors import OptionError
from syndiff.inference import TranslationOptions, translate_slices
from syndiff.networks import compiled
from syndiff.networks.compiled import compiling
from syndiff.preparation.orientation import SliceOrientation
from syndiff.training.run import train
from syndiff.training.watch import load_state
from syndiff.translators import AdversarialDiffusionTranslator, OnnxTranslator
from syndiff.translators.sampling import Sampling
from tests.helpers.methods import (
    CARD,
    METHODS,
    batch,
    build,
    losses_of,
    slices,
    tethered,
    translator_of,
)
from tests.helpers.runs import TINY_GITHUB, settings
from tests.helpers.tolerance import of_translation, stepped_apart

slow = pytest.mark.slow
STEP = 1e-3  # of the slower optimizer of `tethered`
FEW = 0.02  # weights whose gradient is nearly 0
# Tracing takes seconds for each network: one method among the fast tests, all among the slow.
TRACED = [name if name == "cyclegan" else pytest.param(name, marks=slow) for name in METHODS]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The graphs that are run, by their number; traced as ever, but run without a compiler."""
    made: list[int] = []
    run: list[int] = []

    def trace(graph: Any, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        number = len(made)
        made.append(number)

        def call(*arguments: Any) -> Any:
            run.append(number)
            return graph.forward(*arguments)

        return call

    torch.compiler.reset()
    monkeypatch.setattr(compiled, "BACKEND", trace)
    yield run
    torch.compiler.reset()


@pytest.mark.parametrize("name", TRACED)
def test_a_step_is_the_same(name: str, passes: list[int]) -> None:
    ends = []
    for asked in (False, True):
        step = tethered(name)
        with compiled.compiled(step.networks.values(), asked):
            for number in range(3):  # with and without the gradient penalty
                step(number)
        assert bool(passes) == asked
        ends.append(nn.utils.parameters_to_vector(step.module.objective.parameters()))
    assert stepped_apart(ends[1], ends[0], STEP) < FEW


@slow
@pytest.mark.parametrize("changes", [{"recompute": True}, {"spectral_norm": True}])
def test_a_step_with_other_options_is_the_same(
    changes: dict[str, bool], passes: list[int]
) -> None:
    if "spectral_norm" in changes:
        changes = {"objective": replace(METHODS["syndiff"][1], **changes)}
    ends = []
    for asked in (False, True):
        step = tethered("syndiff", **changes)
        with compiled.compiled(step.networks.values(), asked):
            for number in range(2):
                step(number)
        ends.append(nn.utils.parameters_to_vector(step.module.objective.parameters()))
    assert passes
    assert stepped_apart(ends[1], ends[0], STEP) < FEW


@slow
def test_the_penalty_is_taken_on_a_plain_pass(passes: list[int]) -> None:
    """A compiled pass has no second derivative."""
    objective = build("syndiff", awake=True)
    expected = losses_of(objective, batch(), step=0)
    with compiled.compiled([objective.discriminators["diffusive_target"]]):
        found = losses_of(objective, batch(), step=0)
    assert found["discriminators/penalty_target"] > 0
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)
    fake_and_generators = 2
    assert len(passes) == fake_and_generators


@pytest.mark.parametrize("name", TRACED)
@pytest.mark.parametrize("precision", ["32", pytest.param("bf16", marks=slow)])
def test_an_image_is_the_same_and_is_compiled_for_once(
    name: str, precision: str, passes: list[int]
) -> None:
    """Whatever is left for the last batch, and also when it is called again."""
    plain, images = translator_of(name), slices(5)
    options = TranslationOptions(batch_size=2, device="cpu", precision=precision)
    compiled = replace(options, compiled=True)
    exact = translate_slices(plain, images, replace(options, precision="32"))
    tolerance = of_translation(plain, images, batch_size=2)
    plain = plain.for_precision(precision)  # as who translates much does
    expected = translate_slices(plain, images, options)
    assert not passes
    found = translate_slices(plain, images, compiled)
    if precision == "32":
        assert np.abs(found - expected).max() <= tolerance
    else:  # no farther from float32 than bf16 is without a compiler
        assert np.linalg.norm(found - exact) < 1.5 * np.linalg.norm(expected - exact)
    graphs = set(passes)
    assert graphs
    translate_slices(plain, images[:1], compiled)
    assert set(passes) == graphs
    if name in ("syndiff", "cyclegan", "ddpm"):
        assert graphs == {0}
        assert len(passes) == 4 * max(1, plain.sampling_steps)
    before = len(passes)
    translate_slices(plain, images, options)
    assert len(passes) == before


@slow
def test_a_turned_network_is_compiled_once(passes: list[int]) -> None:
    """Its first image and the later ones lie alike in memory."""
    translator = cast(AdversarialDiffusionTranslator, translator_of("syndiff"))
    expected = translate_slices(translator, slices(2), TranslationOptions(device="cpu"))
    for code in ("LP", "RA"):  # rows along x
        translator.orientation = SliceOrientation(code)
        found = translate_slices(
            translator, slices(2), TranslationOptions(device="cpu", compiled=True)
        )
        assert np.abs(found - expected).max() > 1e-3
    assert set(passes) == {0}


@slow
def test_expectations_are_compiled_too(passes: list[int]) -> None:
    translator, few = translator_of("syndiff"), Sampling("expectation", samples=2)
    options = TranslationOptions(batch_size=4, device="cpu", sampling=few)
    expected = translate_slices(translator, slices(3), options)
    tolerance = of_translation(translator, slices(3), batch_size=4, sampling=few)
    found = translate_slices(translator, slices(3), replace(options, compiled=True))
    assert np.abs(found - expected).max() <= tolerance
    assert set(passes) == {0}


@slow
def test_a_run_can_be_compiled(prepared: Path, tmp_path: Path, passes: list[int]) -> None:
    ends = []
    for asked in (False, True):
        run = tmp_path / str(asked)
        asked_for = {"settings": settings(), "devices": "cpu", "compiled": asked}
        train(prepared, run, source="T1", target="T2", **asked_for)  # type: ignore[arg-type]
        ends.append(load_state(run / "checkpoints/last.pt")["generators"])
    assert passes
    before, after = (torch.cat([w.ravel() for w in end.values()]) for end in ends)
    assert stepped_apart(after, before, settings().generator_lr) < FEW


def test_what_cannot_be_compiled_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(graph: Any, inputs: list[torch.Tensor]) -> None:
        raise RuntimeError("no C++ compiler\nand a long story")

    torch.compiler.reset()
    monkeypatch.setattr(compiled, "BACKEND", fail)
    translator = translator_of("cyclegan")
    with pytest.raises(OptionError, match=r"cannot be compiled here \(no C\+\+ compiler\)"):
        translate_slices(translator, slices(1), TranslationOptions(device="cpu", compiled=True))
    translate_slices(
        translator, slices(1), TranslationOptions(device="cpu")
    )  # as the message says
    torch.compiler.reset()


@pytest.mark.parametrize("error", [AssertionError(), TritonMissing(None)], ids=["bare", "triton"])
def test_failures_of_any_kind_are_one_line(error: Exception) -> None:
    wrapped = (
        error if isinstance(error, TritonMissing) else BackendCompilerFailed(len, error, None)
    )
    with pytest.raises(OptionError, match="cannot be compiled here"), compiling():
        raise wrapped


def test_an_exported_translator_is_not_torchs() -> None:
    exported = {"stochastic": False, "size_multiple": 4, "parameters": 1, "steps": 1}
    with pytest.raises(OptionError, match="`compiled` with onnx"):
        translate_slices(
            OnnxTranslator(CARD | {"export": exported}),
            slices(1),
            TranslationOptions(device="cpu", compiled=True),
        )


@slow
def test_the_benchmark_has_both_beside_each_other(passes: list[int]) -> None:
    options = Options(
        what=("translate", "train", "volume"), size=32, slices=2, repeats=1, warmup=0,
        compiled=True, settings=TINY_GITHUB, work=TINY_WORK, device="cpu",
    )  # fmt: skip
    ours, other, *more = benchmark(options)["cases"]
    assert [ours["variant"], other["variant"]] == [OURS, COMPILED]
    assert [case["variant"] for case in more] == [OURS, COMPILED] * 2
    assert passes
    assert ours["speedup"] == 1
    ratio = ours["seconds_per_image"] / other["seconds_per_image"]
    assert other["speedup"] == pytest.approx(ratio)


@slow
def test_the_benchmark_has_onnxruntime_beside_torch() -> None:
    pytest.importorskip("onnxruntime")
    options = Options(
        what=("export",), size=32, repeats=1, warmup=0, settings=TINY_GITHUB, work=TINY_WORK,
        device="cpu",
    )  # fmt: skip
    torchs, onnx = benchmark(options)["cases"]
    assert [torchs["variant"], onnx["variant"]] == [OURS, ONNX]
    assert onnx["speedup"] > 0
    assert torchs["speedup"] == 1


@slow
@pytest.mark.parametrize("name", ["cyclegan", "syndiff"])
def test_with_a_real_compiler(name: str) -> None:
    torch.compiler.reset()
    plain, images = translator_of(name), slices(2)
    expected = translate_slices(plain, images, TranslationOptions(device="cpu"))
    found = translate_slices(plain, images, TranslationOptions(device="cpu", compiled=True))
    assert np.abs(found - expected).max() <= of_translation(plain, images)


@slow
def test_a_step_with_a_real_compiler() -> None:
    torch.compiler.reset()
    ends = []
    for asked in (False, True):
        step = tethered("syndiff")
        with compiled.compiled(step.networks.values(), asked):
            for number in range(2):
                step(number)
        ends.append(nn.utils.parameters_to_vector(step.module.objective.parameters()))
    assert stepped_apart(ends[1], ends[0], STEP) < FEW


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    torch.compiler.reset()
    plain, images = translator_of("syndiff"), slices(5)
    options = TranslationOptions(batch_size=2, device="cuda")
    expected = translate_slices(plain, images, options)
    found = translate_slices(plain, images, replace(options, compiled=True))
    assert np.abs(found - expected).max() <= 1e-2  # TensorFloat-32 keeps ten bits of a factor
