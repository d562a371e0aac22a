"""Mean and standard deviation of samples beside a translation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from syndiff.errors import OptionError
from syndiff.inference import TranslationOptions, translate_file, translate_volume
from syndiff.inference.folders import translate_folder
from syndiff.inference.spread import Moments
from syndiff.io import formats as volumes
from syndiff.translators.sampling import Sampling
from tests.helpers.translators import build
from tests.helpers.volumes import head

OPTIONS = TranslationOptions(device="cpu", check=False, seed=3, samples=3)


def test_moments_are_those_of_numpy() -> None:
    samples = np.random.default_rng(0).normal(1000, 1, (5, 2, 4, 3))
    moments = Moments((6, 4, 3), air=7.0)
    moments.see(np.array([1, 4]), list(samples))
    np.testing.assert_allclose(moments.mean[[1, 4]], samples.mean(0), rtol=1e-6)
    np.testing.assert_allclose(moments.std[[1, 4]], samples.std(0, ddof=1), rtol=1e-6)
    assert (moments.mean[[0, 2, 3, 5]] == 7).all()
    assert (moments.std[[0, 2, 3, 5]] == 0).all()


def test_samples_are_the_translations_of_the_next_seeds() -> None:
    translator, scan = build(), head()
    alone = replace(OPTIONS, samples=0)
    options = [replace(alone, seed=seed) for seed in (3, 4, 5)]
    each = np.stack([translate_volume(translator, scan, o).volume.array for o in options])
    made = translate_volume(translator, scan, OPTIONS)
    np.testing.assert_array_equal(made.volume.array, each[0])
    tolerance = 1e-5 * each.max()  # float32 sums of three
    np.testing.assert_allclose(made.beside["mean"].array, each.mean(0), rtol=0, atol=tolerance)
    np.testing.assert_allclose(
        made.beside["std"].array, each.std(0, ddof=1), rtol=0, atol=tolerance
    )
    assert each.std(0).max() > 100 * tolerance  # the seeds do change the image
    assert made.record["seeds"] == [3, 4, 5]


def test_a_synthetic_ct_deviates_only_inside_the_body() -> None:
    made = translate_volume(build("CT"), head(), OPTIONS)
    outside = made.beside["mean"].array == -1024
    assert outside.any()
    assert not made.beside["std"].array[outside].any()
    assert made.beside["std"].array[~outside].max() > 1  # HU


def test_files_are_marked_and_say_which_seeds(tmp_path: Path) -> None:
    folder, scan = build().save(tmp_path / "T1_to_T2"), tmp_path / "T1w.nii.gz"
    volumes.write(head(), scan)
    translate_file(folder, scan, tmp_path / "T2w.nii.gz", OPTIONS)
    for name in ("T2w", "T2w_mean", "T2w_std"):
        image = nib.load(tmp_path / f"{name}.nii.gz")
        assert bytes(image.header["descrip"].item()).startswith(b"SYNTHETIC")
        record = json.loads((tmp_path / f"{name}.json").read_text())
        assert record["synthetic"]
        assert (record["samples"], record["seeds"]) == (3, [3, 4, 5])
    assert (record["statistic"], record["of"]) == ("std", "T2w.nii.gz")
    assert json.loads((tmp_path / "T2w.json").read_text())["beside"] == {
        "mean": "T2w_mean.nii.gz",
        "std": "T2w_std.nii.gz",
    }


def test_a_folder_does_again_what_lacks_its_deviation(tmp_path: Path) -> None:
    folder, scans = build().save(tmp_path / "T1_to_T2"), tmp_path / "scans"
    scans.mkdir()
    volumes.write(head(), scans / "a_T1.nii.gz")

    def skipped() -> bool:
        results = translate_folder(folder, scans, tmp_path / "out", OPTIONS)
        assert not results[0].problem
        return results[0].skipped

    assert [skipped(), skipped()] == [False, True]
    (tmp_path / "out/a_T2_std.nii.gz").unlink()
    assert not skipped()


def test_what_cannot_be_sampled_is_refused(tmp_path: Path) -> None:
    silent = build()
    silent.stochastic = False
    with pytest.raises(OptionError, match="no noise"):
        translate_volume(silent, head(), OPTIONS)
    with pytest.raises(OptionError, match="2 to"):
        replace(OPTIONS, samples=1)
    with pytest.raises(OptionError, match="regression"):
        replace(OPTIONS, sampling=Sampling("regression"))
    scans = tmp_path / "bids"
    (scans / "sub-1/anat").mkdir(parents=True)
    (scans / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    volumes.write(head(), scans / "sub-1/anat/sub-1_T1w.nii.gz")
    with pytest.raises(OptionError, match="BIDS"):
        translate_folder(build().save(tmp_path / "m"), scans, tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()
