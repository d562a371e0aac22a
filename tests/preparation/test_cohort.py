"""What `prepare` refuses of a cohort, what it leaves out, and that it says so."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from syndiff.errors import DataError, OptionError, UserError
from syndiff.io import formats
from syndiff.io.marks import SYNTHETIC_MARK
from syndiff.io.volume import Volume
from syndiff.preparation.discover import find_cohort
from syndiff.preparation.labels import what_labels
from syndiff.preparation.manifest import Manifest
from syndiff.preparation.recipe import prepare
from syndiff.preparation.summary import left_out
from syndiff.preparation.table import read_table, write_table
from syndiff.reporting import Remembering

SHAPE = (20, 22, 12)


def head(seed: int) -> Volume:
    """A noisy ellipsoid of two tissues."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    inside = (x / 0.8) ** 2 + (y / 0.8) ** 2 + (z / 0.9) ** 2 < 1
    values = np.where(inside, 100 + 50 * (x > 0.1), 0)
    noise = np.abs(np.random.default_rng(seed).normal(0, 3, SHAPE))
    affine = np.diag([8.0, 8, 8, 1])
    return Volume((values + noise).astype(np.float32), affine)


def cohort(raw: Path, people: int = 3) -> Path:
    for i in range(1, people + 1):
        for j, modality in enumerate(("T1", "T2")):
            (raw / f"p{i}").mkdir(parents=True, exist_ok=True)
            formats.write(head(10 * i + j), raw / f"p{i}" / f"{modality}.nii.gz")
    return raw


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return cohort(tmp_path / "raw")


def run(raw: Path, out: Path, **options) -> Manifest:
    options = {"split": {"train": 2, "test": 1}} | options
    return prepare(raw, out, modalities=("T1", "T2"), size=32, register=False, **options)


def test_all_unusable_scans_are_named_at_once_and_skipped_on_request(
    raw: Path, tmp_path: Path
) -> None:
    for name in ("p1/T2.nii.gz", "p2/T1.nii.gz"):
        (raw / name).write_bytes((raw / name).read_bytes()[:300])
    with pytest.raises(DataError, match=r"2 scans cannot be used.*p1/T2\.nii.*p2/T1\.nii"):
        run(raw, tmp_path / "out")
    manifest = run(raw, tmp_path / "out", skip_bad=True)
    assert [s.subject for s in manifest.scans("train", "T1")] == ["p1"]
    assert [s.subject for s in manifest.scans("train", "T2")] == ["p2"]
    skipped = {item["file"] for item in manifest.content["left_out"]["skipped"]}
    assert skipped == {"p1/T2.nii.gz", "p2/T1.nii.gz"}
    assert any("p1/T2.nii.gz" in line for line in left_out(manifest))
    assert run(raw, tmp_path / "out", skip_bad=True).content == manifest.content
    with pytest.raises(OptionError, match="other subjects"):
        run(raw, tmp_path / "out")


@pytest.mark.parametrize("how", ["copied", "compressed anew"])
def test_one_scan_in_two_splits_is_refused_and_in_one_it_is_said(
    raw: Path, tmp_path: Path, how: str
) -> None:
    first, last = raw / "p1" / "T1.nii.gz", raw / "p3" / "T1.nii.gz"
    if how == "copied":
        last.write_bytes(first.read_bytes())
    else:
        image = nib.load(first)
        image.header["descrip"] = b"another one"
        nib.save(image, last)
        assert last.read_bytes() != first.read_bytes()
    with pytest.raises(DataError, match=r"in two splits: p1/T1\.nii\.gz \(train\) = p3/T1"):
        run(raw, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()
    told = Remembering()
    run(raw, tmp_path / "other", split={"train": 3}, report=told)
    assert any("the same scan under 2 names" in message for message in told.warnings)


def test_header_and_image_are_compared_by_the_image(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for i, person in enumerate(("p1", "p2")):
        (raw / person).mkdir(parents=True)
        nib.save(nib.Nifti1Pair(head(i).array, head(i).affine), raw / person / "T1.hdr")
    told = Remembering()
    prepare(raw, tmp_path / "out", modalities=("T1",), split={"train": 2}, size=32, report=told)
    assert not any("same scan" in message for message in told.warnings)


def test_synthetic_images_are_refused_unless_allowed(raw: Path, tmp_path: Path) -> None:
    formats.write(head(7), raw / "p3" / "T2.nii.gz", SYNTHETIC_MARK)
    with pytest.raises(DataError, match=r"1 synthetic images.*p3/T2\.nii\.gz"):
        run(raw, tmp_path / "out")
    manifest = run(raw, tmp_path / "out", allow_synthetic=True)
    assert manifest.content["left_out"]["synthetic"] == ["p3/T2.nii.gz"]


def test_a_mask_named_like_a_scan_is_refused(raw: Path, tmp_path: Path) -> None:
    mask = head(1).like(head(1).array > 50)
    formats.write(mask, raw / "p2" / "T2.nii.gz")
    with pytest.raises(UserError, match=r"p2/T2\.nii\.gz holds a mask"):
        run(raw, tmp_path / "out")


def test_label_maps_are_told_from_images() -> None:
    scan = head(1).array
    blocks = np.kron(np.arange(1, 28).reshape(3, 3, 3), np.ones((6, 6, 6)))
    blocks = np.pad(blocks, 4)  # 27 regions
    assert "label map" in what_labels(blocks)
    assert "mask" in what_labels(np.minimum(blocks, 1))
    assert what_labels(scan) == ""
    assert what_labels(np.round(scan)) == ""
    assert what_labels(np.round(scan / 4)) == ""  # some forty grey levels are still an image


def test_people_without_pairs_and_a_set_for_testing_alone(raw: Path, tmp_path: Path) -> None:
    told = Remembering()
    test = run(raw, tmp_path / "test", split={"train": 0, "test": 3}, report=told)
    assert test.subjects("test") == ["p1", "p2", "p3"]
    assert any("nobody is for training" in message for message in told.warnings)
    apart = run(
        raw, tmp_path / "apart", unpaired_people=True, split={"train": 2, "val": 2, "test": 2}
    )
    for split in ("train", "val", "test"):
        assert apart.paired_subjects(split, "T1", "T2") == []
        assert len(apart.scans(split, "T1")) == len(apart.scans(split, "T2")) == 1


def test_visits_are_subjects_of_one_person(tmp_path: Path) -> None:
    raw = cohort(tmp_path / "raw", 2)
    (raw / "p1").rename(raw / "visit-1")
    (raw / "p1").mkdir()
    (raw / "visit-1").rename(raw / "p1" / "visit-1")
    (raw / "p1" / "visit-2").mkdir()
    formats.write(head(99), raw / "p1" / "visit-2" / "T1.nii.gz")
    manifest = run(raw, tmp_path / "out", split={"train": 1, "test": 1})
    assert manifest.subjects("train") == ["p1_visit-1", "p1_visit-2"]
    assert {scan.person for scan in manifest.scans("train", "T1")} == {"p1"}


def test_what_is_left_out_is_in_the_manifest(raw: Path, tmp_path: Path) -> None:
    formats.write(head(5), raw / "p1" / "t1_mprage.nii.gz")
    formats.write(head(6), raw / "p1" / "T1_mask.nii.gz")
    manifest = run(raw, tmp_path / "out", split={"train": 1, "test": 1})
    lines = "\n".join(left_out(manifest))
    assert "1 masks or label maps: p1/T1_mask.nii.gz" in lines
    assert "1 names of no known layout: p1/t1_mprage.nii.gz" in lines
    assert "1 subjects in no split: p3" in lines


def test_a_written_table_is_read_again_and_never_overwritten(raw: Path, tmp_path: Path) -> None:
    found = find_cohort(raw, ("T1", "T2"))
    table = tmp_path / "scans.tsv"
    write_table(table, found)
    again = read_table(table, raw, ("T1", "T2"))
    assert (again.files, again.people) == (found.files, found.people)
    with pytest.raises(OptionError, match="exists"):
        write_table(table, found)


def test_a_table_says_who_is_who(raw: Path, tmp_path: Path) -> None:
    table = tmp_path / "scans.csv"
    rows = ["subject,session,modality,file,split,age"]
    rows += ["anna,1,T1,p1/T1.nii.gz,train,30", "anna,2,T2,p1/T2.nii.gz,train,31"]
    rows += ["berta,,T1,p2/T1.nii.gz,test,40", "berta,,T2,p2/T2.nii.gz,test,40"]
    table.write_text("\n".join(rows))
    manifest = run(raw, tmp_path / "out", split=None, table=table)
    assert manifest.subjects("train") == ["anna_1", "anna_2"]
    assert manifest.paired_subjects("test", "T1", "T2") == ["berta"]


def test_all_faults_of_a_table_are_named(raw: Path, tmp_path: Path) -> None:
    table = tmp_path / "scans.tsv"
    rows = ["subject\tmodality\tfile\tsplit", "a\tT1\tnowhere.nii\ttrain"]
    rows += ["b\tT1\tp1/T1.nii.gz\tholdout", "\tT1\tp1/T1.nii.gz\ttrain"]
    table.write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"3 faults: line 2: no file.*line 3:.*line 4:") as caught:
        read_table(table, raw, ("T1",))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../../out", "1/2", "..", "a\\b"])
def test_no_name_in_a_table_leads_elsewhere(raw: Path, tmp_path: Path, name: str) -> None:
    table = tmp_path / "scans.tsv"
    for row in (f"anna\t{name}\tT1\tp1/T1.nii.gz", f"{name}\t1\tT1\tp1/T1.nii.gz"):
        table.write_text("subject\tsession\tmodality\tfile\n" + row)
        with pytest.raises(DataError, match=r"line 2: a (session|subject) named"):
            read_table(table, raw, ("T1",))


def test_files_of_others_in_an_unfinished_folder_are_left_alone(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (raw / "p1" / "T2.nii.gz").write_bytes(b"")
    with pytest.raises(UserError):
        run(raw, out)
    precious = out / "slices" / "mine" / "of" / "them.npy"
    precious.parent.mkdir(parents=True)
    precious.write_bytes(b"precious")
    run(raw, out, skip_bad=True)
    assert precious.read_bytes() == b"precious"
