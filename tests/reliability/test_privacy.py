"""Names and paths of people, planted wherever a scan has room for text, are in nothing shared.

Prepared data and scores name their subjects as the folders of scans do. Of headers they hold
nothing.
"""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import pytest

from syndiff.evaluation.evaluate import evaluate
from syndiff.inference import TranslationOptions, translate_file
from syndiff.inference.folders import translate_folder
from syndiff.io import formats
from syndiff.phantom import write_cohort
from syndiff.preparation.recipe import prepare
from syndiff.reporting import Remembering
from tests.helpers.runs import run_of, settings

HEADER, PERSON, CLINIC = "Roe^Header", "DoeJane", "Clinic-of-Moe"
EACH = 4  # bytes of a planted text that fits into the smallest field of a header


def plant(scan: Path, path: Path) -> None:
    """The scan with the header's text in every field and extension of its header."""
    volume = formats.read(scan)
    image = nib.Nifti1Image(volume.array, volume.affine)
    texts = [n for n in image.header if image.header[n].dtype.kind == "S" and n != "magic"]
    for name in texts:
        image.header[name] = HEADER.encode()[: image.header[name].dtype.itemsize]
    for code in ("comment", "dicom", "afni"):
        content = HEADER.encode() if code == "comment" else HEADER.encode() * 2
        image.header.extensions.append(nib.nifti1.Nifti1Extension(code, content))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def texts_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name → bytes of every file, unpacked, and the names themselves."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        yield name, name.encode()
        if not path.is_file():
            continue
        content = path.read_bytes()
        yield name, content
        if path.name.endswith(".gz"):
            yield name, gzip.decompress(content)
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                for part in packed.namelist():
                    yield f"{name}/{part}", part.encode() + packed.read(part)


def holding(folder: Path, *words: str) -> list[str]:
    """The files that hold one of the words, in two encodings."""
    wanted = [w.encode(kind) for w in words for kind in ("utf-8", "utf-16-le")]
    return sorted(
        {name for name, content in texts_of(folder) if any(w in content for w in wanted)}
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the commands write, in folders by kind."""
    here = tmp_path_factory.mktemp("made")
    raw, virtual = tmp_path_factory.mktemp(CLINIC) / CLINIC, tmp_path_factory.mktemp("virtual")
    write_cohort(virtual, subjects=4, modalities=("T1", "T2"), seed=5, spacing_mm=8.0)
    for number in (1, 2, 3, 4):
        for modality in ("T1", "T2"):
            end, name = f"anat/sub-00{number}_{modality}w.nii.gz", f"sub-{PERSON}{number}"
            plant(virtual / f"sub-00{number}" / end, raw / name / end.replace("sub-00", name[:-1]))
    assert holding(raw, HEADER, PERSON)  # it would be found
    heard = Remembering()
    prepare(
        raw,
        here / "data",
        modalities=("T1", "T2"),
        split={"train": 2, "val": 1, "test": 1},
        size=32,
        spacing_mm=8.0,
        register=False,
        report=heard,
    )
    run = run_of(here / "data", here / "run", settings=settings(max_steps=2), devices="cpu")
    model = run / "translators" / "T1_to_T2"
    options = TranslationOptions(device="cpu")
    patient = raw / "patient.nii.gz"
    plant(virtual / "sub-004" / "anat" / "sub-004_T1w.nii.gz", patient)
    translate_file(model, patient, here / "one" / "result.nii.gz", options)
    (raw / "in").mkdir()
    patient.rename(raw / "in" / "patient.nii.gz")
    translate_folder(model, raw / "in", here / "folder", options)
    evaluate(here / "data", here / "scores", models={"mine": model})
    (here / "log").mkdir()
    (here / "log" / "warnings.txt").write_text("\n".join(heard.warnings))
    return here


def test_headers_reach_nothing(made: Path) -> None:
    assert holding(made, HEADER, HEADER[: 2 * EACH]) == []


@pytest.mark.parametrize("kind", ["run", "one", "folder"])
def test_nobody_is_named(made: Path, kind: str) -> None:
    assert list((made / kind).rglob("*"))
    assert holding(made / kind, PERSON, CLINIC, str(made)) == []


@pytest.mark.parametrize("kind", ["data", "scores"])
def test_where_subjects_are_named_no_path_is(made: Path, kind: str) -> None:
    assert holding(made / kind, CLINIC, str(made)) == []


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_an_export_names_nobody(made: Path, tmp_path: Path, format: str) -> None:
    from syndiff.export import export

    export(made / "run" / "translators" / "T1_to_T2", tmp_path / format, format=format)
    assert holding(tmp_path, HEADER, PERSON, CLINIC, str(made)) == []
