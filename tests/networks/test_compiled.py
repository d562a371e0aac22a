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
from syndiff.inference import translate_slices
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

slow = pytest.mark.slow
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
    torch.testing.assert_close(ends[1], ends[0], atol=1e-3, rtol=1e-2)


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
    apart = (ends[1] - ends[0]).abs() > 1e-3
    assert apart.float().mean() < 0.01


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
    options = {"batch_size": 2, "device": "cpu", "precision": precision}
    expected = translate_slices(plain, images, **options)  # type: ignore[arg-type]
    assert not passes
    found = translate_slices(plain, images, compiled=True, **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, expected, atol=1e-4 if precision == "32" else 0.05)
    graphs = set(passes)
    assert graphs
    translate_slices(plain, images[:1], compiled=True, **options)  # type: ignore[arg-type]
    assert set(passes) == graphs
    if name in ("syndiff", "cyclegan", "ddpm"):
        assert graphs == {0}
        assert len(passes) == 4 * max(1, plain.sampling_steps)
    before = len(passes)
    translate_slices(plain, images, **options)  # type: ignore[arg-type]
    assert len(passes) == before


@slow
def test_a_turned_network_is_compiled_once(passes: list[int]) -> None:
    """Its first image and the later ones lie alike in memory."""
    translator = cast(AdversarialDiffusionTranslator, translator_of("syndiff"))
    expected = translate_slices(translator, slices(2), device="cpu")
    for code in ("LP", "RA"):  # rows along x
        translator.orientation = SliceOrientation(code)
        found = translate_slices(translator, slices(2), device="cpu", compiled=True)
        assert np.abs(found - expected).max() > 1e-3
    assert set(passes) == {0}


@slow
def test_expectations_are_compiled_too(passes: list[int]) -> None:
    translator, few = translator_of("syndiff"), Sampling("expectation", samples=2)
    options = {"batch_size": 4, "device": "cpu", "sampling": few}
    expected = translate_slices(translator, slices(3), **options)  # type: ignore[arg-type]
    found = translate_slices(translator, slices(3), compiled=True, **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, expected, atol=1e-4)
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
    for name, weight in ends[0].items():
        torch.testing.assert_close(ends[1][name], weight, atol=1e-3, rtol=1e-2, msg=name)


def test_what_cannot_be_compiled_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(graph: Any, inputs: list[torch.Tensor]) -> None:
        raise RuntimeError("no C++ compiler\nand a long story")

    torch.compiler.reset()
    monkeypatch.setattr(compiled, "BACKEND", fail)
    translator = translator_of("cyclegan")
    with pytest.raises(OptionError, match=r"cannot be compiled here \(no C\+\+ compiler\)"):
        translate_slices(translator, slices(1), device="cpu", compiled=True)
    translate_slices(translator, slices(1), device="cpu")  # as the message says
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
    with pytest.raises(OptionError, match="--compile with onnx"):
        translate_slices(
            OnnxTranslator(CARD | {"export": exported}), slices(1), device="cpu", compiled=True
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
    expected = translate_slices(plain, images, device="cpu")
    found = translate_slices(plain, images, device="cpu", compiled=True)
    np.testing.assert_allclose(found, expected, atol=1e-4)


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
    apart = (ends[1] - ends[0]).abs() > 1e-3  # Adam makes whole steps of rounding where all is 0
    assert apart.float().mean() < 0.01


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    torch.compiler.reset()
    plain, images = translator_of("syndiff"), slices(5)
    expected = translate_slices(plain, images, batch_size=2, device="cuda")
    found = translate_slices(plain, images, batch_size=2, device="cuda", compiled=True)
    np.testing.assert_allclose(found, expected, atol=1e-2)
