"""The demonstration: every part runs, nothing is redone, the shipped model is sound."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from syndiff import demo
from syndiff.errors import OptionError
from syndiff.training import presets
from syndiff.translators import SHIPPED, load_translator, locate
from tests.helpers.tiny import TINY


def test_the_shipped_translator_is_found_beside_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate("demo") == SHIPPED["demo"]
    (tmp_path / "demo").mkdir()  # as `make demo` does
    assert locate("demo") == SHIPPED["demo"]
    assert locate("other") == Path("other")
    translator = load_translator("demo")
    assert translator.name == "T1_to_T2"
    assert sum(p.numel() for p in translator.parameters()) <= 2e6
    assert (SHIPPED["demo"] / "model.safetensors").stat().st_size <= 8 * 2**20


@pytest.mark.slow  # registers full heads; .ci/run runs the demonstration itself
def test_from_nothing_to_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = presets.PRESETS["small"]
    monkeypatch.setitem(presets.PRESETS, "small", replace(small, objective=TINY))
    out, said = tmp_path / "demo", []
    options = {"minutes": 0.02, "subjects": 4, "say": said.append}
    results = demo.run(out, **options)
    models = json.loads((out / "metrics.json").read_text())["models"]
    assert set(models) == {"shipped", "trained", "copy", "histogram"}
    psnr = {name: entry["slice_means"]["psnr_db"] for name, entry in models.items()}
    assert psnr["shipped"] > psnr["copy"] + 4
    assert psnr["shipped"] > psnr["histogram"] + 2
    assert models["shipped"]["offset_px"] < 0.5
    assert (out / "report.html").stat().st_size > 10_000
    assert (out / "sub-004_T2w_synthetic.nii.gz").is_file()
    assert str(out / "report.html") in said[-1]

    weights = out / "run/translators/T1_to_T2/model.safetensors"
    before = weights.stat().st_mtime_ns
    assert demo.run(out, **options)["models"].keys() == results["models"].keys()
    assert weights.stat().st_mtime_ns == before
    with pytest.raises(OptionError, match="holds a demonstration"):
        demo.run(out, **{**options, "subjects": 5})


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(OptionError, match="not empty"):
        demo.run(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
