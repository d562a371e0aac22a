"""Translators on disk, and volumes translated: geometry, noise, units, warnings, provenance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import syndiff
from syndiff.errors import ModelError, OptionError, UserError, VolumeError
from syndiff.inference import (
    TranslationOptions,
    describe,
    doubts,
    load_model,
    sidecar,
    translate_file,
    translate_slices,
    translate_volume,
)
from syndiff.io import formats as volumes
from syndiff.io.digest import sha256_of
from syndiff.io.volume import Volume
from syndiff.preparation.intensity import IntensityScale, foreground_mask, tissue_quantiles
from syndiff.translators import SliceNoise, load_translator
from tests.helpers.tolerance import of_results, of_translation
from tests.helpers.translators import build
from tests.helpers.volumes import head

CPU = TranslationOptions(device="cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build().save(tmp_path / "T1_to_T2")


def test_saved_and_loaded_make_the_same_image(folder: Path) -> None:
    slices = np.random.default_rng(0).random((3, 32, 32), np.float32)
    before = translate_slices(build(), slices, TranslationOptions(device="cpu"))
    np.testing.assert_array_equal(
        translate_slices(load_translator(folder), slices, TranslationOptions(device="cpu")), before
    )
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors"}


def test_the_result_depends_on_source_and_seed_not_on_the_batch() -> None:
    translator = build()
    slices = np.random.default_rng(0).random((5, 32, 32), np.float32)

    def run(images: np.ndarray, **options: int) -> np.ndarray:
        return translate_slices(translator, images, TranslationOptions(device="cpu", **options))

    whole = run(slices, batch_size=5)
    parts = run(slices, batch_size=2)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=of_translation(translator, slices))
    assert np.abs(run(slices, seed=1) - whole).max() > 1e-3
    assert np.abs(run(1 - slices) - whole).max() > 1e-3


def test_mixed_precision_is_near_and_says_so(folder: Path, tmp_path: Path) -> None:
    slices = np.random.default_rng(0).random((3, 32, 32), np.float32)
    exact, mixed = (
        translate_slices(build(), slices, TranslationOptions(device="cpu", precision=p))
        for p in ("32", "bf16")
    )
    error = float(np.sqrt(np.mean((mixed - exact) ** 2)))
    assert 0 < error < 0.02  # of random weights; not float32 after all
    volumes.write(head(), tmp_path / "a.nii.gz")
    translate_file(
        folder, tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", TranslationOptions(precision="bf16")
    )
    assert json.loads((tmp_path / "b.json").read_text())["precision"] == "bf16"
    with pytest.raises(OptionError, match="one of 32, bf16"):
        translate_slices(build(), slices, TranslationOptions(precision="16"))


def test_noise_is_shared_between_slices_or_each_slices_own() -> None:
    shared = SliceNoise(0, [3, 7], shared=True).normal(1, 4, 4)
    assert torch.equal(shared[0], shared[1])
    own = SliceNoise(0, [3, 7], shared=False).normal(1, 4, 4)
    assert not torch.equal(own[0], own[1])
    assert torch.equal(own[1], SliceNoise(0, [7], shared=False).normal(1, 4, 4)[0])


def test_odd_sizes_are_padded_and_cut() -> None:
    slices = np.random.default_rng(0).random((1, 31, 33), np.float32)
    assert translate_slices(build(), slices, TranslationOptions(device="cpu")).shape == (1, 31, 33)


ORIENTATIONS = ["RAS", "LPS", "PIR", "ASL", "SAL", "LIA"]


def test_orientations_agree_in_world_space(tmp_path: Path) -> None:
    original = head()
    volumes.write(original, tmp_path / "RAS.nii.gz")
    image = nib.load(tmp_path / "RAS.nii.gz")
    translator = build()
    results = {}
    for name in ORIENTATIONS:
        transform = nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(name)
        )
        path = tmp_path / f"{name}_in.nii.gz"
        nib.save(image.as_reoriented(transform), path)
        made = translate_volume(translator, volumes.read(path), TranslationOptions(device="cpu"))
        result = made.volume
        volumes.write(result, tmp_path / f"{name}_out.nii.gz")
        written = nib.load(tmp_path / f"{name}_out.nii.gz")
        assert written.shape == nib.load(path).shape
        np.testing.assert_array_equal(written.affine, nib.load(path).affine)
        results[name] = nib.as_closest_canonical(written).get_fdata()
    tolerance = of_results(
        lambda of: translate_volume(of, original, TranslationOptions(device="cpu")).volume.array,
        translator,
    )
    for name in ORIENTATIONS[1:]:
        np.testing.assert_allclose(results[name], results["RAS"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("spacing", [4.0, 2.5, 5.0])
def test_any_spacing_lands_on_the_sources_grid(spacing: float) -> None:
    source = head(spacing=spacing)
    result = translate_volume(build(), source, TranslationOptions(device="cpu")).volume
    assert result.array.shape == source.array.shape
    np.testing.assert_array_equal(result.affine, source.affine)
    assert np.isfinite(result.array).all()


def test_output_units() -> None:
    source = head()
    mri = translate_volume(build(), source, TranslationOptions(device="cpu")).volume.array
    assert mri.min() >= 0
    assert mri.max() <= 2.0 * 300.0
    ct = translate_volume(build("CT"), source, TranslationOptions(device="cpu")).volume.array
    assert ct.min() >= -1024
    assert ct.max() <= 3000
    assert ct[0, 0, 0] < 3000


def test_slices_without_tissue_stay_air() -> None:
    source = head()
    array = source.array.copy()
    array[:, :, :3] = 0
    result = translate_volume(
        build("CT"), source.like(array), TranslationOptions(device="cpu")
    ).volume.array
    assert (result[:, :, 0] == -1024).all()
    assert (result[:, :, 6] != -1024).any()


def test_gain_does_not_matter() -> None:
    source = head()
    translator = build()
    a, b = (
        translate_volume(translator, source, TranslationOptions(device="cpu")),
        translate_volume(
            translator, source.like(source.array * 37), TranslationOptions(device="cpu")
        ),
    )
    tolerance = of_results(
        lambda of: translate_volume(of, source, TranslationOptions(device="cpu")).volume.array,
        translator,
    )
    np.testing.assert_allclose(a.volume.array, b.volume.array, rtol=0, atol=tolerance)


def test_a_volume_without_tissue_is_refused() -> None:
    rng = np.random.default_rng(0)
    blank = head().like(np.full((40, 44, 12), -1.0) + rng.random((40, 44, 12)) * 1e-6)
    with pytest.raises(VolumeError):
        translate_volume(build(), blank, TranslationOptions(device="cpu"))


@pytest.mark.parametrize("kind", ["mask", "labels"])
def test_a_mask_or_label_map_is_no_scan(folder: Path, tmp_path: Path, kind: str) -> None:
    """One file is judged by its values as `prepare` judges a folder's."""
    scan = head()
    labels = np.digitize(scan.array, [1, 300, 600]) if kind == "labels" else scan.array > 0
    volumes.write(scan.like(labels.astype(np.float32)), tmp_path / "in.nii.gz", "made by a test")
    with pytest.raises(VolumeError, match="a mask" if kind == "mask" else "a label map"):
        translate_file(folder, tmp_path / "in.nii.gz", tmp_path / "out.nii.gz", CPU)
    assert not (tmp_path / "out.nii.gz").exists()


def test_doubts_are_told_in_words() -> None:
    fine = head()
    mask = foreground_mask(fine.array)
    mean = float(fine.array[mask].mean())
    translator = build(spacing_mm=4.0)
    scale = IntensityScale.from_dict(translator.config["intensity"]["T1"])

    def fingerprint(divisor: float) -> list[float]:
        return tissue_quantiles(scale.normalise(fine.array, divisor), mask)

    translator.config["tissue_quantiles"] = {
        "T1": [fingerprint(mean), fingerprint(mean * 1.05)],
        "T2": [fingerprint(mean * 6)],
    }

    def told(source: Volume, divisor: float) -> str:
        found = foreground_mask(source.array)
        return " | ".join(doubts(translator, source, found, divisor))

    assert told(fine, mean) == ""
    assert "finer than the 4.00 mm" in told(head(spacing=2.0), mean)
    assert "coarser" in told(head(spacing=7.0), mean)
    assert "is it a head?" in told(head(spacing=0.5), mean)
    assert "looks like T2" in told(fine, mean * 6)
    assert "right modality" in told(fine, mean / 2)


def test_translate_file_marks_its_result(folder: Path, tmp_path: Path) -> None:
    volumes.write(head(), tmp_path / "in.nii.gz")
    out = tmp_path / "new" / "out.nii.gz"
    translate_file(folder, tmp_path / "in.nii.gz", out, TranslationOptions(seed=3, device="cpu"))
    image = nib.load(out)
    assert b"SYNTHETIC" in bytes(image.header["descrip"])
    record = json.loads(sidecar(out).read_text())
    assert record["synthetic"] is True
    assert (record["modality"], record["source_modality"], record["seed"]) == ("T2", "T1", 3)
    assert len(record["translator"]["weights_sha256"]) == 64
    assert str(tmp_path) not in sidecar(out).read_text()
    assert {p.name for p in out.parent.iterdir()} == {"out.nii.gz", "out.json"}


@pytest.mark.parametrize("name", ["out.png", "out.mgz", "out"])
def test_bad_output_names(folder: Path, tmp_path: Path, name: str) -> None:
    volumes.write(head(), tmp_path / "in.nii.gz")
    with pytest.raises(OptionError, match=r"\.nii\.gz"):
        translate_file(folder, tmp_path / "in.nii.gz", tmp_path / name)
    with pytest.raises(OptionError, match="is the input"):
        translate_file(folder, tmp_path / "in.nii.gz", tmp_path / "in.nii.gz")


def test_bad_devices(folder: Path) -> None:
    with pytest.raises(OptionError, match="not available"):
        translate_slices(
            load_translator(folder), np.zeros((1, 32, 32)), TranslationOptions(device="cuda:99")
        )


def test_damaged_translators_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no translator folder"):
        load_translator(tmp_path / "nothing")
    config = json.loads((folder / "config.json").read_text())
    for change, words in (
        ({"format": 99}, "format 99"),
        ({"kind": "other"}, "kind is 'other'"),
        ({"network": {**config["network"], "channels": 16}}, "do not fit"),
    ):
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ModelError, match=words):
            load_translator(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="JSON"):
        load_translator(folder)
    (folder / "config.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(ModelError, match="there is no kind"):
        load_translator(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(ModelError, match="damaged"):
        load_translator(folder)


def test_describe_says_what_it_does(folder: Path) -> None:
    told = dict(describe(folder))
    assert told["translates"] == "T1 → T2"
    assert "4 mm" in told["trained at"]


def test_the_package_shows_its_public_names() -> None:
    assert set(dir(syndiff)) == set(syndiff.__all__)
    assert set(dir(syndiff)) == {
        "Model", "Reporter", "Sampling", "Translation", "TranslationOptions", "UserError",
        "Volume", "__version__", "load_translator", "read_volume", "save_translation",
        "translate", "write_volume",
    }  # fmt: skip
    for name in dir(syndiff):
        assert getattr(syndiff, name) is not None
    with pytest.raises(AttributeError):
        syndiff.nothing  # noqa: B018


def test_from_a_file_or_a_volume_to_a_translation(folder: Path, tmp_path: Path) -> None:
    model = syndiff.load_translator(folder)
    assert repr(model) == "Model(T1 → T2)"
    syndiff.write_volume(head(), tmp_path / "T1.nii.gz")
    options = syndiff.TranslationOptions(seed=3, device="cpu")
    made = syndiff.translate(model, head(), options)
    assert made.options is options
    assert made.volume.array.shape == head().array.shape
    assert made.anatomy is not None
    of_file = syndiff.translate(folder, tmp_path / "T1.nii.gz", options)
    np.testing.assert_array_equal(of_file.volume.array, made.volume.array)
    assert of_file.record["source_file"] == "T1.nii.gz"
    syndiff.save_translation(of_file, tmp_path / "T2.nii.gz")
    record = json.loads(sidecar(tmp_path / "T2.nii.gz").read_text())
    assert record.pop("sha256") == sha256_of(tmp_path / "T2.nii.gz")
    assert record == json.loads(json.dumps(dict(of_file.record)))
    assert {name: record[name] for name in options.to_dict()} == options.to_dict()
    assert record["sampling_steps"] == 4
    assert np.array_equal(syndiff.read_volume(tmp_path / "T2.nii.gz").array, made.volume.array)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("seed", -1),
        ("seed", 2**63),
        ("seed", 0.5),
        ("batch_size", 0),
        ("batch_size", 10**12),
        ("batch_size", True),
        ("precision", "16"),
        ("device", ""),
    ],
)
def test_a_wrong_option_is_named(field: str, wrong: object) -> None:
    with pytest.raises(OptionError, match=f"`{field}`"):
        TranslationOptions(**{field: wrong})


def test_the_model_translates_many_in_one_precision(folder: Path) -> None:
    model = load_model(folder).for_precision("bf16")
    again = model.for_precision("bf16")
    assert again.translator is model.translator


def test_errors_stay_in_one_line() -> None:
    error = UserError("found\nthis", "that", "do so")
    assert str(error) == "found this; expected that; do so"


@pytest.mark.slow  # test_orientations_agree_in_world_space has a virtual head
@pytest.mark.real_data
def test_eight_orientations_of_one_brain(test_data: Path, tmp_path: Path) -> None:
    """One brain stored in eight axis orders: the results are one picture in world space."""
    translator = build(spacing_mm=3.0)
    results = {}
    for path in sorted((test_data / "orientations").glob("*.nii.gz")):
        made = translate_volume(translator, volumes.read(path), TranslationOptions(device="cpu"))
        result = made.volume
        volumes.write(result, tmp_path / path.name)
        stored, source = nib.load(tmp_path / path.name), nib.load(path)
        assert stored.shape == source.shape
        np.testing.assert_allclose(stored.affine, source.affine, atol=1e-5)
        results[path.name] = nib.as_closest_canonical(stored)
    assert len(results) == 8
    first = results["RAS.nii.gz"]
    peak = first.get_fdata().max()
    for image in results.values():
        np.testing.assert_allclose(image.affine, first.affine, atol=1e-3)
        np.testing.assert_allclose(image.get_fdata(), first.get_fdata(), atol=0.01 * peak)


def test_files_of_others_are_not_replaced(folder: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "T1w.nii.gz", tmp_path / "T2w.nii.gz"
    volumes.write(head(), source)
    sidecar(out).write_text('{"Manufacturer": "Siemens"}')  # of an acquired scan, in BIDS
    with pytest.raises(OptionError, match=r"T2w\.json would be replaced"):
        translate_file(folder, source, out, CPU)
    assert not out.exists()
    translate_file(folder, source, out, CPU, overwrite=True)
    translate_file(folder, source, out, CPU)  # ours by now
    volumes.write(head(), out)
    with pytest.raises(OptionError, match=r"T2w\.nii\.gz would be replaced"):
        translate_file(folder, source, out, CPU)


def test_synthetic_sources_are_refused_or_recorded(folder: Path, tmp_path: Path) -> None:
    volumes.write(head(), tmp_path / "T1.nii.gz")
    translate_file(folder, tmp_path / "T1.nii.gz", tmp_path / "made.nii.gz", CPU)
    again = tmp_path / "scan.nii.gz"
    (tmp_path / "made.nii.gz").rename(again)  # and its side-car is lost
    with pytest.raises(VolumeError, match=r"scan\.nii\.gz is a synthetic image"):
        translate_file(folder, again, tmp_path / "out.nii.gz", CPU)
    allowed = replace(CPU, allow_synthetic=True)
    made = translate_file(folder, again, tmp_path / "out.nii.gz", allowed)
    assert made.record["source_synthetic"].startswith("SYNTHETIC")
    assert made.record["allow_synthetic"] is True


def test_the_demo_says_what_it_is_for(tmp_path: Path) -> None:
    source = head(spacing=4.0)
    made = syndiff.translate("demo", source, CPU)
    assert "only for virtual heads" in made.warnings[0]
    assert made.record["warnings"][0] == made.warnings[0]
    assert made.record["translator"]["only_for"].startswith("virtual heads")
    assert dict(describe("demo"))["only for"].startswith("virtual heads")


def test_a_side_car_never_speaks_of_the_input(folder: Path, tmp_path: Path) -> None:
    volumes.write(head(), tmp_path / "scan.nii")
    with pytest.raises(OptionError, match="would say of the input"):
        translate_file(folder, tmp_path / "scan.nii", tmp_path / "scan.nii.gz")
    assert [path.name for path in tmp_path.glob("scan*")] == ["scan.nii"]
