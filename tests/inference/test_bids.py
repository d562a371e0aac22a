"""A BIDS data set becomes a BIDS derivative, by the folder's translation and by the BIDS app."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from syndiff import cli
from syndiff.errors import OptionError
from syndiff.inference import TranslationOptions
from syndiff.inference.bids import derivative_name
from syndiff.inference.folders import translate_folder
from syndiff.io import formats
from tests.helpers.translators import build
from tests.helpers.volumes import head

ROOT = Path(__file__).parents[2]
VALIDATOR, BOSH = shutil.which("bids-validator-deno"), shutil.which("bosh")
BOUTIQUES = ROOT / "integrations" / "boutiques" / "syndiff.json"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build().save(tmp_path_factory.mktemp("model") / "T1_to_T2")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two people; the second one has two visits, and a T2w at the first."""
    folder = tmp_path / "study"
    for name in ("sub-01/anat/sub-01_T1w", "sub-02/ses-a/anat/sub-02_ses-a_T1w",
                 "sub-02/ses-a/anat/sub-02_ses-a_T2w",
                 "sub-02/ses-b/anat/sub-02_ses-b_run-1_T1w"):  # fmt: skip
        formats.write(head(), folder / f"{name}.nii.gz")
        (folder / f"{name}.json").write_text("{}")
    (folder / "README.md").write_text("Virtual heads, made for a test of syndiff; no people.\n")
    description = {"Name": "Study", "BIDSVersion": "1.10.0", "DatasetType": "raw",
                   "DatasetDOI": "doi:10.0000/study", "Authors": ["A", "B"]}  # fmt: skip
    (folder / "dataset_description.json").write_text(json.dumps(description))
    return folder


def run(*words: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["syndiff", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)


def made(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.nii.gz"))


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ("anat/sub-1_T1w.nii.gz", "T2", "anat/sub-1_desc-synthetic_T2w.nii.gz"),
        ("sub-1_ses-2_desc-preproc_T1w.nii", "FLAIR", "sub-1_ses-2_desc-synthetic_FLAIR.nii.gz"),
        ("sub-1_run-2_T1w.nii.gz", "CT", "sub-1_run-2_desc-synthetic_CT.nii.gz"),
    ],
)
def test_names(name: str, target: str, expected: str) -> None:
    assert derivative_name(Path(name), target) == Path(expected)


def test_translating_a_bids_data_set_gives_a_derivative(model: Path, dataset: Path) -> None:
    out = dataset / "derivatives" / "syndiff"
    results = translate_folder(model, dataset, out, TranslationOptions(device="cpu"))
    assert not any(result.problem for result in results)
    assert made(out) == [
        "sub-01/anat/sub-01_desc-synthetic_T2w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_desc-synthetic_T2w.nii.gz",
        "sub-02/ses-b/anat/sub-02_ses-b_run-1_desc-synthetic_T2w.nii.gz",
    ]
    said = json.loads((out / "sub-01/anat/sub-01_desc-synthetic_T2w.json").read_text())
    assert said["Sources"] == ["bids:source:sub-01/anat/sub-01_T1w.nii.gz"]
    assert said["SpatialReference"] == said["Sources"][0]
    assert (said["SkullStripped"], said["Synthetic"], said["synthetic"]) == (False, True, True)
    assert "registration" in said["IntendedUse"][0]
    assert any("lesions" in use for use in said["NotIntendedUse"])
    described = json.loads((out / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0]["Name"] == "syndiff"
    assert described["SourceDatasets"] == [{"DOI": "doi:10.0000/study"}]
    assert (out / described["DatasetLinks"]["source"]).resolve() == dataset.resolve()
    if VALIDATOR:
        for folder in (dataset, out):
            done = subprocess.run([VALIDATOR, folder, "--json"], capture_output=True, text=True)
            issues = json.loads(done.stdout)["issues"]["issues"]
            assert not [issue for issue in issues if issue["severity"] == "error"]
    again = translate_folder(model, dataset, out, TranslationOptions(device="cpu"))
    assert all(result.skipped for result in again)


def test_the_bids_app_takes_labels_and_what_is_missing(
    model: Path, dataset: Path, tmp_path: Path, capsys
) -> None:
    app = ("bids", dataset, tmp_path / "out", "participant", "--model", model, "--device", "cpu")
    assert run(*app, "--participant-label", "sub-02", "01", "--only-missing") == 0
    assert made(tmp_path / "out") == [
        "sub-01/anat/sub-01_desc-synthetic_T2w.nii.gz",
        "sub-02/ses-b/anat/sub-02_ses-b_run-1_desc-synthetic_T2w.nii.gz",
    ]
    assert run(*app, "--participant-label", "03") == 2
    assert "--participant-label 03" in capsys.readouterr().err
    assert run("bids", dataset, tmp_path / "out", "group") == 0
    assert run("bids", tmp_path, tmp_path / "out2", "participant") == 2


def test_a_data_set_of_others_is_not_written_into(
    model: Path, dataset: Path, tmp_path: Path
) -> None:
    other = tmp_path / "theirs"
    other.mkdir()
    shutil.copy(dataset / "dataset_description.json", other)
    for out in (other, dataset / "results"):
        with pytest.raises(OptionError):
            translate_folder(model, dataset, out, TranslationOptions(device="cpu"))
        assert not made(out)


def test_the_boutiques_descriptor_names_options_that_there_are(tmp_path: Path) -> None:
    content = json.loads(BOUTIQUES.read_text())
    line = content["command-line"]
    assert line.startswith("syndiff bids ")
    for item in content["inputs"]:
        assert item["value-key"] in line
    asked = [sys.executable, "-m", "syndiff", "bids", "--help"]
    shown = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    for item in content["inputs"]:
        assert item.get("command-line-flag", "") in shown
    if BOSH:
        subprocess.run([BOSH, "validate", BOUTIQUES], check=True, capture_output=True)


def test_the_dockerfile_makes_the_bids_app_the_entry_point() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    (entry,) = [line for line in lines if line.startswith("ENTRYPOINT")]
    assert json.loads(entry.removeprefix("ENTRYPOINT")) == ["syndiff", "bids"]
    copied = [
        word for line in lines if line.startswith("COPY ") for word in shlex.split(line)[1:-1]
    ]
    assert copied
    assert all((ROOT / name).exists() for name in copied)
