"""Exported translators: the same image as torch at any batch and size, and no damaged exports."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import syndiff
from syndiff import cli
from syndiff.diffusion.small_steps import GaussianDiffusion
from syndiff.errors import ModelError, OptionError
from syndiff.export import Exported, export, trace
from syndiff.inference import TranslationOptions, describe, sidecar, translate_slices
from syndiff.io import formats as volumes
from syndiff.networks.content_style import ContentEncoder, StyleDecoder
from syndiff.networks.resnet import ResNetGenerator
from syndiff.networks.unet import UNet
from syndiff.translators import (
    AdversarialDiffusionTranslator,
    GaussianDiffusionTranslator,
    OneShotTranslator,
    OnnxTranslator,
    ParallelDiffusionTranslator,
    SliceNoise,
    StyleTranslator,
    Translator,
    explicit_noise,
    load_translator,
)
from tests.helpers.translators import build as syndiff_translator
from tests.helpers.translators import intensity
from tests.helpers.volumes import head

CLOSE = 1e-4
CARD = {
    "sources": ["T1"],
    "target": "T2",
    "spacing_mm": 4.0,
    "size": [16, 16],
    "intensity": {m: intensity() for m in ("T1", "T2")},
}
UNET = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention_levels": (1,), "heads": 2}


def turned() -> AdversarialDiffusionTranslator:
    """A translator whose network knows slices that lie otherwise than ours."""
    plain = syndiff_translator()
    config = plain.config | {"slice_orientation": "LP"}
    return AdversarialDiffusionTranslator(plain.network, plain.schedule, config).eval()


def ddpm(steps: int = 3) -> GaussianDiffusionTranslator:
    diffusion = {"T": steps}
    return GaussianDiffusionTranslator(
        {"target": UNet(**UNET)},
        GaussianDiffusion(**diffusion),
        CARD | {"network": UNET, "diffusion": diffusion},
    ).eval()


def style() -> StyleTranslator:
    network = {
        "encoder": {"channels": 4, "blocks": 1},
        "decoder": {"channels": 4, "blocks": 1, "style_dim": 3, "hidden": 4},
    }
    encoder, decoder = ContentEncoder(**network["encoder"]), StyleDecoder(**network["decoder"])
    return StyleTranslator(encoder, decoder, CARD | {"network": network}).eval()


def one_shot() -> OneShotTranslator:
    network = {"channels": 4, "blocks": 1}
    card = CARD | {"network": {"name": "resnet"} | network}
    return OneShotTranslator(ResNetGenerator(**network), card).eval()


def awake(translator: Translator) -> Translator:
    """With weights of some size; layers that start silent would hide the source."""
    torch.manual_seed(0)
    for p in translator.parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, 0, 0.15)
    return translator


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return syndiff_translator().save(tmp_path_factory.mktemp("export") / "T1_to_T2")


@pytest.fixture(scope="module")
def made(original: Path) -> Exported:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    return export(original, original.parent / "onnx")


@pytest.fixture(scope="module")
def exported(made: Exported) -> Path:
    return made.folder


@pytest.fixture(scope="module")
def step(original: Path) -> Path:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    return export(original, original.parent / "step", part="step").folder


@pytest.fixture(scope="module")
def program(original: Path) -> Path:
    return export(original, original.parent / "program", format="torch", part="step").folder


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["syndiff", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


# --- explicit noise ----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [syndiff_translator, turned, ddpm, style, one_shot])
def test_the_explicit_function_is_the_translator(make: Callable[[], Translator]) -> None:
    translator = awake(make())
    explicit = translator.explicit()
    source = torch.rand(2, 1, 16, 24) * 2 - 1
    expected = translator(source, SliceNoise(1, [4, 5], shared=False))
    noise = explicit_noise(
        SliceNoise(1, [4, 5], shared=False), explicit.draws, explicit.steps, 16, 24
    )
    function = trace.unrolled(explicit) if explicit.steps else explicit.function
    torch.testing.assert_close(function(source, *noise.values()), expected, atol=1e-5, rtol=0)


def test_other_kinds_refuse() -> None:
    network = {"in_channels": 2, "out_channels": 1, **UNET}
    card = CARD | {"network": network, "release_time": 1}
    translator = ParallelDiffusionTranslator(
        {"target": UNet(**network)}, GaussianDiffusion(T=3), card
    )
    with pytest.raises(ModelError, match="parallel_diffusion"):
        translator.explicit()


# --- ONNX --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "height", "width"), [(1, 32, 32), (5, 16, 48), (3, 31, 45)])
@pytest.mark.parametrize("shared", [True, False])
def test_the_same_image_as_torch_at_any_batch_and_size(
    original: Path, exported: Path, count: int, height: int, width: int, shared: bool
) -> None:
    slices = np.random.default_rng(0).random((count, height, width), np.float32)
    options = TranslationOptions(seed=3, batch_size=2, device="cpu", shared_noise=shared)
    expected, image = (
        translate_slices(load_translator(folder), slices, options)
        for folder in (original, exported)
    )
    np.testing.assert_allclose(image, expected, atol=CLOSE)
    assert load_translator(exported).sampling_steps == 4
    options = replace(options, seed=4)
    other = translate_slices(load_translator(exported), slices, options)
    assert np.abs(other - image).max() > 1e-2


def test_every_difference_is_told(made: Exported) -> None:
    assert made.folder.is_dir()
    assert list(made.differences) == [
        f"batch {batch}, {size} pixels" for batch in (1, 3) for size in ("4×6", "32×32")
    ]
    assert all(difference < CLOSE for difference in made.differences.values())


def test_the_card_is_carried_over(original: Path, exported: Path) -> None:
    before, after = (json.loads((f / "config.json").read_text()) for f in (original, exported))
    changed = {key for key in after if after[key] != before.get(key)}
    assert changed == {"kind", "export"}
    assert set(before) < set(after)
    lines = dict(describe(exported))
    assert lines["translates"] == "T1 → T2"
    assert lines["parameters"] == dict(describe(original))["parameters"] != "0.00 M"
    assert after["export"]["from_weights_sha256"] == dict(describe(original))["weights SHA-256"]


def test_translate_takes_it(
    original: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = tmp_path / "T1.nii.gz"
    volumes.write(head(), scan)
    images = []
    for model in (original, exported):
        output = tmp_path / f"{model.name}.nii.gz"
        assert call(monkeypatch, "translate", model, scan, output, "--seed", 2) == 0
        images.append(volumes.read(output).array)
    scale = 600.0  # output units of a full step in [0, 1]: scale 2 times the training mean
    np.testing.assert_allclose(images[0], images[1], atol=CLOSE * scale)
    record = json.loads(sidecar(tmp_path / "onnx.nii.gz").read_text())
    assert record["translator"]["weights_sha256"] == dict(describe(exported))["weights SHA-256"]


@pytest.mark.slow
def test_a_step_repeated_is_the_chain(original: Path, step: Path) -> None:
    translator, one = load_translator(original), load_translator(step)
    assert isinstance(one, OnnxTranslator)
    source = torch.rand(2, 1, 8, 12) * 2 - 1
    expected = translator(source, SliceNoise(0, [0, 1], shared=False))
    noise = SliceNoise(0, [0, 1], shared=False)
    draws = explicit_noise(noise, one.export["draws"], one.export["steps"], 8, 12)
    x = draws.pop("x_T")
    for place, index in enumerate(reversed(range(one.export["steps"]))):
        now = {name: values[:, place] for name, values in draws.items()}
        x = one.run({"x_t": x, "source": source, "t": torch.tensor([index] * 2)} | now)
    torch.testing.assert_close(x, expected, atol=CLOSE, rtol=0)
    with pytest.raises(ModelError, match="`part` chain"):
        one(source, noise)


@pytest.mark.slow
def test_the_chain_holds_its_step_once(exported: Path, step: Path) -> None:
    chain, one = ((f / "model.onnx").stat().st_size for f in (exported, step))
    assert chain < one + 5000


@pytest.mark.parametrize("form", ["exported", pytest.param("program", marks=pytest.mark.slow)])
def test_nothing_of_this_machine_is_in_the_files(
    form: str, request: pytest.FixtureRequest
) -> None:
    (file,) = request.getfixturevalue(form).glob("model.*")
    content = file.read_bytes()
    for place in (Path(syndiff.__file__).parent, Path(torch.__file__).parent, Path.home()):
        assert str(place).encode() not in content


@pytest.mark.slow
def test_one_pass_translators(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = awake(style()).save(tmp_path / "style")
    loaded = load_translator(export(folder, tmp_path / "onnx").folder)
    assert loaded.stochastic
    slices = np.random.default_rng(0).random((3, 20, 32), np.float32)
    np.testing.assert_allclose(
        translate_slices(loaded, slices, TranslationOptions(device="cpu")),
        translate_slices(load_translator(folder), slices, TranslationOptions(device="cpu")),
        atol=CLOSE,
    )
    with pytest.raises(OptionError, match="one pass"):
        export(folder, tmp_path / "step", part="step")


# --- refusals ----------------------------------------------------------------------------------


@pytest.fixture
def retold(exported: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Instead of tracing again, write the exported model with one layer changed by so much."""
    import onnx
    from onnx import numpy_helper

    def plant(change: float) -> None:
        def write(translator: object, explicit: object, part: str, file: Path) -> None:
            model = onnx.load(exported / "model.onnx")
            (loop,) = model.graph.node
            (body,) = (a.g for a in loop.attribute if a.name == "body")
            (weight,) = (i for i in body.initializer if i.name.endswith("out_conv.weight"))
            changed = numpy_helper.to_array(weight) + np.float32(change)
            weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
            onnx.save(model, file)

        monkeypatch.setattr("syndiff.export._write_onnx", write)

    return plant


@pytest.mark.parametrize("change", [1e-2, float("nan")])
def test_an_export_that_differs_is_refused(
    original: Path, tmp_path: Path, retold: Callable[[float], None], change: float
) -> None:
    retold(0.0)
    export(original, tmp_path / "good")
    shutil.rmtree(tmp_path / "good")
    retold(change)
    with pytest.raises(ModelError, match=r"differs from torch .* at most 1e-04"):
        export(original, tmp_path / "bad")
    assert not list(tmp_path.iterdir())


def test_without_onnxruntime(
    exported: Path, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for arguments in (("info", exported), ("export", original, tmp_path / "out")):
        assert call(monkeypatch, *arguments) == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert "onnxruntime" in said[0]
        assert "pip install 'syndiff[export]'" in said[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_damaged_model_is_one_line(
    exported: Path, tmp_path: Path, keep: int, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(exported, folder)
    (folder / "model.onnx").write_bytes((exported / "model.onnx").read_bytes()[:keep])
    volumes.write(head(), tmp_path / "T1.nii.gz")
    output = tmp_path / "T2.nii.gz"
    assert call(monkeypatch, "translate", folder, tmp_path / "T1.nii.gz", output) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "model.onnx is damaged" in line
    assert not output.exists()


@pytest.mark.slow
def test_another_model_in_its_place_is_refused(exported: Path, step: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(exported, folder)
    shutil.copy(step / "model.onnx", folder)
    with pytest.raises(ModelError, match="x_T"):
        load_translator(folder)


def test_unsuitable_options(original: Path, exported: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    with pytest.raises(OptionError, match="taken exists"):
        export(original, taken)
    with pytest.raises(OptionError, match="format"):
        export(original, tmp_path / "out", format="tflite")
    with pytest.raises(OptionError, match="part"):
        export(original, tmp_path / "out", part="half")
    with pytest.raises(ModelError, match="exported translator already"):
        export(exported, tmp_path / "out")
    long = ddpm(steps=51).save(tmp_path / "long")
    with pytest.raises(OptionError, match=r"`sampling_steps` .* `part` step"):
        export(long, tmp_path / "out")
    with pytest.raises(OptionError, match="as trained"):
        export(original, tmp_path / "out", sampling_steps=2)
    assert {p.name for p in tmp_path.iterdir()} == {"taken", "long"}


# --- torch -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_torch_program_runs_at_any_batch_and_size(original: Path, program: Path) -> None:
    step = torch.export.load(program / "model.pt2").module()
    translator = load_translator(original)
    inputs = json.loads((program / "config.json").read_text())["export"]["inputs"]
    sizes = {"batch": 5, "height": 14, "width": 10}
    values = trace.random_inputs(inputs, 4, sizes).values()
    torch.testing.assert_close(
        step(*values), translator.explicit().function(*values), atol=CLOSE, rtol=0
    )


@pytest.mark.slow
def test_a_torch_program_is_described_but_never_opened(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "program"
    shutil.copytree(program, folder)
    (folder / "model.pt2").write_bytes(b"no program")
    monkeypatch.setattr(torch.export, "load", lambda *_: pytest.fail("a .pt2 was opened"))
    assert dict(describe(folder))["translates"] == "T1 → T2"
    with pytest.raises(ModelError, match="`format` onnx"):
        translate_slices(load_translator(folder), np.zeros((1, 32, 32), np.float32))
