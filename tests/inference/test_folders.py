"""A folder of volumes: what is translated, skipped, fails; over one process and over two."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syndiff.errors import DataError, ModelError, OptionError
from syndiff.inference import TranslationOptions, requests, sidecar, translate_file
from syndiff.inference.folders import TASKS_PER_PROCESS, plan, renamed, translate_folder
from syndiff.inference.here import Leaving, Left, run_here
from syndiff.io import formats as volumes
from syndiff.io.atomic import read_json, write_json
from syndiff.io.locks import only_writer
from syndiff.preparation.selection import scans_of
from syndiff.reporting import Remembering
from syndiff.translators.sampling import Sampling
from tests.helpers.translators import build
from tests.helpers.volumes import head


class Listening(Remembering):
    """Remembers how many volumes were done, too."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def progress(self, done: int, total: int, detail: str = "") -> None:
        self.seen.append(done)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build().save(tmp_path_factory.mktemp("model") / "T1_to_T2")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Four people; the third's file is no image."""
    folder = tmp_path / "in"
    for number in (1, 2, 4):
        name = f"sub-{number}"
        volumes.write(head(), folder / name / "anat" / f"{name}_T1w.nii.gz")
        volumes.write(head(), folder / name / "anat" / f"{name}_T2w.nii.gz")
    broken = folder / "sub-3" / "anat" / "sub-3_T1w.nii.gz"
    broken.parent.mkdir(parents=True)
    broken.write_text("no image")
    return folder


@pytest.mark.parametrize(
    ("name", "source", "target", "expected"),
    [
        ("a/sub-1_T1w.nii.gz", "T1", "T2", "a/sub-1_T2w.nii.gz"),
        ("sub-1_t1.nii", "T1", "FLAIR", "sub-1_FLAIR.nii.gz"),
        ("T1/bob.mgz", "T1", "T2", "T1/bob_T2.nii.gz"),
        ("sub-1_T1w.nii.gz", "T1", "CT", "sub-1_CT.nii.gz"),
    ],
)
def test_names(name: str, source: str, target: str, expected: str) -> None:
    assert renamed(Path(name), source, target) == Path(expected)


def test_files_side_by_side(model: Path, tmp_path: Path) -> None:
    for name in ("b", "a"):
        volumes.write(head(), tmp_path / "in" / f"{name}.nii.gz")
    jobs = plan(model, tmp_path / "in", tmp_path / "out")
    assert [job.output.name for job in jobs] == ["a_T2.nii.gz", "b_T2.nii.gz"]


def test_a_folder_is_translated_and_failures_are_one_line(
    model: Path, scans: Path, tmp_path: Path
) -> None:
    heard = Listening()
    options = TranslationOptions(seed=3, device="cpu")
    results = translate_folder(model, scans, tmp_path / "out", options, report=heard)
    assert [bool(r.problem) for r in results] == [False, False, True, False]
    failures = [line for line in heard.warnings if line.startswith("sub-3")]
    assert len(failures) == 1
    assert "\n" not in failures[0]
    assert sorted(heard.seen) == [1, 2, 3, 4]
    made = sorted(p.name for p in (tmp_path / "out").rglob("*.nii.gz"))
    assert made == ["sub-1_T2w.nii.gz", "sub-2_T2w.nii.gz", "sub-4_T2w.nii.gz"]
    alone = tmp_path / "alone.nii.gz"
    translate_file(
        model,
        scans / "sub-1/anat/sub-1_T1w.nii.gz",
        alone,
        TranslationOptions(seed=3, device="cpu"),
    )
    together = volumes.read(tmp_path / "out/sub-1/anat/sub-1_T2w.nii.gz").array
    np.testing.assert_array_equal(together, volumes.read(alone).array)


def test_what_is_done_is_not_done_again(model: Path, scans: Path, tmp_path: Path) -> None:
    shutil.rmtree(scans / "sub-3")
    out = tmp_path / "out"

    def skipped(**options: Any) -> list[bool]:
        return [
            r.skipped
            for r in translate_folder(
                model, scans, out, TranslationOptions(device="cpu", **options)
            )
        ]

    assert skipped(seed=0) == [False, False, False]
    first = out / "sub-1/anat/sub-1_T2w.nii.gz"
    sidecar(first).unlink()  # as if it had been interrupted between image and side-car
    assert skipped(seed=0) == [False, True, True]
    assert skipped(seed=1) == [False, False, False]
    assert read_json(sidecar(first), "side-car")["seed"] == 1
    assert skipped(seed=1, sampling=Sampling("regression")) == [False, False, False]
    assert skipped(seed=1, sampling=Sampling("regression")) == [True, True, True]


def test_what_changed_is_done_again(model: Path, scans: Path, tmp_path: Path) -> None:
    """Another scan under the same name, another configuration, a result that was exchanged."""
    shutil.rmtree(scans / "sub-3")
    out, again = tmp_path / "out", shutil.copytree(model, tmp_path / "T1_to_T2")
    options = TranslationOptions(device="cpu", check=False)

    def skipped() -> list[bool]:
        return [r.skipped for r in translate_folder(again, scans, out, options)]

    first, second = (out / f"sub-{i}/anat/sub-{i}_T2w.nii.gz" for i in (1, 2))
    assert skipped() == [False, False, False]
    before = first.read_bytes()
    scan = volumes.read(scans / "sub-1/anat/sub-1_T1w.nii.gz")
    other = replace(scan, array=scan.array[::-1].copy())
    volumes.write(other, scans / "sub-1/anat/sub-1_T1w.nii.gz")
    made = volumes.read(second)  # as if it came from elsewhere
    volumes.write(replace(made, array=made.array[::-1].copy()), second)
    assert skipped() == [False, False, True]
    assert first.read_bytes() != before
    config = read_json(again / "config.json", "configuration")
    write_json(again / "config.json", config | {"spacing_mm": 5.0})
    assert skipped() == [False, False, False]
    assert skipped() == [True, True, True]


def test_a_second_translation_to_the_folder_is_refused(
    model: Path, scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with only_writer(out), pytest.raises(OptionError, match="another process is writing to"):
        translate_folder(model, scans, out, TranslationOptions(device="cpu"))
    assert not out.exists()


@pytest.mark.slow  # workers in this process do the same in the other tests here
def test_two_processes_make_the_same(model: Path, scans: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        translate_folder(
            model,
            scans,
            tmp_path / str(workers),
            TranslationOptions(device="cpu"),
            workers=workers,
        )
    made = sorted((tmp_path / "1").rglob("*.nii.gz"))
    assert len(made) == 3
    for path in made:
        other = tmp_path / "2" / path.relative_to(tmp_path / "1")
        np.testing.assert_array_equal(volumes.read(path).array, volumes.read(other).array)


def test_the_network_works_on_one_volume_at_a_time(
    model: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    at_work, most = [0], [0]
    real = requests.translate_volume

    def watched(*args: object, **kwargs: object) -> object:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        result = real(*args, **kwargs)  # type: ignore[arg-type]
        at_work[0] -= 1
        return result

    monkeypatch.setattr(requests, "translate_volume", watched)
    translate_folder(model, scans, tmp_path / "out", TranslationOptions(device="cpu"))
    assert TASKS_PER_PROCESS > 1
    assert most[0] == 1


def test_an_unforeseen_error_is_tried_again(
    model: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    real, calls = requests.translate_volume, [0]

    def flaky(*args: object, **kwargs: object) -> object:
        calls[0] += 1
        if calls[0] == 1:
            raise MemoryError("for once")
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(requests, "translate_volume", flaky)
    shutil.rmtree(scans / "sub-3")
    results = translate_folder(model, scans, tmp_path / "out", TranslationOptions(device="cpu"))
    assert not any(r.problem for r in results)
    assert calls[0] == 4


def test_mistakes_are_one_error_before_anything_is_made(
    model: Path, scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ModelError):
        translate_folder(tmp_path / "none", scans, out)
    with pytest.raises(OptionError, match="workers"):
        translate_folder(model, scans, out, workers=0)
    with pytest.raises(OptionError, match="folder of scans"):
        translate_folder(model, scans, scans)
    with pytest.raises(DataError):
        translate_folder(model, tmp_path / "nowhere", out)
    with pytest.raises(OptionError, match="scheduler"):
        translate_folder(model, scans, out, scheduler="nonsense")
    assert not out.exists()


def test_acquired_scans_are_never_replaced(model: Path, scans: Path, tmp_path: Path) -> None:
    """An output folder that holds the other modality's scans is refused before any work."""
    shutil.rmtree(scans / "sub-3")
    out = tmp_path / "out"
    acquired = out / "sub-2" / "anat" / "sub-2_T2w.nii.gz"
    volumes.write(head(), acquired)
    before = acquired.read_bytes()
    options = TranslationOptions(device="cpu")
    with pytest.raises(OptionError, match=r"sub-2_T2w.nii.gz would be replaced"):
        translate_folder(model, scans, out, options)
    assert acquired.read_bytes() == before
    assert [p for p in out.rglob("*") if p.is_file()] == [acquired]
    results = translate_folder(model, scans, out, options, overwrite=True)
    assert not any(result.problem for result in results)
    assert volumes.read(acquired).synthetic


def test_a_pattern_chooses_one_modality_only(scans: Path) -> None:
    with pytest.raises(OptionError, match=r"`pattern` .* together"):
        scans_of(scans, ["T1", "PD"], pattern="*T1w*")


def test_jobs_that_are_stopped_are_left_and_a_lost_crew_is_noticed() -> None:
    begun: list[int] = []

    def work(job: int, stopped: threading.Event) -> int:
        begun.append(job)
        if job == 0:
            return job
        assert stopped.wait(20)
        Leaving(stopped).progress(1, 2)
        raise AssertionError("it was not left")

    running = run_here(work, range(50), threads=2)
    assert next(running) == (0, 0)
    running.close()
    assert len(begun) <= 3

    def die(job: int, stopped: threading.Event) -> int:
        raise Left

    with pytest.raises(MemoryError):
        list(run_here(die, [1, 2], threads=2))
    assert [type(found) for _, found in run_here(lambda job, _: 1 // job, [0, 1], 1)] == [
        ZeroDivisionError,
        int,
    ]
