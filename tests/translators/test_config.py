"""A translator's folder may be a stranger's: it is used as described, or refused in a line."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from syndiff.errors import ModelError
from syndiff.inference.requests import describe
from syndiff.objectives.methods import METHODS
from syndiff.training.presets import preset
from syndiff.translators import CONFIG, WEIGHTS, load_translator, locate, read_config
from syndiff.translators.base import SliceNoise
from tests.helpers.mutations import mutated
from tests.helpers.translators import build, intensity

GIB = 2**30


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build().save(tmp_path_factory.mktemp("sound") / "T1_to_T2")


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "T1_to_T2"))


def change(folder: Path, *keys: str, to: Any) -> None:
    """Set one value of config.json, named by its keys."""
    path = folder / CONFIG
    config = json.loads(path.read_text())
    part = config
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = to
    path.write_text(json.dumps(config))


def refusal(folder: Path) -> str:
    """The message with which a folder is refused; it must not take much memory to say so."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError) as caught:
        load_translator(folder)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < GIB // 4
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("network", "channels"), 10**6, "channels is 1000000; expected less than or equal to"),
        (("network", "channels"), 0, "greater than or equal to 1"),
        (("network", "channels"), -8, "channels is -8"),
        (("network", "channels"), 2.5, "channels is 2.5; expected a valid integer"),
        (("network", "channels"), True, "channels is True"),
        (("network", "channels"), 4096, "do not fit the network"),  # 60 TB, were it built
        (("network", "multipliers"), [64] * 10, "do not fit"),
        (("network", "multipliers"), [], "multipliers"),
        (("network", "blocks"), 10**9, "blocks"),
        (("network", "in_channels"), 3, "in_channels 2"),
        (("network", "widths"), [1], "the key network.widths is unknown"),
        (("schedule", "steps"), -3, "steps is -3"),
        (("schedule", "steps"), 0, "steps is 0"),
        (("schedule", "steps"), 10**9, "steps is 1000000000"),
        (("schedule", "beta_max"), -1.0, "beta_max"),
        (("sources",), 5, "sources is 5"),
        (("sources",), ["T1", "T1"], "differ"),
        (("sources",), ["../T1"], "without folders"),
        (("target",), "T1", "differ"),
        (("target",), "PD", "an intensity for each"),
        (("spacing_mm",), 0, "spacing_mm is 0"),
        (("spacing_mm",), 1e-3, "spacing_mm is 0.001"),
        (("spacing_mm",), 0.05, "makes 4 to 4000 mm"),
        (("spacing_mm",), "4", "spacing_mm is '4'"),
        (("size",), [-1, -1], "size.0 is -1"),
        (("size",), [32], "size"),
        (("size",), [10**9, 32], "size.0"),
        (("intensity", "T1", "scale"), 0.0, "scale is 0.0"),
        (("intensity", "T1", "rule"), "mine", "rule is 'mine'"),
        (("intensity", "T1", "window"), [0, 1], "a window with the rule window"),
        (("kind",), "pickle", "kind is 'pickle'"),
        (("kind",), ["one_shot"], "kind"),
        (("format",), 2, "format 2"),
        (("slice_orientation",), "XX", "slice_orientation"),
        (("axes",), "\x1b[2J", "a text in one line"),  # would clear the terminal
        (("training",), {"a": [[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]}, "nested"),
        (("weights",), "../../other.safetensors", "the key weights is unknown"),
    ],
)
def test_what_no_translator_has_is_refused(
    folder: Path, keys: tuple[str, ...], value: Any, words: str
) -> None:
    change(folder, *keys, to=value)
    assert words in refusal(folder)


def as_integers(weights: dict[str, torch.Tensor]) -> None:
    weights["out_conv.weight"] = weights["out_conv.weight"].to(torch.int8)


def with_nan(weights: dict[str, torch.Tensor]) -> None:
    weights["stem.bias"][0] = float("nan")


def without_one(weights: dict[str, torch.Tensor]) -> None:
    del weights["stem.bias"]


def with_one_more(weights: dict[str, torch.Tensor]) -> None:
    weights["more"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (as_integers, "holds I8; expected floating-point numbers"),
        (with_nan, "not finite"),
        (without_one, "there is no"),
        (with_one_more, "it has no network.more"),
    ],
)
def test_weights_that_are_none(
    folder: Path, damage: Callable[[dict[str, torch.Tensor]], None], words: str
) -> None:
    weights = {n.removeprefix("network."): t for n, t in load_file(folder / WEIGHTS).items()}
    damage(weights)
    prefix = {n: t.contiguous() for n, t in weights.items()}
    save_file({f"network.{n}": t for n, t in prefix.items()}, folder / WEIGHTS)
    assert words in refusal(folder)


def test_weights_stay_inside_their_folder(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / WEIGHTS, tmp_path / WEIGHTS)
    (folder / WEIGHTS).symlink_to(tmp_path / WEIGHTS)
    assert "leads out of its folder" in refusal(folder)
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(WEIGHTS)  # to itself
    assert "leads out of its folder" in refusal(folder)


def test_a_linked_folder_is_as_good_as_its_own(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert load_translator(link).target == "T2"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"format": 1, "format": 1}',
        '{"format": NaN}',
        "9" * 5000,
        "[]",
        "null",
        "",
    ],
)
def test_text_that_is_no_configuration(folder: Path, text: str) -> None:
    (folder / CONFIG).write_text(text)
    refusal(folder)


def test_a_pipe_is_no_configuration(folder: Path) -> None:
    (folder / CONFIG).unlink()
    os.mkfifo(folder / CONFIG)  # reading it would wait for ever
    assert "is no file" in refusal(folder)


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("sources", [("T1",), ("T1", "PD")])
def test_what_each_method_writes_is_read(
    method: str, sources: tuple[str, ...], tmp_path: Path
) -> None:
    line = METHODS[method]
    if len(sources) > 1 and not line.several_sources:
        pytest.skip("takes one source")
    objective = line.build(preset("small", method).objective, len(sources), False)
    card = {
        "sources": list(sources),
        "target": "T2",
        "spacing_mm": 4.0,
        "size": [32, 32],
        "intensity": {m: intensity() for m in (*sources, "T2")},
    }
    made = objective.translator(objective.generators, "target", card)
    again = load_translator(made.save(tmp_path / "made"))
    for name, weight in made.state_dict().items():
        assert torch.equal(weight.cpu(), again.state_dict()[name])


def test_the_shipped_translator_has_keys_of_its_time() -> None:
    config = read_config(locate("demo"))
    assert load_translator("demo").config == config


def test_a_large_seed_draws_for_each_slice() -> None:
    drawn = SliceNoise(2**63 - 1, [0, 1], shared=False).normal(2)
    assert drawn.isfinite().all()
    assert not torch.equal(drawn[0], drawn[1])


@settings(max_examples=200)
@given(data=st.data())
def test_a_changed_configuration_is_read_or_refused(sound: Path, data: st.DataObject) -> None:
    content = data.draw(mutated(json.loads((sound / CONFIG).read_text())))
    other = sound.parent / "fuzzed"
    other.mkdir(exist_ok=True)
    shutil.copy(sound / WEIGHTS, other)
    (other / CONFIG).write_text(content)
    with suppress(ModelError):
        describe(other)
