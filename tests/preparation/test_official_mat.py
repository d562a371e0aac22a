"""Data files of the official code: what they say is kept, what they do not say is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from syndiff.errors import DataError, OptionError, UserError
from syndiff.preparation.manifest import Manifest, read_manifest
from syndiff.preparation.orientation import CODES, SliceOrientation
from syndiff.preparation.recipe import prepare
from syndiff.reporting import Remembering
from tests.helpers.official import pictures, write_cohort, write_mat


def run(raw: Path, out: Path, **options: Any) -> Manifest:
    asked = {"modalities": ("T1", "T2"), "size": 48, "spacing_mm": 1.5, "orientation": "PL"}
    return prepare(raw, out, **(asked | options))


def shown(path: Path) -> np.ndarray:
    """(n, rows, columns) as the official loader shows it."""
    with h5py.File(path) as file:
        return np.array(file["data_fs"]).swapaxes(1, 2)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("official") / "raw")


@pytest.fixture(scope="module")
def data(raw: Path) -> Manifest:
    return run(raw, raw.parent / "data")


@pytest.mark.parametrize(
    ("code", "y", "x"),
    [("PL", "3 - r", "2 - c"), ("PR", "3 - r", "c"), ("AR", "r", "c"), ("LP", "2 - c", "3 - r")],
)
def test_orientation_says_where_a_pixel_goes(code: str, y: str, x: str) -> None:
    image = np.arange(12).reshape(4, 3)  # rows, columns
    ours = SliceOrientation(code).to_ours(image)
    for r in range(4):
        for c in range(3):
            assert ours[eval(y), eval(x)] == image[r, c]


@pytest.mark.parametrize("code", CODES)
def test_orientation_and_back_is_exact(code: str) -> None:
    turn = SliceOrientation(code)
    image = np.arange(2 * 4 * 3).reshape(2, 4, 3)
    np.testing.assert_array_equal(turn.from_ours(turn.to_ours(image)), image)
    np.testing.assert_array_equal(turn.to_ours(turn.from_ours(image)), image)
    others = [SliceOrientation(c).to_ours(image[:, :3]) for c in CODES if c != code]
    assert not any(np.array_equal(turn.to_ours(image[:, :3]), other) for other in others)


@pytest.mark.parametrize("code", ["", "P", "PA", "LR", "pl", "PLS"])
def test_unknown_orientations(code: str) -> None:
    with pytest.raises(OptionError, match="PL"):
        SliceOrientation(code)


def test_splits_and_counts_come_from_the_files(raw: Path, data: Manifest) -> None:
    for split, count in {"train": 5, "val": 2, "test": 3}.items():
        for modality in ("T1", "T2"):
            (scan,) = data.scans(split, modality)
            assert scan.record["file"] == f"data_{split}_{modality}.mat"
            assert scan.load().shape == (count, 48, 48)


@pytest.mark.parametrize("code", ["PL", "RA"])
def test_values_are_kept_and_the_way_back_is_exact(raw: Path, tmp_path: Path, code: str) -> None:
    data = run(raw, tmp_path / "data", orientation=code)
    assert data.spacing_mm == 1.5
    for scan in data.all_scans():
        assert not scan.grid.resamples
        back = SliceOrientation(code).from_ours(scan.grid.inverse(np.asarray(scan.load())))
        want = np.clip(shown(raw / scan.record["file"]), 0, 1)
        np.testing.assert_array_equal(back, want)
        values = data.scale(scan.modality).restore(scan.load())
        np.testing.assert_allclose(values, scan.load(), rtol=1e-6)  # 1 stays 1


def test_slices_stand_upright_in_our_axes(data: Manifest) -> None:
    """PL: the spot at the upper left of the picture is anterior and on the patient's right."""
    image = data.scans("train", "T1")[0].load()[0]
    y, x = np.argwhere(image > 0.95).mean(axis=0)
    assert y > 24
    assert x > 24


def test_another_size_makes_pixels_that_hold_every_head(raw: Path, tmp_path: Path) -> None:
    data = run(raw, tmp_path / "data", size=32)
    assert data.size == (32, 32)
    assert 1.5 < data.spacing_mm < 48 * 1.5 / 30
    image = np.asarray(data.scans("train", "T1")[0].load())
    assert image[:, [0, -1], :].max() < 0.1


def test_nothing_is_a_pair_unless_said_so(raw: Path, data: Manifest, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        assert data.paired_subjects(split, "T1", "T2") == []
    three = tmp_path / "raw"
    for split in ("train", "val", "test"):
        for i, modality in enumerate(("T1", "T2")):
            write_mat(three, split, modality, pictures(3, i))
    paired = run(three, tmp_path / "data", paired=("test",))
    assert paired.paired_subjects("test", "T1", "T2") == ["test"]
    assert paired.paired_subjects("val", "T1", "T2") == []
    assert {s.subject for s in paired.scans("train", "T1")}.isdisjoint(
        s.subject for s in paired.scans("train", "T2")
    )


def test_other_scans_reach_the_same_brightness(raw: Path, data: Manifest, tmp_path: Path) -> None:
    """A scan of any brightness, divided by its head's mean, lands where the training data lie."""
    scale, slices = data.scale("T1"), np.asarray(data.scans("train", "T1")[0].load())
    bright = 700 * slices
    normal = scale.normalise(bright, scale.reference_mean(bright))
    assert normal[slices > 0.3].mean() == pytest.approx(slices[slices > 0.3].mean(), rel=0.1)
    paper = run(raw, tmp_path / "data", intensity="paper").scale("T1")
    assert paper.training_mean == pytest.approx(shown(raw / "data_train_T1.mat").mean(), rel=1e-4)
    assert paper.scale * paper.training_mean == pytest.approx(1)


def test_validation_is_scaled_by_the_training_file(raw: Path, tmp_path: Path) -> None:
    dark = tmp_path / "raw"
    write_cohort(dark)
    write_mat(dark, "val", "T1", 0.5 * pictures(2, 1))
    scan = run(dark, tmp_path / "data").scans("val", "T1")[0]
    assert np.max(scan.load()) == pytest.approx(0.5, abs=0.02)


def test_what_was_assumed_is_said(raw: Path, tmp_path: Path) -> None:
    told = Remembering()
    run(raw, tmp_path / "data", orientation=None, paired=("val",), report=told)
    text = "\n".join(told.warnings)
    assert "`orientation`" in text
    assert "`paired` test " in text
    assert "data_train_T1.mat holds values from -0.0" in text


def test_a_second_run_does_nothing_and_a_changed_file_is_refused(tmp_path: Path) -> None:
    raw, out = write_cohort(tmp_path / "raw"), tmp_path / "data"
    first = run(raw, out)
    slices = first.scans("val", "T2")[0].slices_path
    stamp, good = slices.stat().st_mtime_ns, slices.read_bytes()
    assert run(raw, out).content == first.content
    assert slices.stat().st_mtime_ns == stamp
    slices.write_bytes(good[:200])
    assert run(raw, out).content == first.content
    assert slices.read_bytes() == good
    with pytest.raises(OptionError, match="`orientation` PL, not PR"):
        run(raw, out, orientation="PR")
    write_mat(raw, "val", "T1", pictures(2, 99))
    with pytest.raises(OptionError, match=r"data_val_T1\.mat has changed"):
        run(raw, out)


def _spoil(path: Path, how: str) -> None:
    good = pictures(2, 0)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:4000])
    elif how == "text":
        path.write_text("not a file of MATLAB")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "MATLAB v5":
        path.write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(256))
    elif how == "missing":
        path.unlink()
    else:
        values = {
            "2-D": good[0],
            "4-D": good[None],
            "NaN": np.where(good > 0.9, np.nan, good),
            "out of range": 255 * good,
            "complex": good.astype(np.complex64),
            "blank": 0 * good,
            "no slices": good[:0],
            "other name": good,
            "group": None,
        }[how]
        with h5py.File(path, "w") as file:
            if values is None:
                file.create_group("data_fs")
            else:
                file["images" if how == "other name" else "data_fs"] = values


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("truncated", "damaged"),
        ("text", "not an HDF5 file"),
        ("empty", "not an HDF5 file"),
        ("MATLAB v5", r"v5 file; expected MATLAB v7\.3"),
        ("missing", "no data_train_T2.mat"),
        ("2-D", "48×30; expected three axes"),
        ("4-D", "expected three axes"),
        ("no slices", "0×48×30"),
        ("NaN", "slice 0 of .* not finite"),
        ("out of range", "expected 0 to 1"),
        ("complex", "complex64"),
        ("blank", "nothing that looks like tissue"),
        ("other name", "holds images; expected a variable data_fs"),
        ("group", "expected a variable data_fs"),
    ],
)
def test_unusable_files_are_named_in_one_line(tmp_path: Path, how: str, words: str) -> None:
    raw = write_cohort(tmp_path / "raw")
    _spoil(raw / "data_train_T2.mat", how)
    with pytest.raises(DataError, match=words) as caught:
        run(raw, tmp_path / "data")
    assert "data_train_T2.mat" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"spacing_mm": None}, "`spacing_mm`"),
        ({"split": {"train": 1}}, "`split`"),
        ({"max_slices": 3}, "`max_slices`"),
        ({"paired": ("tests",)}, "tests"),
        ({"modalities": ("T1", "CT")}, "HU"),
        ({"modalities": ("T1", "PD")}, "data_train_PD.mat"),
        ({"paired": ("val",), "modalities": ("T1",), "orientation": "up"}, "up"),
    ],
)
def test_options_that_make_no_sense(raw: Path, tmp_path: Path, options: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        run(raw, tmp_path / "data", **options)
    assert not (tmp_path / "data").exists()


def test_pairs_must_match(tmp_path: Path) -> None:
    raw = write_cohort(tmp_path / "raw")
    write_mat(raw, "val", "T2", pictures(3, 1))
    with pytest.raises(DataError, match="differ in shape"):
        run(raw, tmp_path / "data", paired=("val",))


def test_scans_know_how_they_lie(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="`orientation` with scans"):
        prepare(cohort, tmp_path, modalities=("T1", "T2"), split={"train": 1}, orientation="PL")


@pytest.mark.real_data
def test_authors_data(test_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    run(test_data / "legacy_mat", out, size=256, spacing_mm=0.94)
    scan = read_manifest(out).scans("train", "T1")[0]
    slices = np.asarray(scan.load())
    back = SliceOrientation("PL").from_ours(scan.grid.inverse(slices))
    want = np.clip(shown(test_data / "legacy_mat" / "data_train_T1.mat"), 0, 1)
    np.testing.assert_array_equal(back, want)
    rows = np.flatnonzero((slices[0] > 0.1).any(axis=1))  # of a slice with nose and eyes
    width = (slices[0] > 0.1).sum(axis=1)
    assert (
        width[rows[-25:]].max() < 0.5 * width[rows[:25]].max()
    )  # the nose is anterior: y is high
