"""Does the anatomy stay where it is? Planted shifts, the check, and where it is written down."""

from __future__ import annotations

import csv
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from experiments.offset import errors, templates, virtual

from syndiff.anatomy.agreement import dice, foreground, way_back_error
from syndiff.anatomy.check import AnatomyCheck, SpreadSlices, check_anatomy, combine, spread
from syndiff.anatomy.offset import UNKNOWN, Offset
from syndiff.preparation.intensity import IntensityScale, window_scale
from syndiff.reporting import Remembering
from tests.helpers.reporters import Watching
from tests.helpers.runs import settings
from tests.helpers.translators import build, intensity
from tests.helpers.volumes import head

MR = IntensityScale("robust", "a.u.", 2.0, 300.0)
SCALES = {"T1": MR, "T2": MR, "FLAIR": MR, "CT": window_scale()}


@pytest.fixture(scope="module")
def person() -> dict[str, np.ndarray]:
    """16 slices (16, 64, 64) of a virtual subject in four contrasts."""
    return virtual(3, 3.5, 64)


# --- planted shifts -------------------------------------------------------------------------


@pytest.mark.parametrize("synthetic", [False, True], ids=["sharp", "blurred-noisy"])
@pytest.mark.parametrize(
    "pair", ["T1 T2", "T2 T1", "T1 FLAIR", "T2 FLAIR", "T1 CT", "CT T1", "T2 CT", "CT FLAIR"]
)
def test_shifts_are_found_to_a_fifth_of_a_pixel(person, pair: str, synthetic: bool) -> None:
    source, image = pair.split()
    found = errors(person[image], person[source], synthetic, own_offset=False)
    assert max(found.at_once) < 0.2
    assert max(found.median) < 0.2


@pytest.mark.real_data
@pytest.mark.parametrize("synthetic", [False, True], ids=["sharp", "blurred-noisy"])
@pytest.mark.parametrize("pair", ["T1 T2", "T1 FLAIR", "PD T2", "T1 CT", "CT T1", "T2 CT"])
def test_shifts_of_templates_are_found(test_data: Path, pair: str, synthetic: bool) -> None:
    heads = templates(test_data / "templates")
    source, image = pair.split()
    found = errors(heads[image], heads[source], synthetic, own_offset=True)
    assert max(found.at_once) < 0.2


# --- the parts ------------------------------------------------------------------------------


def test_heads_of_two_contrasts_overlap_and_less_when_shifted(person) -> None:
    masks = {m: foreground(person[m].astype(np.float32), SCALES[m]) for m in SCALES}
    for other in ("T2", "FLAIR", "CT"):
        agreed = dice(masks["T1"], masks[other])
        assert agreed > 0.88
        assert dice(masks["T1"], np.roll(masks[other], 6, axis=2)) < agreed - 0.05
    assert dice(masks["T1"], masks["T1"]) == 1
    assert dice(np.zeros((2, 3, 3), bool), np.zeros((2, 3, 3), bool)) is None


def test_way_back_is_relative_to_the_head_alone() -> None:
    source = np.zeros((1, 4, 4), np.float32)
    source[0, :2] = 0.5
    inside = source > 0
    assert way_back_error(source, source, inside) == 0
    assert way_back_error(source, source * 0.9, inside) == pytest.approx(0.1)
    assert way_back_error(source, np.where(inside, source, 1), inside) == 0
    assert way_back_error(source, source, np.zeros_like(inside)) is None


@pytest.mark.parametrize(("count", "most"), [(0, 4), (1, 4), (4, 4), (5, 4), (200, 16)])
def test_spread_is_even_and_bounded(count: int, most: int) -> None:
    chosen = spread(count, most)
    assert len(chosen) == min(count, most)
    assert all(0 <= i < count for i in chosen)
    gaps = np.diff(chosen)
    assert len(gaps) == 0 or (gaps.min() >= 1 and np.ptp(gaps) <= 1)


def test_slices_are_kept_as_they_pass_by() -> None:
    places = np.arange(10, 60)
    kept = SpreadSlices(places, most=5)
    for start in range(0, 50, 8):
        batch = places[start : start + 8]
        images = np.broadcast_to(batch[:, None, None], (len(batch), 2, 2)).astype(np.float32)
        kept.see(batch, images, -images)
    sources, made = kept.stacks
    assert sources[:, 0, 0].tolist() == places[spread(50, 5)].tolist()
    np.testing.assert_array_equal(made, -sources)


# --- the check ------------------------------------------------------------------------------


def checked(person, image: np.ndarray, **options) -> AnatomyCheck:
    return check_anatomy(
        person["T1"].astype(np.float32),
        image.astype(np.float32),
        source_scale=MR,
        target_scale=MR,
        spacing_mm=3.5,
        **options,
    )


def test_a_translation_in_place_raises_no_doubt(person) -> None:
    check = checked(person, person["T2"])
    assert check.offset.magnitude < 0.2
    assert check.warnings("it") == []
    assert check.slices == 16
    assert check.way_back_error is None
    assert check.to_dict()["way_back_slices"] == 0
    json.dumps(check.to_dict(), allow_nan=False)


def test_several_pixels_mean_do_not_use_it(person) -> None:
    check = checked(person, np.roll(person["T2"], 3, axis=1))
    (warning, *_) = check.warnings("it")
    assert "3.0 px" in warning
    assert "do not use the image" in warning
    assert check.to_dict()["source_offset_mm"] == pytest.approx(3.5 * 3, abs=0.7)


def test_a_pixel_names_the_remedy(person) -> None:
    (warning,) = checked(person, np.roll(person["T2"], -1, axis=2)).warnings("it")
    assert "train one on registered scans" in warning
    assert "structure term" in warning
    assert "do not use" not in warning


def test_something_else_than_the_head_is_told(person) -> None:
    rng = np.random.default_rng(0)
    for nothing in (np.zeros((16, 64, 64)), rng.random((16, 64, 64))):
        found = checked(person, nothing).warnings("it")
        assert "no offset can be measured" in found[0]
    smaller = np.where(np.hypot(*np.mgrid[-32:32, -32:32]) < 18, person["T2"], 0)
    assert any("Dice" in warning for warning in checked(person, smaller).warnings("it"))


def test_the_way_back_is_of_few_slices(person) -> None:
    seen = []

    def back(images: np.ndarray) -> np.ndarray:
        seen.append(len(images))
        return person["T1"][spread(16, 8)] * 1.2

    check = checked(person, person["T2"], translate_back=back)
    assert seen == [8]
    assert check.way_back_slices == 8
    assert check.way_back_error == pytest.approx(0.2, abs=1e-3)


def test_several_sources_are_judged_by_the_first(person) -> None:
    both = np.stack([person["T1"], np.roll(person["T1"], 4, axis=1)], axis=1)
    check = check_anatomy(
        both.astype(np.float32),
        person["T2"].astype(np.float32),
        source_scale=MR,
        target_scale=MR,
    )
    assert check.offset.magnitude < 0.2
    assert check.to_dict()["source_offset_mm"] is None


def test_subjects_are_combined_by_the_median_displacement() -> None:
    one = AnatomyCheck(Offset(1, 0, 0.5), 2.0, 0.9, None, 16, 0)
    none = replace(one, offset=UNKNOWN, foreground_dice=None)
    other = replace(one, offset=Offset(-1, 0, 0.7), foreground_dice=0.7, way_back_error=0.2)
    both = combine([one, other, none])
    assert both.offset.magnitude == 0
    assert both.offset.confidence == pytest.approx(0.6)
    assert both.foreground_dice == pytest.approx(0.8)
    assert both.way_back_error == 0.2
    assert both.slices == 48
    assert not combine([none]).offset.known


# --- after a translation --------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's two translators, tiny and untrained; the way from T1."""
    there = build()
    here = build()
    here.config |= {"sources": ["T2"], "target": "T1"}
    for translator in (there, here):
        translator.config["intensity"] = {"T1": intensity(), "T2": intensity()}
    here.save(tmp_path / "T2_to_T1")
    return there.save(tmp_path / "T1_to_T2")


def test_the_sidecar_records_the_check(folder: Path, tmp_path: Path) -> None:
    from syndiff.inference import TranslationOptions, translate_file
    from syndiff.io import formats

    formats.write(head(), tmp_path / "in.nii.gz")
    heard = Remembering()
    said = heard.warnings
    for name, check in (("a", True), ("b", False)):
        out = tmp_path / f"{name}.nii.gz"
        translate_file(
            folder,
            tmp_path / "in.nii.gz",
            out,
            TranslationOptions(device="cpu", check=check),
            report=heard,
        )
    record = json.loads((tmp_path / "a.json").read_text())
    anatomy = record["anatomy"]
    assert anatomy["slices"] == 12
    assert anatomy["way_back_slices"] == 8
    assert anatomy["way_back_error"] > 0
    assert anatomy["source_offset_mm"] == pytest.approx(4 * anatomy["source_offset_px"])
    assert [w for w in record["warnings"] if "the result" in w] == [
        w for w in said if "the result" in w
    ]
    assert json.loads((tmp_path / "b.json").read_text())["anatomy"] is None
    np.testing.assert_array_equal(
        formats.read(tmp_path / "a.nii.gz").array, formats.read(tmp_path / "b.nii.gz").array
    )


def test_the_other_direction_must_be_of_the_same_run(folder: Path) -> None:
    from syndiff.translators import load_translator, other_direction

    translator = load_translator(folder)
    back = other_direction(folder, translator)
    assert back is not None
    assert back.name == "T2_to_T1"
    config = folder.parent / "T2_to_T1" / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"spacing_mm": 1.0}))
    assert other_direction(folder, translator) is None
    config.unlink()
    assert other_direction(folder, translator) is None
    assert other_direction("demo", load_translator("demo")) is None


# --- while training -------------------------------------------------------------------------


def test_validation_needs_no_pairs(prepared: Path, tmp_path: Path) -> None:
    """Validation subjects of either modality, none with both: anatomy is judged, PSNR is not."""
    import shutil

    from syndiff.training.run import train

    data = tmp_path / "data"
    shutil.copytree(prepared, data)
    content = json.loads((data / "manifest.json").read_text())
    given = {("T1", "val"): "val", ("T2", "test"): "val"}  # one subject's T1, another's T2
    content["scans"] = [
        scan | {"split": given.get((scan["modality"], scan["split"]), "train")}
        for scan in content["scans"]
        if scan["split"] == "train" or (scan["modality"], scan["split"]) in given
    ]
    (data / "manifest.json").write_text(json.dumps(content))
    said = Watching()
    run = tmp_path / "run"
    train(data, run, source="T1", target="T2", settings=settings(), report=said)
    assert any("no paired validation subject" in message for message in said.warnings)
    rows = list(csv.DictReader((run / "history.csv").open()))
    assert len(rows) == 2
    for direction in ("T1_to_T2", "T2_to_T1"):
        assert {f"{direction}/{k}" for k in ("source_offset_px", "way_back_error")} <= set(rows[0])
        assert float(rows[0][f"{direction}/foreground_dice"]) <= 1
        assert float(rows[0][f"{direction}/distribution_error"]) > 0
    assert not any("psnr" in name for name in rows[0])
    assert (run / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert any("way back, offset and distribution" in message for message in said.warnings)


def test_history_takes_new_columns_and_gaps(tmp_path: Path) -> None:
    from syndiff.training import history

    history.append(tmp_path, 1, 0.5, {"a/psnr_db": 20.0})
    history.append(tmp_path, 2, 1.0, {"a/psnr_db": 21.0, "a/source_offset_px": math.nan})
    history.append(tmp_path, 3, 1.5, {"a/psnr_db": 22.0, "a/source_offset_px": 0.25})
    rows = history.read(tmp_path)
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert [row["a/source_offset_px"] for row in rows] == ["", "", "0.2500"]
    assert history._curves(rows, "/source_offset_px") == {"a": [(3, 0.25)]}


def test_hosts_without_matplotlib_train_without_a_picture(tmp_path: Path, monkeypatch) -> None:
    from syndiff.training import history

    history.append(tmp_path, 1, 0.5, {"a/psnr_db": 20.0})
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    history.draw(tmp_path)
    assert not (tmp_path / "curves.png").exists()
    monkeypatch.undo()
    history.draw(tmp_path)
    assert (tmp_path / "curves.png").exists()


def test_a_direction_is_warned_of_once_until_it_is_right_again(tmp_path: Path) -> None:
    from syndiff.training.watch import Watch

    said = Watching()
    watch = Watch(tmp_path, None, None, None, None, said)  # type: ignore[arg-type]
    for warnings in (["far"], ["far"], [], ["far"]):
        watch._doubt("T1_to_T2", warnings)
    assert said.warnings == ["far", "far"]
