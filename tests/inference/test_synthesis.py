"""Unconditional synthesis: a run without a source, and `syndiff sample`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from syndiff import cli
from syndiff.errors import DataError, ModelError, OptionError
from syndiff.inference import TranslationOptions, describe, sample, sample_slices
from syndiff.io import formats as volumes
from syndiff.io.atomic import read_json
from syndiff.io.volume import to_slices
from syndiff.preparation.manifest import read_manifest
from syndiff.training import presets
from syndiff.training.data import training_batches
from syndiff.training.validation import validate, validation_slices
from syndiff.training.watch import LAST, load_state
from syndiff.translators import load_translator
from syndiff.translators.sampling import Sampling
from tests.helpers.tiny import COUNT, SIZE, TINY, write_prepared
from tests.helpers.tolerance import of_results


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    settings = replace(presets.PRESETS["small"], objective=TINY, batch_size=2, final_lr=None)
    monkeypatch.setitem(presets.PRESETS, "small", settings)
    monkeypatch.setattr(sys, "argv", ["syndiff", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """T1 of four, T2 of three of them and of two others."""
    subjects = {"train1": "T1", "train2": "T1 T2", "train3": "T1|T2", "train4": "T1 T2"}
    subjects |= {"train5": "T2", "train6": "T2", "val1": "T1 T2", "val2": "T1"}
    return write_prepared(tmp_path_factory.mktemp("synthesis") / "data", subjects)


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    """T1 alone, resumed once."""
    folder = data.parent / "run"
    words = ["--source", "none", "--target", "T1", "--preset", "small", "--devices", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        assert call(patch, "train", data, folder, *words, "--max-steps", 2) == 0
        assert call(patch, "train", data, folder, *words, "--max-steps", 3, "--resume") == 0
        assert call(patch, "train", data, data.parent / "whole", *words, "--max-steps", 3) == 0
    return folder


def test_every_scan_of_the_target_is_drawn_and_nothing_else(data: Path) -> None:
    batches = training_batches(
        read_manifest(data), (), "T1",
        pairing="unpaired", shared=False, batch_size=4, seed=0, augment=True,
    )  # fmt: skip
    assert batches.steps_per_epoch == 4 * COUNT / 4
    seen = [name for step in range(5) for name in batches.names(step)]
    assert len(set(seen)) == 4 * COUNT
    assert all(" T1 slice " in name for name in seen)
    assert batches[0].source.shape == (4, 0, SIZE, SIZE)
    assert batches[0].target.shape == (4, 1, SIZE, SIZE)
    with pytest.raises(DataError, match="PD"):
        training_batches(
            read_manifest(data), (), "PD",
            pairing="unpaired", shared=False, batch_size=4, seed=0, augment=True,
        )  # fmt: skip


def test_a_run_without_a_source_resumes_and_leaves_one_translator(run: Path) -> None:
    assert [path.name for path in (run / "translators").iterdir()] == ["T1"]
    translator = load_translator(run / "translators" / "T1")
    assert (translator.sources, translator.target, translator.name) == ((), "T1", "T1")
    assert set(translator.config["intensity"]) == {"T1"}
    resumed, whole = (load_state(r / LAST)["generators"] for r in (run, run.parent / "whole"))
    assert all(name.startswith("diffusive_target.") for name in resumed)
    assert all((resumed[name] == whole[name]).all() for name in resumed)
    assert dict(describe(run / "translators" / "T1"))["translates"] == "noise → T1"


def test_each_slice_depends_on_the_seed_and_its_place_alone(run: Path) -> None:
    translator = load_translator(run / "translators" / "T1")
    many = sample_slices(translator, 5, TranslationOptions(seed=1, device="cpu", batch_size=2))
    assert many.shape == (5, SIZE, SIZE)
    assert 0 <= many.min() <= many.max() <= 1
    options = TranslationOptions(seed=1, device="cpu")
    few = sample_slices(translator, 2, options)
    tolerance = of_results(lambda of: sample_slices(of, 2, options), translator)
    np.testing.assert_allclose(few, many[:2], rtol=0, atol=tolerance)
    other = sample_slices(translator, 2, TranslationOptions(seed=2, device="cpu"))
    images = np.concatenate([many, other])
    for i in range(len(images)):
        for j in range(i):
            assert np.abs(images[i] - images[j]).max() > 1e-3, (i, j)


def test_validation_shows_different_slices_above_real_ones(run: Path, data: Path) -> None:
    slices = validation_slices(read_manifest(data), (), "T1")
    assert not slices.paired
    found = validate(load_translator(run / "translators" / "T1"), None, slices, 0, "cpu")
    assert found is not None
    assert (found.scores, found.check) == ({}, None)
    made, real = found.pictures
    assert made.shape == real.shape == (2 * COUNT, SIZE, SIZE)
    assert np.abs(made[0] - made[1]).max() > 1e-3
    np.testing.assert_array_equal(real, slices.sources["T1"][:, 0])


def test_sample_writes_a_stack_a_picture_and_where_they_are_from(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = run / "translators" / "T1"
    out = tmp_path / "out"
    assert call(monkeypatch, "sample", model, out, "--count", 3, "--seed", 7) == 0
    assert "not for diagnosis" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == [
        f"synthetic_T1.{suffix}" for suffix in ("json", "nii.gz", "png")
    ]
    stack = volumes.read(out / "synthetic_T1.nii.gz")
    assert stack.array.shape == (SIZE, SIZE, 3)
    assert stack.spacing_mm == (4.0, 4.0, 4.0)
    slices = sample_slices(load_translator(model), 3, TranslationOptions(seed=7, device="cpu"))
    np.testing.assert_allclose(to_slices(stack), slices * 2.0 * 100.0, rtol=1e-5)
    assert stack.synthetic.startswith("SYNTHETIC")
    record = read_json(out / "synthetic_T1.json", "side-car")
    assert (record["synthetic"], record["not_for"]) == (True, "diagnosis")
    assert (record["slices"], record["seed"], record["unit"]) == (3, 7, "a.u.")
    assert record["source_modality"] is None
    assert record["translator"]["training"]["steps"] == 3
    assert (out / "synthetic_T1.png").read_bytes().startswith(b"\x89PNG")


def test_what_needs_a_source_and_what_has_none_are_told_apart(
    run: Path,
    data: Path,
    cohort: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, scan = run / "translators" / "T1", cohort / "sub-006" / "anat" / "sub-006_T1w.nii.gz"
    out = tmp_path / "out"
    for arguments, words in (
        (("sample", "demo", out), "needs a T1 image"),
        (("sample", run, out), "no "),
        (("translate", model, scan, out / "a.nii.gz"), "syndiff sample"),
        (("translate", model, cohort, out), "syndiff sample"),
        (("evaluate", data, out, "--model", f"mine={model}"), "syndiff sample"),
        (("export", model, out, "--format", "torch"), "from noise alone"),
        (("train", data, out, "--source", "none", "--target", "T1", "--pairing", "paired"), "unp"),
        (("train", data, out, "--source", "none", "--method", "cyclegan"), "no source with"),
        (("train", data, out, "--source", ","), "empty --source"),
    ):
        assert call(monkeypatch, *arguments) == 2, arguments
        *before, error = capsys.readouterr().err.strip().splitlines()
        assert set(before) <= {"reading the slices"}, before  # a phase of training, if any
        assert error.startswith("error: ")
        assert words in error
        assert not out.exists()


def test_from_python_the_same_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="syndiff translate"):
        sample("demo", tmp_path / "out")
    two = TranslationOptions(sampling=Sampling(steps=2))
    with pytest.raises(OptionError, match="sampling steps"):
        sample(run / "translators" / "T1", tmp_path / "out", two)
    with pytest.raises(ModelError):
        sample(tmp_path, tmp_path / "out")
