"""Networks compiled by torch: the same steps and images, and one line where it cannot be done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from syndiff.benchmark.cases import COMPILED, ONNX, OURS
from syndiff.benchmark.ceiling import TINY_WORK
from syndiff.benchmark.run import Options, benchmark
from syndiff.errors import OptionError
from syndiff.inference import translate_slices
from syndiff.networks import compiled
from syndiff.networks.compiled import compile_networks
from syndiff.training.run import train
from syndiff.translators import OnnxTranslator
from tests.test_benchmark import SETTINGS
from tests.test_contract import CARD, batch, build, losses_of, slices, tethered, translator_of
from tests.test_training import settings

Compiler = Callable[[Any, list[torch.Tensor]], Callable[..., Any]]


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


@pytest.mark.parametrize("name", ["syndiff", "cyclegan"])
def test_a_step_is_the_same(name: str, passes: list[int]) -> None:
    ends = []
    for asked in (False, True):
        step = tethered(name)
        if asked:
            compile_networks(step.networks.values())
        for number in range(3):  # with and without the gradient penalty
            step(number)
        assert bool(passes) == asked
        ends.append(nn.utils.parameters_to_vector(step.module.objective.parameters()))
    torch.testing.assert_close(ends[1], ends[0], atol=1e-4, rtol=1e-3)


def test_the_penalty_is_taken_on_a_plain_pass(passes: list[int]) -> None:
    """A compiled pass has no second derivative."""
    objective = build("syndiff", awake=True)
    expected = losses_of(objective, batch(), step=0)
    compile_networks([objective.discriminators["diffusive_target"]])
    found = losses_of(objective, batch(), step=0)
    assert found["discriminators/penalty_target"] > 0
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)
    fake_and_generators = 2
    assert len(passes) == fake_and_generators


@pytest.mark.parametrize("name", ["syndiff", "cyclegan", "ddpm", "unit_ddpm"])
def test_an_image_is_the_same_and_one_batch_size_is_compiled(name: str, passes: list[int]) -> None:
    plain, images = translator_of(name), slices(5)
    expected = translate_slices(plain, images, batch_size=2, device="cpu")
    assert not passes
    found = translate_slices(plain, images, batch_size=2, device="cpu", compiled=True)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert set(passes) == {0}
    assert len(passes) == 3 * max(1, plain.sampling_steps)


def test_weights_are_saved_as_ever(passes: list[int], tmp_path: Path) -> None:
    translator = translator_of("syndiff")
    before = set(translator.state_dict())
    translate_slices(translator, slices(1), device="cpu", compiled=True)
    assert set(translator.state_dict()) == before


def test_a_run_can_be_compiled(prepared: Path, tmp_path: Path, passes: list[int]) -> None:
    ends = []
    for asked in (False, True):
        run = tmp_path / str(asked)
        asked_for = {"settings": settings(), "devices": "cpu", "compiled": asked}
        train(prepared, run, source="T1", target="T2", **asked_for)  # type: ignore[arg-type]
        ends.append((run / "translators/T1_to_T2/model.safetensors").stat().st_size)
    assert passes
    assert ends[0] == ends[1]


def test_what_cannot_be_compiled_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(graph: Any, inputs: list[torch.Tensor]) -> None:
        raise RuntimeError("no C++ compiler\nand a long story")

    torch.compiler.reset()
    monkeypatch.setattr(compiled, "BACKEND", fail)
    with pytest.raises(OptionError, match=r"cannot be compiled here \(.*C\+\+ compiler\)"):
        translate_slices(translator_of("cyclegan"), slices(1), device="cpu", compiled=True)
    torch.compiler.reset()


def test_an_exported_translator_is_not_torchs() -> None:
    exported = {"stochastic": False, "size_multiple": 4, "parameters": 1, "steps": 1}
    with pytest.raises(OptionError, match="--compile with onnx"):
        translate_slices(
            OnnxTranslator(CARD | {"export": exported}), slices(1), device="cpu", compiled=True
        )


def test_the_benchmark_has_both_beside_each_other(passes: list[int]) -> None:
    options = Options(
        what=("translate",), size=32, repeats=1, warmup=0, compiled=True,
        settings=SETTINGS, work=TINY_WORK, device="cpu",
    )  # fmt: skip
    ours, other = benchmark(options)["cases"]
    assert [ours["variant"], other["variant"]] == [OURS, COMPILED]
    assert passes
    assert ours["speedup"] == 1
    ratio = ours["seconds_per_image"] / other["seconds_per_image"]
    assert other["speedup"] == pytest.approx(ratio)
    assert other["flop_per_image"] == ours["flop_per_image"]


def test_the_benchmark_has_onnxruntime_beside_torch() -> None:
    pytest.importorskip("onnxruntime")
    options = Options(
        what=("export",), size=32, repeats=1, warmup=0, settings=SETTINGS, work=TINY_WORK,
        device="cpu",
    )  # fmt: skip
    torchs, onnx = benchmark(options)["cases"]
    assert [torchs["variant"], onnx["variant"]] == [OURS, ONNX]
    assert onnx["speedup"] > 0
    assert onnx["counts"] == torchs["counts"]


@pytest.mark.slow
def test_with_a_real_compiler() -> None:
    plain, images = translator_of("cyclegan"), slices(2)
    expected = translate_slices(plain, images, device="cpu")
    found = translate_slices(plain, images, device="cpu", compiled=True)
    np.testing.assert_allclose(found, expected, atol=1e-4)
