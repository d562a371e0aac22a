"""Official checkpoints as translators: the right direction, the right slices, nothing on trust."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from syndiff import cli
from syndiff.diffusion.large_steps import Schedule
from syndiff.errors import UserError
from syndiff.importing import import_checkpoint, training_data
from syndiff.importing import official as legacy
from syndiff.inference import TranslationOptions, describe, translate_slices
from syndiff.preparation.orientation import CODES, SliceOrientation
from syndiff.preparation.recipe import prepare
from syndiff.translators import AdversarialDiffusionTranslator, SliceNoise, load_translator
from tests.helpers.official import generator_state, options, pictures, write_mat

KNOWN: dict[str, Any] = {
    "spacing_mm": 5.0,
    "orientation": "PL",
    "source_scale": 4.0,
    "target_scale": 3.0,
}
SAID = ["--spacing-mm", "5", "--orientation", "PL", "--source-scale", "4", "--target-scale", "3"]
CONFIGURATIONS: list[dict[str, Any]] = [
    {},
    {"ch_mult": [1], "attn_resolutions": [64]},
    {"ch_mult": [2, 1], "num_res_blocks": 2, "attn_resolutions": []},
    {"ch_mult": [1, 2, 4], "num_res_blocks": 3, "attn_resolutions": [64, 32]},
    {"ch_mult": [1, 1, 2, 2, 4, 4], "image_size": 256},
    {"image_size": 48, "attn_resolutions": [12]},
    {"nz": 3, "z_emb_dim": 5, "n_mlp": 0},
    {"num_channels_dae": 12, "n_mlp": 5},
]


def save(folder: Path, content: Any, name: str = "gen_diffusive_1_50.pth") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(content, folder / name)
    return folder / name


def imported(
    folder: Path, content: Any = None, name: str = "gen_diffusive_1_50.pth", **changes: Any
) -> AdversarialDiffusionTranslator:
    """Import T2 → T1, unless changed, and load what was written."""
    known = {key: changes.pop(key, KNOWN.get(key)) for key in (*KNOWN, "data")}
    asked = {"source": "T2", "target": "T1", "contrast1": "T1"} | changes
    path = save(folder, generator_state() if content is None else content, name)
    trained_on = training_data(asked["source"], asked["target"], **known)
    import_checkpoint(path, folder / "out", trained_on=trained_on, **asked)
    loaded = load_translator(folder / "out")
    assert isinstance(loaded, AdversarialDiffusionTranslator)
    return loaded


class TurnedNoise(SliceNoise):
    """The noise of our slices as a network sees it that knows them turned."""

    def __init__(self, turn: SliceOrientation, seed: int, indices: list[int]) -> None:
        super().__init__(seed, indices, shared=True)
        self.turn = turn

    def normal(self, *shape: int) -> Tensor:
        if len(shape) == 1:  # the latent
            return super().normal(*shape)
        h, w = reversed(shape[1:]) if self.turn.transposed else shape[1:]
        ours = super().normal(shape[0], h, w)
        return torch.from_numpy(self.turn.from_ours(ours.numpy()).copy())


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["syndiff", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.mark.parametrize("changes", CONFIGURATIONS)
def test_shapes_tell_the_options(changes: dict[str, Any]) -> None:
    want = options(**changes)
    told = legacy.options_of(generator_state(**changes))
    sizes = [want["image_size"] // 2**level for level in told.pop("attention_levels")]
    assert sizes == want.pop("attn_resolutions")
    want.pop("image_size")
    assert told == want


@pytest.mark.parametrize("changes", CONFIGURATIONS)
def test_every_configuration_is_read_whole(changes: dict[str, Any]) -> None:
    """Every tensor of the file matters, and finds its place."""
    want, state = options(**changes), generator_state(prefix="module.module.", **changes)
    network = legacy.diffusive_generator(want, state)
    count = sum(p.numel() for p in network.parameters())
    unused_channel = 9 * network.out_conv.in_channels + 1  # the second output is never used
    assert count == sum(t.numel() for t in state.values()) - unused_channel


@torch.no_grad()
@pytest.mark.parametrize("code", CODES)
def test_slices_are_turned_for_the_network_and_back(tmp_path: Path, code: str) -> None:
    """The network sees what the official code would show it, noise included."""
    translator = imported(tmp_path, orientation=code)
    turn = SliceOrientation(code)
    source = torch.rand(2, 1, 16, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plain = AdversarialDiffusionTranslator(translator.network, translator.schedule, {})
    shown = torch.from_numpy(turn.from_ours(source.numpy()).copy())
    want = plain(shown, TurnedNoise(turn, 3, [0, 1]))
    made = translator(source, SliceNoise(3, [0, 1], shared=True))
    np.testing.assert_array_equal(turn.from_ours(made.numpy()), want.numpy())
    if code != "AR":
        unturned = plain(source, SliceNoise(3, [0, 1], shared=True))
        assert not torch.equal(made, unturned)


@pytest.mark.parametrize(
    ("number", "contrast1", "source", "target", "right"),
    [
        (1, "T1", "T2", "T1", True),
        (1, "T1", "T1", "T2", False),
        (2, "T1", "T1", "T2", True),
        (2, "T1", "T2", "T1", False),
        (1, "T2", "T1", "T2", True),
        (2, "T2", "T1", "T2", False),
    ],
)
def test_direction(
    tmp_path: Path, number: int, contrast1: str, source: str, target: str, right: bool
) -> None:
    asked = {"contrast1": contrast1, "source": source, "target": target}
    name = f"gen_diffusive_{number}_50.pth"
    if right:
        assert imported(tmp_path, name=name, **asked).name == f"{source}_to_{target}"
    else:
        with pytest.raises(UserError, match=f"expected `source` {target} and `target` {source}"):
            imported(tmp_path, name=name, **asked)


def test_direction_is_never_guessed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="makes contrast 1 FROM contrast 2"):
        imported(tmp_path, contrast1="")
    with pytest.raises(UserError, match="say `generator` 1"):
        imported(tmp_path, name="best.pth")
    with pytest.raises(UserError, match="as the name"):
        imported(tmp_path, generator=2)
    assert imported(tmp_path, name="best.pth", generator=1).target == "T1"


def content(args: bool = True, average: bool = True, **changes: Any) -> dict[str, Any]:
    """What the official training saves for resuming: both generators, optimizers, options."""
    made: dict[str, Any] = {"epoch": 11, "global_step": 5}
    for number in (1, 2):
        state = generator_state(seed=number)
        entries = {i: {"ema": 0.5 * t} for i, t in enumerate(state.values())} if average else {}
        made[f"gen_diffusive_{number}_dict"] = state
        made[f"optimizer_gen_diffusive_{number}"] = {"state": entries, "param_groups": []}
    said = options(num_channels=1, num_timesteps=2, contrast1="T1", contrast2="T2", fir=True)
    return made | ({"args": argparse.Namespace(**(said | changes))} if args else {})


@pytest.mark.parametrize(("source", "target", "number"), [("T2", "T1", 1), ("T1", "T2", 2)])
@pytest.mark.parametrize("average", [True, False])
def test_content_pth(tmp_path: Path, source: str, target: str, number: int, average: bool) -> None:
    translator = imported(
        tmp_path,
        content(average=average),
        "content.pth",
        source=source,
        target=target,
        contrast1="",
    )
    factor = 0.5 if average else 1.0
    stem = generator_state(seed=number)["module.all_modules.2.weight"]
    assert torch.equal(translator.network.stem.weight, factor * stem)
    assert translator.schedule.steps == 2
    notes = " ".join(translator.config["imported"]["notes"])
    assert ("not averaged" in notes) != average


def test_content_pth_says_what_it_was_trained_with(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="contrast1 T1 and contrast2 T2"):
        imported(tmp_path, content(), "content.pth", source="PD", contrast1="")
    with pytest.raises(UserError, match="`contrast1` T2; expected T1"):
        imported(tmp_path, content(), "content.pth", contrast1="T2")
    with pytest.raises(UserError, match="progressive_input=input_skip"):
        imported(tmp_path, content(progressive_input="input_skip"), "content.pth")
    with pytest.raises(UserError, match="no `contrast1`"):
        imported(tmp_path, content(args=False), "content.pth", contrast1="")
    assert not (tmp_path / "out").exists()


def test_options(tmp_path: Path) -> None:
    translator = imported(tmp_path, options={"num_timesteps": 3, "beta_max": 10.0, "nz": 6})
    want = Schedule(3, 0.1, 10.0)
    assert torch.equal(translator.schedule.gamma, want.gamma)
    assert translator.config["size"] == [64, 64]  # attention at 16 on the third level
    for wrong, words in (
        ({"nz": 5}, "`nz` 5; expected 6"),
        ({"ch_mult": [1, 2, 4]}, "`ch_mult` 1 2 4; expected 1 2 2"),
        ({"image_size": 34}, "multiple of 4"),
        ({"attn_resolutions": [32]}, "`attn_resolutions` 32; expected 16"),
    ):
        with pytest.raises(UserError, match=words):
            imported(tmp_path / "other", options=wrong)
    assert not (tmp_path / "other" / "out").exists()


def test_what_no_file_knows_must_be_said() -> None:
    with pytest.raises(UserError) as caught:
        training_data("T2", "T1")
    for option in ("`spacing_mm`", "`orientation`", "`source_scale`", "`target_scale`"):
        assert option in str(caught.value)
    with pytest.raises(UserError, match="no `hu_window`:"):
        training_data("T1", "CT", **(KNOWN | {"target_scale": None}))
    with pytest.raises(UserError, match="`data` and `spacing_mm`"):
        training_data("T2", "T1", **KNOWN, data=Path("data"))
    with pytest.raises(UserError, match="`spacing_mm` -1"):
        training_data("T2", "T1", **(KNOWN | {"spacing_mm": -1.0}))
    known = training_data("MR", "CT", **(KNOWN | {"hu_window": (-1000, 2000)}))
    np.testing.assert_array_equal(known.intensity["CT"].restore(np.array([0, 1])), [-1000, 2000])
    assert known.intensity["MR"].normalise(np.array([8.0]), 2.0) == 1.0


def test_the_prepared_files_of_its_training_say_it(tmp_path: Path) -> None:
    """What the network sees of a prepared slice is what the official loader shows."""
    raw = tmp_path / "raw"
    for i, modality in enumerate(("T1", "T2")):
        write_mat(raw, "train", modality, pictures(2, i, 64, 40))
    prepare(
        raw, tmp_path / "data", modalities=("T1", "T2"), size=64, spacing_mm=1.25, orientation="LP"
    )
    nothing = dict.fromkeys(KNOWN)
    translator = imported(tmp_path, data=tmp_path / "data", **(nothing | {"orientation": ""}))
    assert translator.spacing_mm == 1.25
    assert len(translator.config["tissue_quantiles"]["T2"]) == 1
    slices = np.load(tmp_path / "data" / "slices" / "train" / "T2" / "train-T2.npy")
    made = translate_slices(translator, slices[:1], TranslationOptions(device="cpu"))

    shown = np.pad(pictures(2, 1, 64, 40)[:1], ((0, 0), (0, 0), (12, 12))).clip(0, 1)
    plain = AdversarialDiffusionTranslator(translator.network, translator.schedule, {})
    with torch.no_grad():
        noise = TurnedNoise(SliceOrientation("LP"), 0, [0])
        want = plain(torch.from_numpy(shown[:, None] * 2 - 1), noise)[:, 0].numpy()
    turned = SliceOrientation("LP").from_ours(made)
    np.testing.assert_allclose(turned, (want + 1) / 2, atol=1e-6)


def test_scans_that_were_prepared_say_nothing_of_it(prepared: Path) -> None:
    with pytest.raises(UserError, match=r"not prepared from the official code's \.mat files"):
        training_data("T2", "T1", data=prepared)


class Pickled(nn.Linear):
    """A network that was saved whole."""


def _without(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if part not in name}


BAD: dict[str, tuple[Any, str]] = {
    "one-shot generator": (
        {"module.module.model.10.conv_block.1.weight": torch.zeros(4, 4, 3, 3)},
        "one-shot",
    ),
    "discriminator": ({"module.start_conv.weight": torch.zeros(4, 2, 1, 1)}, "discriminator"),
    "other network": ({"layer.weight": torch.zeros(2)}, "no network of the official code"),
    "empty": ({}, "gen_diffusive_1"),
    "a tensor": (torch.zeros(3), "holds a Tensor"),
    "nested": ({"state_dict": {}}, "other things than tensors"),
    "pickled network": (Pickled(2, 2), "could run code"),
    "incomplete": (_without(generator_state(), "all_modules.4."), "residual blocks"),
    "lacking a layer": (_without(generator_state(), "6.Dense_0"), "lacks all_modules.6.Dense_0"),
    "too much": (generator_state() | {"all_modules.99.weight": torch.zeros(2)}, "tensors more"),
    "not finite": (
        generator_state() | {"module.all_modules.0.bias": torch.full((32,), torch.nan)},
        "not finite",
    ),
    "other shapes": (
        generator_state() | {"module.all_modules.0.bias": torch.zeros(31)},
        "does not fit",
    ),
    "two sources": (generator_state(num_channels=3), "3 input channels"),
}


@pytest.mark.parametrize("what", BAD)
def test_unusable_checkpoints_end_in_one_line(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, words = BAD[what]
    path = save(tmp_path, bad)
    check_refused(path, words, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("how", "words"), [("cut", "damaged"), ("text", "no checkpoint"), ("folder", "read"),
                       ("absent", "read")]
)  # fmt: skip
def test_unreadable_files_end_in_one_line(
    how: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = save(tmp_path, generator_state())
    whole = path.read_bytes()
    path.unlink()
    if how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "text":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    elif how == "folder":
        path.mkdir()
    check_refused(path, words, tmp_path, monkeypatch, capsys)


def check_refused(
    path: Path,
    words: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ("--source", "T2", "--target", "T1", "--contrast1", "T1", *SAID)
    assert call(monkeypatch, "import", path, folder / "out", *asked) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert words in said.err
    assert not (folder / "out").exists()


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    imported(tmp_path)
    with pytest.raises(UserError, match="exists; expected a new folder"):
        imported(tmp_path)


def test_from_the_command_line_to_a_volume(
    cohort: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from syndiff.io import formats

    path, out = save(tmp_path, generator_state()), tmp_path / "T2_to_T1"
    asked = ("--source", "T2", "--target", "T1", "--contrast1", "T1", *SAID)
    small = ("--ch-mult", "1 2 2", "--attn-resolutions", "16", "--image-size", "64")
    assert call(monkeypatch, "import", path, out, *asked, *small) == 0
    said = capsys.readouterr().out
    assert "makes contrast 1 (T1) from contrast 2 (T2)" in said
    assert "not in the weights: image_size 64, num_timesteps 4" in said
    lines = dict(describe(out))
    assert lines["translates"] == "T2 → T1"
    assert "PL" in lines["axes"]
    assert json.loads((out / "config.json").read_text())["imported"]["sha256"]

    scan = cohort / "sub-001" / "anat" / "sub-001_T2w.nii.gz"
    made = tmp_path / "made.nii.gz"
    assert call(monkeypatch, "translate", out, scan, made, "--device", "cpu") == 0
    result, source = formats.read(made), formats.read(scan)
    assert result.array.shape == source.array.shape
    np.testing.assert_allclose(result.affine, source.affine)
    assert 0 <= result.array.min() < result.array.max() <= 3.0 + 1e-5  # 3 means
