"""Finding scans: three layouts, and one clear line where they are not followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from syndiff.errors import DataError
from syndiff.preparation.discover import by_subject, find_cohort, find_scans, overlooked
from tests.helpers.scan_folders import touch


def found(root: Path, *modalities: str) -> dict[str, dict[str, str]]:
    scans = find_scans(root, modalities or ("T1", "T2"))
    return {s: {m: p.as_posix() for m, p in of.items()} for s, of in scans.items()}


@pytest.mark.parametrize(
    "name",
    [
        "{s}/anat/{s}_{m}w.nii.gz",
        "{s}/anat/{s}_run-1_{m}w.nii",
        "{s}/ses-1/anat/{s}_ses-1_{m}w.nii.gz",
        "{s}/{m}.nii.gz",
        "{s}/{m}w.mgz",
        "{s}/{s}_{m}.nii.gz",
        "group/{s}/{m}.NII.GZ",
        "{m}/{s}.nii.gz",
        "{m}/{s}_{m}.nii.gz",
        "IXI-{m}/{s}-{m}.nii.gz",
    ],
)
def test_layouts(tmp_path: Path, name: str) -> None:
    subjects = ("sub-01", "sub-02")
    names = {s: {m: name.format(s=s, m=m) for m in ("T1", "T2")} for s in subjects}
    touch(tmp_path, *(n for of in names.values() for n in of.values()))
    assert found(tmp_path) == names


def test_names_as_in_ixi(tmp_path: Path) -> None:
    touch(tmp_path, "IXI-T1/IXI002-Guys-0828-T1.nii.gz", "IXI-T2/IXI002-Guys-0828-T2.nii.gz")
    assert set(found(tmp_path)) == {"IXI002-Guys-0828"}


def test_upper_and_lower_case(tmp_path: Path) -> None:
    touch(tmp_path, "p1/t1.nii.gz", "p1/Flair.nii")
    assert found(tmp_path, "T1", "FLAIR") == {
        "p1": {"T1": "p1/t1.nii.gz", "FLAIR": "p1/Flair.nii"}
    }


def test_derivatives_hidden_and_other_files_are_passed_over(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "sub-1/anat/sub-1_T1w.nii.gz",
        "derivatives/labels/sub-1/anat/sub-1_T1w.nii.gz",
        "sub-1/anat/._sub-1_T1w.nii.gz",
        ".cache/sub-1/anat/sub-1_T1w.nii.gz",
        "sub-1/anat/sub-1_T1w.json",
        "sub-1/anat/sub-1_dseg.nii.gz",
    )
    assert found(tmp_path) == {"sub-1": {"T1": "sub-1/anat/sub-1_T1w.nii.gz"}}


def test_a_pair_of_header_and_image_is_one_scan(tmp_path: Path) -> None:
    touch(tmp_path, "p/T1.hdr", "p/T1.img", "q/T1.HDR", "q/T1.IMG")
    assert found(tmp_path) == {"p": {"T1": "p/T1.hdr"}, "q": {"T1": "q/T1.HDR"}}


def test_nothing_found_says_what_was_there_and_what_is_looked_for(tmp_path: Path) -> None:
    touch(tmp_path, "scans.zip", "a/b/c.nii.gz")
    with pytest.raises(DataError, match=r"a/, scans\.zip.*expected sub-X/anat") as caught:
        found(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no folder"):
        find_scans(tmp_path / "nowhere", ("T1",))


def test_subject_folders_without_a_scan_are_noticed(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "sub-2/notes.txt")
    assert overlooked(tmp_path, find_cohort(tmp_path, ("T1",))) == ["sub-2"]


def test_a_person_and_a_visit_never_share_a_name() -> None:
    held = {"A": {"1": {"T1": Path("a")}, "2": {"T1": Path("c")}}, "A_1": {"": {"T1": Path("b")}}}
    with pytest.raises(DataError, match="A_1 would mean visit 1 of A and A_1"):
        by_subject(held, ("T1",))
