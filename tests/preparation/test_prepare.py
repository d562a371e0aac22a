"""Preparation from end to end, on small volumes made here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from syndiff.errors import DataError, OptionError, UserError, VolumeError
from syndiff.io.formats import read
from syndiff.io.volume import Volume
from syndiff.preparation import recipe
from syndiff.preparation.decisions import choose_spacing, place
from syndiff.preparation.intensity import foreground_mask
from syndiff.preparation.judgement import tell_profiles
from syndiff.preparation.manifest import Manifest, read_manifest
from syndiff.preparation.recipe import prepare
from syndiff.preparation.registration import align
from syndiff.preparation.resampling import median_move_mm, resample
from syndiff.preparation.slices import area_profile, choose_slices
from syndiff.reporting import Remembering
from tests.helpers.small_heads import image, save

SPLIT = {"train": 2, "val": 1, "test": 1}


def scan_path(raw: Path, subject: int, modality: str) -> Path:
    suffix = modality if modality == "CT" else f"{modality}w"
    return raw / f"sub-{subject}" / "anat" / f"sub-{subject}_{suffix}.nii.gz"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five subjects, T1 and T2; sub-2 (training) has no T2."""
    folder = tmp_path_factory.mktemp("raw")
    for subject in range(1, 6):
        for modality in ("T1", "T2"):
            if (subject, modality) != (2, "T2"):
                save(image(modality, subject), scan_path(folder, subject, modality))
    return folder


def run(raw: Path, out: Path, **options) -> Manifest:
    options = {"modalities": ("T1", "T2"), "split": SPLIT, "size": 32} | options
    return prepare(raw, out, **options)


@pytest.fixture(scope="module")
def prepared(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return run(raw, tmp_path_factory.mktemp("prepared") / "data")


def stamps(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in sorted(folder.rglob("*")) if p.is_file()}


def test_what_comes_out(prepared: Manifest) -> None:
    assert prepared.modalities == ("T1", "T2")
    assert prepared.size == (32, 32)
    assert [s.subject for s in prepared.scans("train", "T1")] == ["sub-1", "sub-2"]
    assert [s.subject for s in prepared.scans("train", "T2")] == ["sub-1"]
    assert prepared.subjects("val") == ["sub-3"]
    assert prepared.paired_subjects("test", "T1", "T2") == ["sub-4"]
    assert prepared.paired_subjects("train", "T2", "T1") == ["sub-1"]
    assert prepared.content["unused_subjects"] == ["sub-5"]
    for split in SPLIT:
        for modality in prepared.modalities:
            for scan in prepared.scans(split, modality):
                slices = scan.load()
                assert slices.shape == (scan.count, 32, 32)
                assert slices.dtype == np.float32
                assert slices.min() >= 0
                assert slices.max() <= 1
                assert scan.slices_path.is_absolute()
                assert len(scan.tissue_quantiles) == 5
                assert scan.tissue_quantiles == sorted(scan.tissue_quantiles)
    assert not (prepared.folder / ".work").exists()


def test_pairs_share_slices_and_grid(prepared: Manifest) -> None:
    for split in ("train", "val", "test"):
        for subject in prepared.paired_subjects(split, "T1", "T2"):
            a, b = (
                next(s for s in prepared.scans(split, m) if s.subject == subject)
                for m in ("T1", "T2")
            )
            assert a.slice_indices == b.slice_indices
            assert a.grid == b.grid
            bright = [np.asarray(s.load()) > 0.1 for s in (a, b)]
            overlap = (bright[0] & bright[1]).sum() / (bright[0] | bright[1]).sum()
            assert overlap > 0.95


def test_the_manifest_inverts_what_was_done(prepared: Manifest, raw: Path) -> None:
    scan = prepared.scans("test", "T2")[0]
    scale = prepared.scale("T2")
    back = scan.grid.inverse(np.asarray(scan.load())) * scale.scale * scan.foreground_mean
    volume = read(raw / scan.record["file"])
    original = volume.array.transpose(2, 1, 0)[list(scan.slice_indices)]
    inside = foreground_mask(volume.array).transpose(2, 1, 0)[list(scan.slice_indices)]
    clipped = np.minimum(original, scale.scale * scan.foreground_mean)
    difference = np.abs(back - clipped)[inside]
    assert np.median(difference) < (0.05 if not scan.grid.resamples else 0.1) * original.max()


def test_the_manifest_is_plain_json_without_the_raw_folder(prepared: Manifest, raw: Path) -> None:
    text = (prepared.folder / "manifest.json").read_text()
    content = json.loads(text)
    assert str(raw) not in text
    for entry in content["scans"]:
        for key in ("file", "registration", "native_affine", "grid", "slice_indices", "reference"):
            assert key in entry
    assert set(content["intensity"]) == {"T1", "T2"}


def test_the_scale_comes_from_training_subjects_alone(
    raw: Path, prepared: Manifest, tmp_path: Path
) -> None:
    other = tmp_path / "raw"
    shutil.copytree(raw, other)
    bright = image("T1", 4)
    save(bright.like(bright.array * 50), scan_path(other, 4, "T1"))
    assert run(other, tmp_path / "out").intensity == prepared.intensity


def test_an_interrupted_run_goes_on(
    raw: Path, prepared: Manifest, tmp_path: Path, monkeypatch
) -> None:
    out = tmp_path / "out"

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(recipe, "choose_scales", stop)
        with pytest.raises(KeyboardInterrupt):
            run(raw, out)
    assert not (out / "manifest.json").exists()
    before = stamps(out / ".work")

    written = []
    whole = recipe._write_scan
    with monkeypatch.context() as patch:

        def some(job, entry, scale):
            if len(written) == 3:
                raise KeyboardInterrupt
            written.append(entry["slices"])
            whole(job, entry, scale)

        patch.setattr(recipe, "_write_scan", some)
        with pytest.raises(KeyboardInterrupt):
            run(raw, out)
    caches = {k: v for k, v in stamps(out / ".work").items() if k in before and "options" not in k}
    assert caches.items() <= before.items()  # nothing was read again
    slices = stamps(out / "slices")
    assert len(slices) == 3
    manifest = run(raw, out)
    assert slices.items() <= stamps(out / "slices").items()  # nothing was written again
    assert manifest.content["scans"] == prepared.content["scans"]
    for split in SPLIT:
        for a, b in zip(manifest.scans(split, "T1"), prepared.scans(split, "T1"), strict=True):
            np.testing.assert_array_equal(a.load(), b.load())


def test_a_second_run_does_nothing(raw: Path, tmp_path: Path) -> None:
    manifest = run(raw, tmp_path / "out")
    before = stamps(tmp_path / "out")
    again = run(raw, tmp_path / "out")
    assert stamps(tmp_path / "out") == before
    assert again.content == manifest.content


def test_only_damaged_slices_are_made_again(raw: Path, tmp_path: Path) -> None:
    manifest = run(raw, tmp_path / "out")
    path = manifest.scans("val", "T2")[0].slices_path
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    before = stamps(tmp_path / "out" / "slices")
    run(raw, tmp_path / "out")
    assert path.read_bytes() == good
    after = stamps(tmp_path / "out" / "slices")
    assert {k for k in after if after[k] != before[k]} == {str(path)}


def test_other_options_are_refused(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(raw, out)
    before = stamps(out)
    for options in (
        {"size": 40},
        {"intensity": "paper"},
        {"split": {"train": 2, "val": 1, "test": 2}},
    ):
        with pytest.raises(OptionError, match="was prepared with") as caught:
            run(raw, out, **options)
        assert "\n" not in str(caught.value)
    assert stamps(out) == before


def test_a_changed_scan_is_refused_in_a_finished_folder(raw: Path, tmp_path: Path) -> None:
    other = tmp_path / "raw"
    shutil.copytree(raw, other)
    run(other, tmp_path / "out")
    save(image("T1", 99), scan_path(other, 1, "T1"))
    with pytest.raises(OptionError, match=r"sub-1_T1w\.nii\.gz has changed"):
        run(other, tmp_path / "out")


def test_a_folder_with_other_files_is_left_alone(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(OptionError, match="holds other files"):
        run(raw, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_bad_scan_is_named_and_the_rest_is_kept_for_the_next_run(
    raw: Path, tmp_path: Path
) -> None:
    other, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(raw, other)
    bad = scan_path(other, 4, "T2")
    good = bad.read_bytes()
    bad.write_bytes(good[:500])
    with pytest.raises(VolumeError, match=r"sub-4_T2w\.nii\.gz") as caught:
        run(other, out)
    assert "\n" not in str(caught.value)
    assert not (out / "manifest.json").exists()
    assert not (out / "slices").exists()
    with pytest.raises(DataError, match="no manifest"):
        read_manifest(out)
    bad.write_bytes(good)
    assert run(other, out).paired_subjects("test", "T1", "T2") == ["sub-4"]


def test_wrong_options_are_refused_before_anything_is_read(raw: Path, tmp_path: Path) -> None:
    for options in (
        {"size": 4},
        {"spacing_mm": 0.0},
        {"intensity": "none"},
        {"max_slices": 0},
        {"modalities": ()},
        {"modalities": ("T1", "a/b")},
    ):
        with pytest.raises(UserError):
            run(raw, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_ct_is_windowed_and_other_units_are_refused(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for subject in range(1, 4):
        for modality in ("T1", "CT"):
            save(image(modality, subject), scan_path(raw, subject, modality))
    options = {"modalities": ("T1", "CT"), "split": {"train": 1, "val": 1, "test": 1}}
    manifest = run(raw, tmp_path / "out", **options)
    scale = manifest.scale("CT")
    hounsfield = scale.restore(np.asarray(manifest.scans("test", "CT")[0].load()))
    assert scale.unit == "HU"
    assert np.percentile(hounsfield, 80) == pytest.approx(45, abs=25)
    ct = image("CT", 3)
    save(ct.like(ct.array + 1024), scan_path(raw, 3, "CT"))
    with pytest.raises(VolumeError, match=r"sub-3_CT\.nii\.gz: CT values from .*Hounsfield"):
        run(raw, tmp_path / "other", **options)


def test_max_slices_are_the_uppermost_ones(raw: Path, prepared: Manifest, tmp_path: Path) -> None:
    few = run(raw, tmp_path / "out", max_slices=5)
    everything = prepared.scans("test", "T1")[0].slice_indices
    chosen = few.scans("test", "T1")[0].slice_indices
    assert chosen == everything[-5:]


def test_slices_hold_tissue_that_all_scans_have_seen() -> None:
    mask = np.zeros((10, 10, 8), bool)
    mask[2:8, 2:8, 1:7] = True
    mask[4, 4, 0] = True  # 1 of 36 voxels: less than a tenth
    assert choose_slices(mask, [], None).tolist() == [1, 2, 3, 4, 5, 6]
    seen = np.ones_like(mask)
    seen[:, :, 5:] = False
    assert choose_slices(mask, [seen], None).tolist() == [1, 2, 3, 4]


def test_a_border_that_is_cut_costs_no_training_slice() -> None:
    mask = np.zeros((10, 10, 8), bool)
    mask[1:9, 1:9] = True
    narrow = np.ones_like(mask)
    narrow[:3] = False  # a quarter of the head is out of view
    assert len(choose_slices(mask, [narrow], None, evaluated=True)) == 0
    assert len(choose_slices(mask, [narrow], None, evaluated=False)) == 8


def test_the_uppermost_slices_do_not_depend_on_the_neck() -> None:
    head = np.zeros((20, 20, 30), bool)
    head[4:16, 4:16, 12:28] = True
    neck = head.copy()
    neck[7:13, 7:13, :12] = True
    for count in (5, 12):
        chosen = choose_slices(neck, [], count)
        assert chosen.tolist() == choose_slices(head, [], count).tolist()
        assert chosen[-1] == 27


def test_modalities_that_show_different_anatomy_are_named() -> None:
    def record(profile: list[float]) -> dict:
        return {"area_profile_mm2": profile}

    def told(t1: list[float], t2: list[float]) -> list[str]:
        heard = Remembering()
        people = {str(i): {"T1": record(t1), "T2": record(t2)} for i in range(3)}
        tell_profiles(people, heard)
        return heard.warnings

    head = [2000.0, 8000, 15000, 18000, 18000, 16000, 14000]
    assert told(head, [1.05 * area for area in head]) == []
    (deeper,) = told(head, [*head, 9000, 9000, 9000, 9000])
    assert "T1 reach 70 mm" in deeper
    assert "T2 110 mm" in deeper
    (smaller,) = told(head, [0.5 * area for area in head])
    assert "differ in their areas" in smaller


def test_a_profile_is_measured_from_the_top_down() -> None:
    mask = np.zeros((10, 10, 12), bool)
    for z in range(10):
        mask[: 10 - z, 0, z] = True  # one row of 10, 9, … 1 voxels
    volume = Volume(mask.astype(np.float32), np.diag([2.0, 2, 5, 1]))
    assert area_profile(mask, volume, np.arange(10)) == [4, 12, 20, 28, 36]  # every 10 mm


def test_a_ct_window_by_name(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for subject in (1, 2):
        for modality in ("T1", "CT"):
            save(image(modality, subject), scan_path(raw, subject, modality))
    options = {"modalities": ("T1", "CT"), "split": {"train": 1, "test": 1}, "register": False}
    soft = run(raw, tmp_path / "soft", ct_window="soft", **options)
    assert soft.scale("CT").window == (-160.0, 240.0)
    paper = run(raw, tmp_path / "paper", ct_window="paper", **options)
    scale, scan = paper.scale("CT"), paper.scans("train", "CT")[0]
    assert (scale.rule, scale.unit) == ("paper", "HU")
    assert np.asarray(scan.load()).max() == pytest.approx(1.0, abs=0.02)
    for wrong in ({"ct_window": "wide"}, {"units": "Cormack"}):
        with pytest.raises(OptionError):
            run(raw, tmp_path / "wrong", **options, **wrong)


def record(extent: int, spacing: float, first: int = 20, shape: int = 200) -> dict:
    box = [[first, first + extent - 1]] * 2
    return {
        "native_shape": [shape, shape, 30],
        "spacing_yx_mm": [spacing, spacing],
        "box_yx": box,
        "reference": "T1",
    }


def test_automatic_spacing() -> None:
    def spacing(size: int, *records: dict) -> float:
        people = {str(i): {"T1": r} for i, r in enumerate(records)}
        return choose_spacing(people, (size, size))

    assert spacing(256, record(200, 0.9)) == 0.9  # all alike and fitting: not interpolated
    assert spacing(256, record(256, 0.9)) == 0.9  # without a margin, but fitting
    assert spacing(64, record(100, 2.0)) == pytest.approx(200 / 62, abs=0.01)  # coarser
    assert spacing(256, record(100, 1.0), record(100, 0.7)) == 0.7  # never finer than the finest
    assert spacing(256, record(250, 1.0), record(100, 0.7)) == pytest.approx(250 / 248, abs=0.01)


@pytest.mark.parametrize("first", [0, 40, 120])
@pytest.mark.parametrize("spacing_mm", [1.0, 1.7])
def test_an_off_centre_head_is_moved_not_cut(first: int, spacing_mm: float) -> None:
    scan = record(80, 1.0, first)
    grid = place(scan, scan["box_yx"], (84, 84), spacing_mm, "sub-1")
    for axis, (low, high) in enumerate(scan["box_yx"]):
        assert grid.training_index(axis, low - 0.5) >= -0.5 - 1e-6
        assert grid.training_index(axis, high + 0.5) <= 83.5 + 1e-6
    centred = place(record(80, 1.0, 60), [[60, 139]] * 2, (84, 84), spacing_mm, "sub-1")
    assert centred.shift == (0, 0)


def test_a_given_spacing_that_cuts_a_head_is_refused(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"head of sub-1 .* measures .* `spacing_mm` of auto"):
        run(raw, tmp_path / "out", spacing_mm=1.0)


def planted() -> np.ndarray:
    """A small rotation, stretch and shift in world mm."""
    angle = np.deg2rad(4.0)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[0, 0] *= 1.02
    matrix[:3, 3] = (5.0, -4.0, 3.0)
    return matrix


def test_registration_recovers_a_planted_map() -> None:
    reference = image("T1", 1)
    mask = foreground_mask(reference.array)
    grid = np.diag([-2.5, 2.5, 4.0, 1.0])
    grid[:3, 3] = (60, -68, -42)
    # A point p of the reference lies at planted⁻¹(p) in the moving scan.
    moving = image("T2", 2, (48, 54, 22), grid, planted())
    truth = np.linalg.inv(planted())
    result = align(reference, mask, moving, 0.0, search=True)
    assert result.method == "affine"
    assert median_move_mm(truth, reference, mask) > 5
    error = median_move_mm(planted() @ result.matrix, reference, mask)
    assert error < 1.0  # a third of a voxel
    expected = image("T2", 2)
    inside = ndimage.binary_erosion(mask, iterations=3)
    best = resample(moving, reference, truth)  # what interpolation leaves, at the true map
    found, possible = (
        np.corrcoef(array[inside], expected.array[inside])[0, 1]
        for array in (result.volume.array, best)
    )
    assert found > possible - 0.03
    again = align(reference, mask, moving, 0.0, search=True)
    np.testing.assert_array_equal(again.matrix, result.matrix)


def test_scans_that_match_already_are_not_interpolated() -> None:
    reference, moving = image("T1", 1), image("T2", 2)
    result = align(reference, foreground_mask(reference.array), moving, 0.0, search=True)
    assert result.method == "same grid"
    np.testing.assert_array_equal(result.volume.array, moving.array)


def test_without_registration_the_headers_are_believed() -> None:
    reference = image("T1", 1)
    moving = image(
        "T2",
        1,
        (40, 44, 26),
        np.diag([3.0, 3.0, 3.0, 1.0]) - np.outer([60, 66, 38, 0], [0, 0, 0, 1]),
    )
    result = align(reference, foreground_mask(reference.array), moving, 0.0, search=False)
    assert result.method == "header"
    expected = image("T2", 1)
    inside = ndimage.binary_erosion(foreground_mask(reference.array), iterations=3)
    difference = np.abs(result.volume.array - expected.array)[inside & result.covered]
    assert np.median(difference) < 5


def test_unregistered_training_scans_keep_their_own_grids(raw: Path, tmp_path: Path) -> None:
    manifest = run(raw, tmp_path / "out", register_training=False)
    assert manifest.paired_subjects("train", "T1", "T2") == []
    assert manifest.paired_subjects("val", "T1", "T2") == ["sub-3"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": "x"}', '{"format": "syndiff-manifest"}']
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match="manifest"):
        read_manifest(tmp_path)


@pytest.mark.real_data
def test_native_scans_are_registered_better_than_by_their_headers(test_data: Path) -> None:
    """T2 onto T1 of sub-03, whose headers are 5.6 mm off, against the data set's own affines."""
    import SimpleITK as sitk  # noqa: N813

    from syndiff.preparation.mutual_information import _matrix

    folder = test_data / "brain_native" / "sub-03"
    to = {
        m: _matrix(sitk.ReadTransform(str(folder / f"{m}_to_FLAIR_itk.txt")))
        for m in ("T1w", "T2w")
    }
    truth = to["T2w"] @ np.linalg.inv(to["T1w"])  # T1 world → T2 world
    reference, moving = read(folder / "T1w.nii.gz"), read(folder / "T2w.nii.gz")
    mask = foreground_mask(reference.array)
    result = align(reference, mask, moving, 0.0, search=True)
    assert median_move_mm(np.linalg.inv(truth), reference, mask) > 5
    assert median_move_mm(np.linalg.inv(truth) @ result.matrix, reference, mask) < 1.0
