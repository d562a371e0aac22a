"""Scores of image files from any software: matching, grids, units, masks, and what is written."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from syndiff.errors import DataError, GeometryError, OptionError, UserError
from syndiff.evaluation.commissioning import commissioning_page
from syndiff.evaluation.files import check_files, match, score

SHAPE = (20, 24, 10)


def body() -> np.ndarray:
    x, y, z = np.mgrid[-1:1:20j, -1:1:24j, -1:1:10j]
    return x**2 + y**2 + 0.3 * z**2 < 0.6


def ct(seed: int = 0) -> np.ndarray:
    """Air around a body (x, y, z) of soft tissue with bone, in HU."""
    rng = np.random.default_rng(seed)
    image = np.where(body(), 40.0 + 10 * rng.standard_normal(SHAPE), -1000.0)
    image[8:11, 10:14, 2:8] = 700
    return image.astype(np.float32)


def write(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, np.diag([2.0, 2, 3, 1]) if affine is None else affine)
    image.set_qform(image.affine, 1)
    nib.save(image, path)
    return path


def test_ct_is_scored_in_hu_inside_the_mask_that_is_given(tmp_path):
    real = write(tmp_path / "real.nii.gz", ct())
    made = write(tmp_path / "made.nii.gz", ct() + np.where(body(), 30, 500).astype(np.float32))
    mask = write(tmp_path / "mask.nii.gz", body().astype(np.uint8))
    for profile in ("subject", "synthrad2023"):
        found = score(made, real, mask=mask, profile=profile).results
        (subject,) = found["scores"]["subjects"].values()
        assert found["unit"] == "HU"
        assert subject["mae_hu"] == pytest.approx(30, rel=1e-4)
        assert subject["psnr_db"] == pytest.approx(20 * np.log10(4024 / 30), abs=1e-3)
        assert subject["me_hu_soft"] == pytest.approx(30, rel=1e-4)
        assert subject["dice_bone"] == 1
        assert found["profile"]["name"] == profile
        assert found["mask"] == "given"
        json.dumps(found, allow_nan=False)


def test_another_range_is_another_psnr(tmp_path):
    real = write(tmp_path / "real.nii.gz", ct())
    made = write(tmp_path / "made.nii.gz", ct() + 30)
    mask = write(tmp_path / "mask.nii.gz", body().astype(np.uint8))
    for profile in ("subject", "synthrad2025"):
        found = score(made, real, mask=mask, profile=profile, value_range=(-1024, 3071)).results
        assert found["scores"]["person_means"]["psnr_db"] == pytest.approx(
            20 * np.log10(4095 / 30), abs=1e-3
        )
        assert found["range"]["window"] == [-1024, 3071]


def test_mr_has_no_unit_unless_its_range_is_given(tmp_path):
    rng = np.random.default_rng(0)
    image = np.where(body(), rng.uniform(300, 900, SHAPE), 5).astype(np.float32)
    real, made = write(tmp_path / "r.nii.gz", image), write(tmp_path / "m.nii.gz", 2 * image)
    relative = score(made, real).results
    assert relative["unit"] == "a.u."
    assert relative["scores"]["person_means"]["psnr_db"] > 90
    absolute = score(made, real, value_range=(0, 1000)).results
    assert absolute["scores"]["person_means"]["psnr_db"] < 12
    assert "0 becomes 0 and 1000 1" in absolute["range"]["words"]


def test_the_orientation_of_a_file_does_not_matter_and_its_grid_does(tmp_path):
    real = write(tmp_path / "real.nii.gz", ct())
    flipped = np.diag([-2.0, 2, 3, 1])
    flipped[0, 3] = 2.0 * (SHAPE[0] - 1)
    turned = write(tmp_path / "turned.nii.gz", ct()[::-1], flipped)
    assert score(turned, real).results["scores"]["person_means"]["mae_hu"] < 1e-3
    moved = np.diag([2.0, 2, 3, 1])
    moved[2, 3] = 3
    with pytest.raises(GeometryError, match="different grids"):
        score(write(tmp_path / "moved.nii.gz", ct(), moved), real)


@pytest.mark.parametrize(
    ("made", "real", "subjects"),
    [
        ("{}.nii.gz", "{}.nii.gz", ["1", "2"]),
        ("sub-{}_rec-x_CT.nii.gz", "sub-{0}/anat/sub-{0}_CT.nii.gz", ["sub-1", "sub-2"]),
        ("{}/sct.nii.gz", "{}/ct.nii.gz", ["1", "2"]),
    ],
)
def test_folders_are_matched_by_name_by_bids_or_by_folder(tmp_path, made, real, subjects):
    for n in "12":
        for side, name in (("made", made), ("real", real)):
            path = tmp_path / side / name.format(n)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    found = match(tmp_path / "made", tmp_path / "real")
    assert [files.subject for files in found] == subjects
    assert all(files.synthetic.is_file() and files.acquired.is_file() for files in found)


def test_what_cannot_be_matched_is_named(tmp_path):
    for name in ("made/a.nii.gz", "made/b.nii.gz", "real/a.nii.gz", "other/z.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="no acquired image for b"):
        match(tmp_path / "made", tmp_path / "real")
    with pytest.raises(DataError, match=r"no file of .* has the name"):
        match(tmp_path / "made", tmp_path / "other")
    with pytest.raises(OptionError, match="two files or two folders"):
        match(tmp_path / "made", tmp_path / "real" / "a.nii.gz")
    with pytest.raises(DataError, match="no file or folder"):
        match(tmp_path / "none", tmp_path / "real")


def test_folders_have_means_over_slices_subjects_and_cohort(tmp_path):
    for n, error in (("sub-1", 10), ("sub-2", 30)):
        write(tmp_path / "real" / f"{n}.nii.gz", ct())
        write(tmp_path / "made" / f"{n}.nii.gz", ct() + error)
        write(tmp_path / "mask" / f"{n}.nii.gz", body().astype(np.uint8))
    scored = score(tmp_path / "made", tmp_path / "real", mask=tmp_path / "mask")
    scores = scored.results["scores"]
    assert [s["mae_hu"] for s in scores["subjects"].values()] == pytest.approx([10, 30], rel=1e-3)
    assert scores["person_means"]["mae_hu"] == pytest.approx(20, rel=1e-3)
    assert scores["slice_means"]["mae_hu"] == pytest.approx(20, rel=1e-3)
    assert scores["person_means"]["people"] == 2
    page = commissioning_page(scored)
    assert "20.0 ± 14.1 HU" in page
    assert "30.0 HU (sub-2)" in page
    assert page.count("<img") == 3 * 3
    assert "http" not in page.replace("http-equiv", "")


def test_mr_has_no_commissioning_report_and_no_challenge_of_ct(tmp_path):
    image = np.where(body(), 500, 1).astype(np.float32)
    image[8:11] *= 1.5
    path = write(tmp_path / "m.nii.gz", image)
    with pytest.raises(OptionError, match="not in HU"):
        commissioning_page(score(path, path))
    with pytest.raises(OptionError, match="a CT in HU"):
        score(path, path, profile="synthrad2023")


def test_a_mean_normalised_ct_is_warned_of(tmp_path):
    real = write(tmp_path / "real.nii.gz", ct())
    found = score(real, real, profile="paper").results
    assert "hides a wrong level of HU" in found["warnings"][0]


def test_foreign_files_are_not_replaced(tmp_path):
    (tmp_path / "mine.json").write_text('{"kind": "score"}')
    (tmp_path / "theirs.json").write_text('{"a": 1}')
    check_files([tmp_path / "mine.json", tmp_path / "new.html"], False)
    with pytest.raises(UserError, match="would be replaced"):
        check_files([tmp_path / "theirs.json"], False)
