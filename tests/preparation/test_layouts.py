"""Whose a file is, of which visit and modality, in the layouts of public data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from syndiff.errors import DataError
from syndiff.preparation.discover import Choice, Cohort, find_cohort
from syndiff.preparation.selection import scans_of
from tests.helpers.scan_folders import touch

LAYOUTS: dict[str, tuple[list[str], dict[str, tuple[str, str, str]]]] = {
    # files of T1, T2 → subject: (person, visit, modalities found)
    "BIDS with sessions": (
        ["sub-1/ses-a/anat/sub-1_ses-a_T1w.nii", "sub-1/ses-b/anat/sub-1_ses-b_T2w.nii"],
        {"sub-1_ses-a": ("sub-1", "ses-a", "T1"), "sub-1_ses-b": ("sub-1", "ses-b", "T2")},
    ),
    "a folder for each scan": (
        ["sub01/T1/T1.nii", "sub01/T2/T2.nii", "sub02/T1/T1.nii"],
        {"sub01": ("sub01", "", "T1 T2"), "sub02": ("sub02", "", "T1")},
    ),
    "dates": (
        ["P001/2019-01-02/T1.nii", "P001/2019-02-02/T1.nii", "P002/2019-01-02/T2.nii"],
        {
            "P001_2019-01-02": ("P001", "2019-01-02", "T1"),
            "P001_2019-02-02": ("P001", "2019-02-02", "T1"),
            "P002": ("P002", "2019-01-02", "T2"),
        },
    ),
    "two sites with equal numbers": (
        ["siteA/001/T1.nii", "siteA/001/T2.nii", "siteB/001/T1.nii", "siteB/001/T2.nii"],
        {
            "siteA_001": ("siteA_001", "", "T1 T2"),
            "siteB_001": ("siteB_001", "", "T1 T2"),
        },
    ),
    "LUMIERE": (
        [
            "Patient-001/week-000-1/T1.nii",
            "Patient-001/week-000-2/T1.nii",
            "Patient-002/week-000/CT1.nii",
            "Patient-002/week-000/T2.nii",
        ],
        {
            "Patient-001_week-000-1": ("Patient-001", "week-000-1", "T1"),
            "Patient-001_week-000-2": ("Patient-001", "week-000-2", "T1"),
            "Patient-002": ("Patient-002", "week-000", "T2"),
        },
    ),
    "HCP": (
        [
            "100307/unprocessed/3T/T1w_MPR1/100307_3T_T1w_MPR1.nii.gz",
            "100307/unprocessed/3T/T2w_SPC1/100307_3T_T2w_SPC1.nii.gz",
            "100408/T1w/T1w_acpc_dc_restore.nii.gz",
            "100408/T1w/T2w_acpc_dc_restore.nii.gz",
            "100408/T1w/T1w_acpc_dc_restore_brain.nii.gz",
        ],
        {"100307": ("100307", "", "T1 T2"), "100408": ("100408", "", "T1 T2")},
    ),
    "IXI": (
        [
            "IXI-T1/IXI002-Guys-0828-T1.nii.gz",
            "IXI-T2/IXI002-Guys-0828-T2.nii.gz",
            "IXI-T1/IXI012-HH-1211-T1.nii.gz",
        ],
        {
            "IXI002-Guys-0828": ("IXI002-Guys-0828", "", "T1 T2"),
            "IXI012-HH-1211": ("IXI012-HH-1211", "", "T1"),
        },
    ),
    "BraTS since 2023": (
        [
            "BraTS-GLI-00017-000/BraTS-GLI-00017-000-t1n.nii.gz",
            "BraTS-GLI-00017-000/BraTS-GLI-00017-000-t2f.nii.gz",
            "BraTS-GLI-00017-001/BraTS-GLI-00017-001-t2w.nii.gz",
            "BraTS-GLI-00017-001/BraTS-GLI-00017-001-seg.nii.gz",
        ],
        {
            "BraTS-GLI-00017_000": ("BraTS-GLI-00017", "000", "T1"),
            "BraTS-GLI-00017_001": ("BraTS-GLI-00017", "001", "T2"),
        },
    ),
    "BraTS 2018": (
        [
            "HGG/Brats18_2013_0_1/Brats18_2013_0_1_t1.nii.gz",
            "LGG/Brats18_TCIA01_131_1/Brats18_TCIA01_131_1_t2.nii.gz",
        ],
        {
            "Brats18_2013_0": ("Brats18_2013_0", "1", "T1"),
            "Brats18_TCIA01_131": ("Brats18_TCIA01_131", "1", "T2"),
        },
    ),
    "BraTS 2020": (
        [
            "BraTS20_Training_001/BraTS20_Training_001_t1.nii.gz",
            "BraTS20_Training_001/BraTS20_Training_001_t1ce.nii.gz",
            "BraTS20_Training_001/BraTS20_Training_001_t2.nii.gz",
        ],
        {"BraTS20_Training_001": ("BraTS20_Training_001", "", "T1 T2")},
    ),
    "flat, with dates": (
        ["P1_2019-01-02_T1.nii", "P1_2020-01-02_T1.nii", "P2_T2.nii"],
        {
            "P1_2019-01-02": ("P1", "2019-01-02", "T1"),
            "P1_2020-01-02": ("P1", "2020-01-02", "T1"),
            "P2": ("P2", "", "T2"),
        },
    ),
    "visits outside": (
        ["baseline/001/T1.nii", "followup/001/T1.nii", "baseline/002/T2.nii"],
        {
            "001_baseline": ("001", "baseline", "T1"),
            "001_followup": ("001", "followup", "T1"),
            "002": ("002", "baseline", "T2"),
        },
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_who_and_when(tmp_path: Path, layout: str) -> None:
    files, expected = LAYOUTS[layout]
    cohort = find_cohort(touch(tmp_path, *files), ("T1", "T2"))
    said = {
        s: (cohort.people[s], cohort.visits[s], " ".join(of)) for s, of in cohort.files.items()
    }
    assert said == expected


def reasons(cohort: Cohort) -> dict[str, str]:
    return {left.path.name.split(".")[0]: left.reason for left in cohort.left_out}


def test_masks_and_label_maps_are_passed_over_and_counted(tmp_path: Path) -> None:
    stems = ("seg", "T1_mask", "T1_dseg", "T1w_label-GM_probseg", "brain_mask", "defacemask")
    touch(tmp_path, "p1/T1.nii", *(f"p1/{stem}.nii" for stem in stems), "labels/p1_T1.nii")
    cohort = find_cohort(tmp_path, ("T1",))
    assert cohort.files == {"p1": {"T1": Path("p1/T1.nii")}}
    assert set(reasons(cohort).values()) == {"masks or label maps"}
    assert len(cohort.left_out) == len(stems) + 1


def test_a_name_that_says_more_than_a_modality_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "p1/T1.nii", "p2/t1_mprage.nii.gz", "p1/FLAIR.nii")
    assert reasons(find_cohort(tmp_path, ("T1",))) == {
        "t1_mprage": "names of no known layout",
        "FLAIR": "other modalities",
    }


def test_one_version_is_taken_by_a_rule_or_by_preference(tmp_path: Path) -> None:
    names = [f"sub-1/anat/sub-1_{v}T1w.nii" for v in ("", "acq-x_", "run-2_", "run-10_")]
    touch(tmp_path, *names)

    def taken(*prefer: str) -> str:
        return find_cohort(tmp_path, ("T1",), Choice(prefer)).files["sub-1"]["T1"].name

    assert taken() == "sub-1_T1w.nii"
    assert taken("acq-x") == "sub-1_acq-x_T1w.nii"
    (tmp_path / names[0]).unlink()
    (tmp_path / names[1]).unlink()
    assert taken() == "sub-1_run-2_T1w.nii"  # by number, not by letter


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["001/0815/T1.nii", "001/0816/T1.nii", "002/0817/T1.nii"], "site with people or"),
        (["siteA/001/T1.nii", "siteB/001/T2.nii"], "are one person"),
        (["sub01/T1/a.nii", "sub01/T1/b.nii"], "which file is the T1 scan of sub01"),
    ],
)
def test_what_cannot_be_told_is_one_line_with_a_way_out(
    tmp_path: Path, files: list[str], words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        find_cohort(touch(tmp_path, *files), ("T1", "T2"))
    assert "\n" not in str(caught.value)
    assert "`table`" in str(caught.value)


def test_equal_names_can_be_different_people(tmp_path: Path) -> None:
    touch(tmp_path, "MR/001.nii", "CT/001.nii")
    assert set(find_cohort(tmp_path, ("MR", "CT")).files) == {"001"}
    apart = find_cohort(tmp_path, ("MR", "CT"), Choice(unpaired_people=True))
    assert sorted(list(of) for of in apart.files.values()) == [["CT"], ["MR"]]


def test_two_visits_make_a_pair_only_when_told(tmp_path: Path) -> None:
    touch(tmp_path, "p1/ses-1/T1.nii", "p1/ses-2/T2.nii")
    assert len(find_cohort(tmp_path, ("T1", "T2")).files) == 2
    merged = find_cohort(tmp_path, ("T1", "T2"), Choice(across_visits=True))
    assert {s: set(of) for s, of in merged.files.items()} == {"p1": {"T1", "T2"}}


def chosen(folder: Path, **options: str) -> list[str]:
    return [group[0].name for group in scans_of(folder, ["T1"], **options).groups]


def test_only_scans_of_the_source_are_translated(tmp_path: Path) -> None:
    brats = touch(tmp_path / "a", *(f"B_001_{m}.nii" for m in ("t1", "t2", "flair", "seg")))
    assert chosen(brats) == ["B_001_t1.nii"]
    bids = touch(tmp_path / "b", "sub-1_CT.nii", "sub-1_T1w.nii", "sub-1_run-2_T1w.nii")
    assert set(chosen(bids)) == {"sub-1_T1w.nii", "sub-1_run-2_T1w.nii"}
    plain = touch(tmp_path / "c", "one.nii", "two.nii", "one_mask.nii")
    assert chosen(plain) == ["one.nii", "two.nii"]
    assert chosen(plain, pattern="t*.nii") == ["two.nii"]
    odd = touch(tmp_path / "d", "p1_mprage.nii", "p1_T2.nii")
    assert chosen(odd, modality="mprage") == ["p1_mprage.nii"]
    with pytest.raises(DataError, match="T2"):
        scans_of(touch(tmp_path / "e", "p1_T2.nii"), ["T1"])


def test_channels_need_a_word(tmp_path: Path) -> None:
    touch(tmp_path, "case_0000.nii.gz", "case_0001.nii.gz")
    with pytest.raises(DataError, match="`pattern`"):
        scans_of(tmp_path, ["T1"])
    assert chosen(tmp_path, pattern="*_0000.nii.gz") == ["case_0000.nii.gz"]
    (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "T2", "1": "T1"}}')
    assert chosen(tmp_path) == ["case_0001.nii.gz"]
