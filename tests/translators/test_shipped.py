"""The translators that travel with the package: found by name, small, with a card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from syndiff.cli import app
from syndiff.inference import describe, translate_volume
from syndiff.io.volume import Volume
from syndiff.phantom.heads import scan_head
from syndiff.phantom.label_maps import BRAIN, INDEX
from syndiff.translators import BRAINS, SHIPPED, WEIGHTS, load_translator, locate
from tests.helpers import label_maps


@pytest.mark.parametrize("name", SHIPPED)
def test_a_name_is_enough(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate(name) == SHIPPED[name]
    translator = load_translator(name)
    assert {w.dtype for w in translator.state_dict().values()} == {torch.float32}
    assert (SHIPPED[name] / WEIGHTS).stat().st_size <= 8e6


def test_all_together_are_small() -> None:
    assert sum((folder / WEIGHTS).stat().st_size for folder in SHIPPED.values()) <= 30e6


@pytest.mark.parametrize("name", BRAINS)
def test_a_brain_translator_has_a_card(name: str) -> None:
    told = dict(describe(name))
    assert {"trained on", "measured", "not for", "licence", "cite"} <= set(told)


def test_models_are_listed() -> None:
    result = CliRunner().invoke(app, ["models"])
    assert result.exit_code == 0
    *models, following = result.output.splitlines()
    assert [line.split()[0] for line in models] == list(SHIPPED)
    assert following.startswith("next: syndiff info ")


def test_weights_of_half_precision_become_single(tmp_path: Path) -> None:
    translator = load_translator("demo")
    translator.save(tmp_path)
    file = tmp_path / WEIGHTS
    halves = {name: w.half() for name, w in load_file(file).items()}
    save_file(halves, file)
    loaded = load_translator(tmp_path).state_dict()
    for name, weight in loaded.items():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, halves[name].float(), rtol=0, atol=0)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Volume]:
    """Three slices of a virtual head in every contrast, and its labels."""
    folder = tmp_path_factory.mktemp("head")
    path = label_maps.write(folder / "a.nii.gz", label_maps.SYNTHSEG, 2.0, size=88)
    made = scan_head(path, 1, ("T1", "T2", "FLAIR"), 0, 2.0, "ixi", 0.02, 0.2)
    return {
        kind: Volume(np.ascontiguousarray(made[kind].array[:, :, 40:43]), made["T1"].affine)
        for kind in ("T1", "T2", "FLAIR", "dseg")
    }


@pytest.mark.parametrize("name", BRAINS)
def test_a_virtual_head_gets_the_contrast_of_the_target(
    name: str, head: dict[str, Volume]
) -> None:
    translator = load_translator(name)
    source, target = translator.source, translator.target
    image = translate_volume(translator, head[source]).volume.array
    labels = head["dseg"].array
    fluid, white = (
        float(np.median(image[labels == INDEX[tissue]]))
        for tissue in ("ventricle", "white_matter")
    )
    assert fluid > 1.5 * white if target == "T2" else fluid < 0.6 * white
    inside = np.isin(labels, [INDEX[tissue] for tissue in BRAIN])

    def likeness(a: np.ndarray) -> float:
        return float(np.corrcoef(a[inside], head[target].array[inside])[0, 1])

    assert likeness(image) > likeness(head[source].array) + 0.1
