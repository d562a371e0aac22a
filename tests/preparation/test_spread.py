"""Preparation by several processes: the same bytes, and nobody is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from syndiff.errors import OptionError
from syndiff.preparation.recipe import job_of, prepare
from syndiff.preparation.settings import Settings
from syndiff.preparation.spread import measure
from syndiff.reporting import Remembering
from syndiff.tasks import Workers, run_tasks
from tests.helpers.tasks import task

OPTIONS: dict[str, Any] = {
    "modalities": ("T1", "T2"),
    "split": {"train": 3, "val": 1, "test": 1},
    "size": 32,
    "spacing_mm": 8.0,
    "register": False,
    "skip_bad": True,
}


@pytest.fixture
def raw(cohort: Path, tmp_path: Path) -> Path:
    """The cohort with a truncated T2 of sub-002."""
    for path in cohort.rglob("*T?w.nii.gz"):
        copy = tmp_path / "raw" / path.relative_to(cohort)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if "sub-002_T2w" in path.name:
            copy.write_bytes(path.read_bytes()[:2000])
        else:
            copy.symlink_to(path)
    return tmp_path / "raw"


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_two_processes_write_the_same_bytes_as_one(raw: Path, tmp_path: Path) -> None:
    heard = Remembering(), Remembering()
    for count in (1, 2):
        prepare(raw, tmp_path / str(count), **OPTIONS, workers=count, report=heard[count - 1])
    one, two = files_of(tmp_path / "1"), files_of(tmp_path / "2")
    assert "manifest.json" in one
    assert one == two
    assert sorted(heard[0].warnings) == sorted(heard[1].warnings)
    assert any("sub-002_T2w" in line for line in heard[1].warnings)  # reported, and left out


def test_a_worker_returns_the_error_of_a_bad_scan(raw: Path, tmp_path: Path) -> None:
    job = job_of(raw, tmp_path / "out", Settings(**OPTIONS))
    alone = job.source.only("sub-002")  # type: ignore[attr-defined]
    assert list(alone.files) == ["sub-002"]
    records, error, _ = measure(alone, "sub-002")
    assert records is None
    assert "sub-002_T2w.nii.gz" in f"{error}"


def test_a_task_survives_its_process_and_a_failing_one_does_not_stop_others(
    tmp_path: Path,
) -> None:
    calls = {what: (what, tmp_path) for what in ("works", "fails", "dies once")}
    done = {d.item: d for d in run_tasks(task, calls, Workers(2))}
    assert {name: d.result for name, d in done.items()} == {
        "works": "works", "fails": None, "dies once": "dies once",
    }  # fmt: skip
    assert "failed 3 times" in done["fails"].problem
    assert (tmp_path / "died").exists()


def test_numbers_of_workers_are_checked(raw: Path, tmp_path: Path) -> None:
    for count in (0, 5000):
        with pytest.raises(OptionError, match=f"`workers` {count}"):
            prepare(raw, tmp_path / "out", **OPTIONS, workers=count)
    assert not (tmp_path / "out").exists()
