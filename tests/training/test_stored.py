"""Checkpoints and settings of strangers: used as they are, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from syndiff.errors import ModelError, UserError
from syndiff.training.stored import Average, check_settings
from syndiff.training.watch import load_state, save_state

WHOLE: dict[str, Any] = {
    "step": 4,
    "generators": {"a": torch.zeros(1)},
    "discriminators": {},
    "ema": {"a": torch.zeros(1)},
    "optimizers": [{"state": {}, "param_groups": [{"lr": 1e-3, "params": [0]}]}],
    "best": {"T1_to_T2": {"step": 2, "score": 20.0, "by": "PSNR and SSIM"}},
}


def test_a_whole_checkpoint_is_read(tmp_path: Path) -> None:
    save_state(tmp_path / "last.pt", WHOLE)
    assert load_state(tmp_path / "last.pt")["step"] == 4
    save_state(tmp_path / "best.pt", {"step": 2, "ema": WHOLE["ema"]})
    assert load_state(tmp_path / "best.pt", Average)["step"] == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"step": "soon"}, "step is 'soon'"),
        ({"step": -1}, "step is -1"),
        ({"step": 2**70}, "step is"),
        ({"step": torch.zeros(2)}, "step is"),
        ({"ema": {"a": 1.0}}, "ema.a is 1.0"),
        ({"ema": None}, "ema is None"),
        ({"optimizers": [{}]}, "optimizers.0"),
        ({"generators": []}, "generators is"),
        ({"best": {"T1_to_T2": {"step": "soon", "score": 1.0, "by": ""}}}, "best.T1_to_T2.step"),
    ],
)
def test_a_checkpoint_with_something_else_in_it(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    save_state(tmp_path / "last.pt", WHOLE | change)
    with pytest.raises(ModelError, match=words) as caught:
        load_state(tmp_path / "last.pt")
    assert "\n" not in str(caught.value)


def test_an_empty_checkpoint(tmp_path: Path) -> None:
    save_state(tmp_path / "last.pt", {})
    with pytest.raises(ModelError, match="there is no step"):
        load_state(tmp_path / "last.pt")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"generator_lr": "fast"}, "generator_lr is 'fast'"),
        ({"pairing": "all"}, "pairing is 'all'"),
        ({"seed": -1}, "seed is -1"),
        ({"colour": "red"}, "the key colour is unknown"),
    ],
)
def test_settings_that_no_run_has(change: dict[str, Any], words: str) -> None:
    sound = {"source": "T1", "target": "T2"}
    check_settings(sound, Path("settings.json"))
    with pytest.raises(UserError, match=words):
        check_settings(sound | change, Path("settings.json"))
