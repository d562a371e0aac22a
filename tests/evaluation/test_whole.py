"""Whole volumes scored: what is cut out of a translated scan lies where prepared slices lie."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from syndiff.errors import DataError
from syndiff.io import formats
from syndiff.io.volume import Volume
from syndiff.phantom.cohort import make_subject
from syndiff.preparation.recipe import prepare

inference = pytest.importorskip("syndiff.inference")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Two people at 6 mm; their T2 lies half a voxel off, so that preparation moves it."""
    folder = tmp_path_factory.mktemp("whole")
    for index in (1, 2):
        person = make_subject(index, ("T1", "T2"), 0, spacing_mm=6.0)
        for modality, array in person.scans.items():
            affine = person.affine.copy()
            affine[0, 3] += 3.0 if modality == "T2" else 0.0
            path = folder / f"raw/sub-{index:03d}/anat/sub-{index:03d}_{modality}w.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            formats.write(Volume(array, affine), path)
    split = {"train": 1, "val": 0, "test": 1}
    manifest = prepare(
        folder / "raw", folder / "data", modalities=("T1", "T2"), split=split, size=48,
        register=False,
    )  # fmt: skip
    return folder / "raw", manifest


def copier(manifest, modality, monkeypatch):
    """A translator of a modality to itself, in the brightness of its training scans."""
    scale = manifest.scale(modality)
    (scan,) = manifest.scans("test", modality)

    def translate(translator, volume, options, also):
        array = volume.array * np.float32(scale.training_mean / scan.foreground_mean)
        return SimpleNamespace(volume=replace(volume, array=array))

    monkeypatch.setattr(inference, "translate_volume", translate)
    return SimpleNamespace(
        sources=(modality,), target=modality, config={"intensity": {modality: scale.to_dict()}}
    )


@pytest.mark.parametrize("modality", ["T1", "T2"])
def test_a_copy_of_a_scan_is_its_prepared_slices(cohort, monkeypatch, modality):
    from syndiff.evaluation.whole import whole_volume

    raw, manifest = cohort
    (scan,) = manifest.scans("test", modality)
    made = whole_volume(
        copier(manifest, modality, monkeypatch), manifest, "test", raw,
        inference.TranslationOptions(),
    )(scan.subject)  # fmt: skip
    # Only float32 arithmetic in another order lies between them.
    np.testing.assert_allclose(made, scan.load(), atol=1e-5)


def test_other_scans_than_the_prepared_ones_are_refused(cohort, monkeypatch, tmp_path):
    from syndiff.evaluation.whole import whole_volume

    _, manifest = cohort
    translator = copier(manifest, "T1", monkeypatch)
    call = whole_volume(translator, manifest, "test", tmp_path, inference.TranslationOptions())
    with pytest.raises(DataError, match="has gone or has changed"):
        call(manifest.scans("test", "T1")[0].subject)


@pytest.mark.parametrize("modality", ["T1", "T2"])
def test_an_acquired_scan_in_a_folder_of_results_is_its_prepared_slices(
    cohort, tmp_path, modality
):
    """The folder of any software: here each result is the acquired scan, on its own grid."""
    from syndiff.evaluation.folders import slices_of

    raw, manifest = cohort
    (scan,) = manifest.scans("test", modality)
    path = tmp_path / f"{scan.subject}_made.nii.gz"
    formats.write(formats.read(raw / scan.record["file"]), path)
    found = slices_of(tmp_path, manifest, "test", "T1", modality)(scan.subject)
    assert np.abs(found - scan.load()).max() < 1e-4


def test_a_result_on_a_third_grid_is_refused(cohort, tmp_path):
    from syndiff.evaluation.folders import slices_of

    raw, manifest = cohort
    (scan,) = manifest.scans("test", "T1")
    volume = formats.read(raw / scan.record["file"])
    other = Volume(volume.array[:-2], volume.affine)
    formats.write(other, tmp_path / f"{scan.subject}.nii.gz")
    with pytest.raises(DataError, match="another grid"):
        slices_of(tmp_path, manifest, "test", "T1", "T1")(scan.subject)
