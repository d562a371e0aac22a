"""DICOM through the command line: series lists, translate takes and writes, prepare takes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pydicom
import pytest

from syndiff import cli
from syndiff.io import formats
from syndiff.io.volume import same_grid
from tests.helpers.dicom import PATIENT, PATIENT_ID, head_series
from tests.helpers.translators import build
from tests.helpers.volumes import head

SOMEBODY = "Smith-John"  # folders are often named after the patient


@pytest.fixture
def syndiff(monkeypatch, capsys):
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["syndiff", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert PATIENT not in out + err
        assert PATIENT_ID not in out + err
        return int(end.value.code or 0), out, err

    return run


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with a T1, and a T2 that was made from it by somebody else."""
    folder = tmp_path_factory.mktemp("study") / SOMEBODY
    head_series().write(folder / "a", "IM{}".format)
    tags = {"SeriesDescription": "T2 reformat", "ImageType": ["DERIVED", "SECONDARY", "MPR"]}
    head_series(uid="1.2.3.4.9", tags=tags | {"SeriesNumber": 8}).write(folder / "b")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build().save(tmp_path_factory.mktemp("model") / "T1_to_T2")


def test_series_lists_what_is_there(study: Path, syndiff) -> None:
    code, out, _ = syndiff("series", study)
    heading, first, second, following = out.splitlines()
    assert following.startswith("next: syndiff translate MODEL")
    assert code == 0
    assert "taken for" in heading
    assert first.split()[:6] == ["1", "7", "MR", "40", "x", "44"]
    assert "axial" in first
    assert "T1 axial" in first
    assert "a derived series" in second


def test_translate_writes_a_derived_series(study: Path, model: Path, syndiff, tmp_path) -> None:
    out = tmp_path / "T2"
    code, said, _ = syndiff("translate", model, study, out, "--device", "cpu", "--no-check")
    assert code == 0
    assert "not for diagnosis" in said
    before, after = formats.read(study / "a"), formats.read(out)
    assert same_grid(before, after, 1e-6)
    assert after.synthetic
    record = (tmp_path / "T2.json").read_text()
    assert json.loads(record)["source_file"] == "MR series 7"
    for words in (record, *(path.name for path in out.iterdir())):
        assert PATIENT_ID not in words
        assert SOMEBODY not in words
    assert {pydicom.dcmread(p).PatientID for p in out.iterdir()} == {PATIENT_ID}
    code, _, err = syndiff("translate", model, out, tmp_path / "again", "--device", "cpu")
    assert (code, "synthetic" in err) == (2, True)


def test_translate_takes_a_zip_and_writes_nifti(
    study: Path, model: Path, syndiff, tmp_path
) -> None:
    archive = shutil.make_archive(str(tmp_path / "scan"), "zip", study)
    ended = syndiff(
        "translate", model, archive, tmp_path / "T2.nii.gz", "--series", "T1 axial",
        "--device", "cpu", "--no-check",
    )  # fmt: skip
    assert ended[0] == 0, ended
    assert same_grid(formats.read(tmp_path / "T2.nii.gz"), formats.read(study / "a"), 1e-3)


def test_translate_refuses_before_any_work(study: Path, model: Path, syndiff, tmp_path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "scan.dcm").write_text("somebody's")
    for arguments, word in (
        ((study, tmp_path / "full"), "did not make"),
        ((study, study / "T2"), "lies in the input"),
        ((study, tmp_path / "T2", "--series", "5"), "none of the 2 series"),
    ):
        code, _, err = syndiff("translate", model, *arguments, "--device", "cpu")
        assert code == 2
        assert word in err.splitlines()[-1]
    assert (tmp_path / "full" / "scan.dcm").read_text() == "somebody's"
    assert not (tmp_path / "T2").exists()


def test_prepare_takes_folders_and_zips(syndiff, tmp_path) -> None:
    raw = tmp_path / "raw"
    for number in range(3):
        for modality in ("T1", "T2"):
            values = head((40, 44, 10 + number))
            series = head_series(values, uid=f"1.2.3.{number}.{len(modality)}{modality[1]}")
            series.write(raw / f"sub-{number}" / modality)
    zipped = raw / "sub-1" / "T2"
    shutil.make_archive(str(zipped), "zip", zipped)
    shutil.rmtree(zipped)
    code, _, err = syndiff(
        "prepare", raw, tmp_path / "data", "--split", "train=2,test=1", "--no-register",
        "--size", "32", "--spacing-mm", "7",
    )  # fmt: skip
    assert code == 0, err
    manifest = (tmp_path / "data" / "manifest.json").read_text()
    assert "sub-1/T2.zip" in manifest
    assert PATIENT not in manifest
    assert PATIENT_ID not in manifest


def test_prepare_chooses_series_by_modality(syndiff, tmp_path) -> None:
    raw = tmp_path / "raw"
    for modality, word in (("T1", "mprage"), ("T2", "tse")):
        for number, name in enumerate((f"{word} sag", "other")):
            tags = {"SeriesDescription": name, "SeriesNumber": number + 1}
            series = head_series(
                head((40, 44, 10 + 2 * number)), uid=f"1.2.3.{modality[1]}.{number}", tags=tags
            )
            series.write(raw / "sub-1" / modality, f"{number}-{{}}".format)
    small = ("--split", "0/0/100", "--no-register", "--size", "32", "--spacing-mm", "7")
    code, _, err = syndiff("prepare", raw, tmp_path / "no", *small)
    assert code == 2
    assert "2 series" in err.splitlines()[-1]
    chosen = ("--series", "T1=mprage,T2=tse")
    code, _, err = syndiff("prepare", raw, tmp_path / "data", *small, *chosen)
    assert code == 0, err
    content = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert [scan["file_shape"][2] for scan in content["scans"]] == [10, 10]
    assert content["options"]["series"] == {"T1": "mprage", "T2": "tse"}


def test_prepare_notices_synthetic_series(syndiff, tmp_path) -> None:
    for modality in ("T1", "T2"):
        tags = {"SyntheticData": "YES"} if modality == "T2" else {}
        head_series(tags=tags).write(tmp_path / "raw" / "sub-1" / modality)
    code, _, err = syndiff("prepare", tmp_path / "raw", tmp_path / "data", "--split", "train=1")
    assert code == 2
    assert "1 synthetic images among the scans" in err
