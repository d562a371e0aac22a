"""Finding scans: three layouts, and one clear line where they are not followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from syndiff.errors import DataError, OptionError, UserError
from syndiff.preparation.discover import find_scans, overlooked
from syndiff.preparation.split import assign, parse_split


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


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


def test_two_files_for_one_place_are_both_named(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/ses-a/anat/sub-1_ses-a_T1w.nii.gz")
    touch(tmp_path, "sub-1/ses-b/anat/sub-1_ses-b_T1w.nii.gz")
    with pytest.raises(DataError, match=r"ses-a_T1w\.nii\.gz and .*ses-b_T1w\.nii\.gz") as caught:
        found(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_pair_of_header_and_image_is_one_scan(tmp_path: Path) -> None:
    touch(tmp_path, "p/T1.hdr", "p/T1.img")
    assert found(tmp_path) == {"p": {"T1": "p/T1.hdr"}}


def test_nothing_found_says_what_was_there_and_what_is_looked_for(tmp_path: Path) -> None:
    touch(tmp_path, "scans.zip", "a/b/c.nii.gz")
    with pytest.raises(DataError, match=r"a/, scans\.zip.*expected sub-X/anat") as caught:
        found(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no folder"):
        find_scans(tmp_path / "nowhere", ("T1",))


def test_subject_folders_without_a_scan_are_noticed(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "sub-2/notes.txt")
    assert overlooked(tmp_path, find_scans(tmp_path, ("T1",))) == ["sub-2"]


def test_parse_split() -> None:
    assert parse_split("train=8, val=2,test=2") == {"train": 8, "val": 2, "test": 2}
    assert parse_split("train=3") == {"train": 3, "val": 0, "test": 0}
    for wrong in ("", "train", "train=x", "train=-1", "dev=2", "train=1,train=2"):
        with pytest.raises(OptionError, match="train=8,val=2,test=2"):
            parse_split(wrong)


def cohort(**of: str) -> dict[str, dict[str, Path]]:
    return {s: {m: Path(s) / m for m in names.split()} for s, names in of.items()}


def test_split_takes_names_in_order() -> None:
    people = cohort(c="A B", a="A B", d="A B", b="A", e="A B")
    splits = assign(people, ("A", "B"), {"train": 2, "val": 1, "test": 1}, None)
    assert splits == {"a": "train", "b": "train", "c": "val", "d": "test"}


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"train": 3, "val": 1, "test": 1}, r"4 subjects found; expected 5 \(3 train"),
        ({"train": 1, "val": 1, "test": 0}, "b of the val split has no B"),
        ({"train": 0, "val": 0, "test": 1}, "without training"),
        ({"train": 1, "dev": 1}, "split"),
        (None, "no split"),
    ],
)
def test_impossible_splits(counts, message) -> None:
    people = cohort(a="A B", b="A", c="A B", d="A B")
    with pytest.raises(UserError, match=message):
        assign(people, ("A", "B"), counts, None)


def test_every_modality_needs_a_training_subject() -> None:
    with pytest.raises(DataError, match="no training subject has a B"):
        assign(cohort(a="A", b="A B"), ("A", "B"), {"train": 1, "val": 1}, None)


@pytest.mark.parametrize("separator", ["\t", ",", "; "])
def test_split_file(tmp_path: Path, separator: str) -> None:
    people = cohort(a="A B", b="A B", c="A B", d="A")
    file = tmp_path / "split.tsv"
    rows = [("subject", "split"), ("c", "train"), ("a", "test"), ("d", "train")]
    file.write_text("\n".join(separator.join(row) for row in rows) + "\n")
    splits = assign(people, ("A", "B"), None, file)
    assert splits == {"a": "test", "c": "train", "d": "train"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\ttrain\nzz\ttest\n", "zz, of which no scan"),
        ("a\ttrain\nb\tholdout\n", "line 2"),
        ("a\ttrain\na\ttest\n", "line 2"),
        ("a\n", "line 1"),
    ],
)
def test_wrong_split_files(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "split.tsv"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        assign(cohort(a="A", b="A"), ("A",), None, file)
    with pytest.raises(DataError, match="cannot be read"):
        assign(cohort(a="A"), ("A",), None, tmp_path / "missing.tsv")
