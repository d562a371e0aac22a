"""What `prepare` says before it does anything, and test sets for ready translators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syndiff.errors import DataError, ModelError, OptionError
from syndiff.preparation.decisions import place_centre
from syndiff.preparation.dry_run import forecast
from syndiff.preparation.intensity import IntensityScale
from syndiff.preparation.recipe import prepare, prepare_with
from syndiff.preparation.settings import Settings
from syndiff.reporting import Remembering

SCALES = {m: IntensityScale("robust", "a.u.", 3.0, 250.0) for m in ("T1", "T2")}
CONFIG: dict[str, Any] = {
    "sources": ["T1"],
    "target": "T2",
    "size": [32, 24],
    "spacing_mm": 7.0,
    "intensity": {m: scale.to_dict() for m, scale in SCALES.items()},
}


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_a_dry_run_says_what_a_run_does_and_writes_nothing(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").symlink_to(cohort)
    out = tmp_path / "out"
    options: dict[str, Any] = {"split": {"train": 4, "val": 1}, "size": 32, "register": False}
    settings = Settings(("T1", "T2"), spacing_mm=7.0, **options)
    before = files_of(tmp_path)
    found = forecast(tmp_path / "raw", out, settings)
    assert files_of(tmp_path) == before
    assert (found.people, found.scans) == (5, {"T1": 5, "T2": 5})
    assert {split: len(people) for split, people in found.splits.items()} == {"train": 4, "val": 1}
    assert found.seconds is not None
    assert found.seconds > 0
    assert any("1 subjects in no split" in line for line in found.lines)

    manifest = prepare_with(tmp_path / "raw", out, settings)
    for split, people in found.splits.items():
        assert manifest.subjects(split) == people
    written = sum(scan.slices_path.stat().st_size for scan in manifest.all_scans())
    assert found.written_bytes == pytest.approx(written, rel=0.2)
    assert forecast(tmp_path / "raw", out, settings).state == "finished"
    with pytest.raises(OptionError, match="was prepared with `size` 32"):
        forecast(tmp_path / "raw", out, Settings(("T1", "T2"), **options | {"size": 40}))


def test_a_dry_run_names_a_scan_that_cannot_be_used(cohort: Path, tmp_path: Path) -> None:
    for path in cohort.rglob("*T?w.nii.gz"):
        copy = tmp_path / path.relative_to(cohort)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes()[:3000])
    settings = Settings(("T1", "T2"), size=32, register=False)
    found = forecast(tmp_path, None, settings)
    assert found.seconds is None
    assert found.broken
    assert all("sub-" in line and "\n" not in line for line in found.broken)
    with pytest.raises(DataError, match="no folder"):
        forecast(tmp_path / "nothing", None, settings)


def test_a_test_set_has_the_grid_and_the_scales_of_a_translator(
    cohort: Path, tmp_path: Path
) -> None:
    settings = Settings.for_translator(CONFIG, register=False)
    heard = Remembering()
    manifest = prepare_with(cohort, tmp_path / "data", settings, heard)
    assert manifest.modalities == ("T1", "T2")
    assert (manifest.size, manifest.spacing_mm) == ((32, 24), 7.0)
    assert manifest.intensity == SCALES
    assert len(manifest.paired_subjects("test", "T1", "T2")) == 6
    assert not manifest.subjects("train")
    assert all(scan.load().shape[1:] == (32, 24) for scan in manifest.all_scans())
    assert not any("intensity scales come from" in line for line in heard.warnings)
    with pytest.raises(OptionError, match="training subjects for a ready translator"):
        prepare_with(cohort, tmp_path / "no", Settings.for_translator(CONFIG, split={"train": 6}))


def test_people_who_lack_a_modality_are_left_out_of_a_test_set(
    cohort: Path, tmp_path: Path
) -> None:
    for path in sorted(cohort.rglob("*w.nii.gz")):
        if "sub-002_T2w" not in path.name:
            copy = tmp_path / "raw" / path.relative_to(cohort)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(path)
    settings = Settings.for_translator(CONFIG, register=False)
    found = forecast(tmp_path / "raw", None, settings)
    assert found.splits["test"] == ["sub-001", "sub-003", "sub-004", "sub-005", "sub-006"]
    assert any("lack a modality" in line and "sub-002" in line for line in found.left_out)


def test_the_middle_of_a_head_that_is_larger_than_the_grid_is_kept() -> None:
    record = {"native_shape": [40, 50, 3], "spacing_yx_mm": [1.0, 1.0]}
    grid, lost = place_centre(record, [[4, 45], [10, 29]], (32, 24), 1.0)
    assert "10 of 42 mm front to back" in lost
    assert "left to right" not in lost
    first = [grid.native_index(0, 0), grid.native_index(0, 31)]
    assert first == [9.0, 40.0]  # 5 pixels of 4 … 45 are cut at either end
    kept, nothing = place_centre(record, [[10, 29], [10, 29]], (32, 24), 1.0)
    assert nothing == ""
    slices = np.zeros((1, 50, 40), np.float32)
    slices[0, 10:30, 10:30] = 1.0
    assert kept.forward(slices).sum() == slices.sum()


def test_a_translator_of_noise_has_no_test_set() -> None:
    with pytest.raises(ModelError, match="from noise"):
        Settings.for_translator(CONFIG | {"sources": []})


def test_series_are_chosen_for_all_or_by_modality() -> None:
    assert Settings(("T1", "T2"), series="3").series_of() == {"T1": "3", "T2": "3"}
    assert Settings(("T1", "T2"), series="T1=mprage").series_of() == {"T1": "mprage"}
    with pytest.raises(OptionError, match="a `series` of CT"):
        Settings(("T1", "T2"), series="CT=3")


def test_series_of_mat_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data_train_T1.mat").touch()
    with pytest.raises(OptionError, match=r"`series` with \.mat files"):
        prepare(tmp_path, tmp_path / "out", modalities=("T1", "T2"), spacing_mm=1.0, series="3")


def test_a_test_set_is_evaluated_without_training_subjects(cohort: Path, tmp_path: Path) -> None:
    from syndiff.evaluation.evaluate import NO_TRAINING, evaluate

    prepare_with(cohort, tmp_path / "data", Settings.for_translator(CONFIG, register=False))
    found = evaluate(tmp_path / "data", tmp_path / "report", models={}, source="T1", target="T2")
    assert set(found["models"]) == {"copy"}
    assert NO_TRAINING in found["warnings"]
