"""Studies cell by cell: what is finished is kept, what was stopped goes on, and the table."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from syndiff import cli
from syndiff.io.locks import only_writer
from syndiff.preparation.manifest import read_manifest
from syndiff.studies import cells
from syndiff.studies.cells import Cell, run_cell, settings_of
from syndiff.studies.definitions import names, study_named
from syndiff.studies.plan import Options, tiny
from syndiff.studies.run import study
from syndiff.training.history import read
from syndiff.training.run import train

ENDINGS = ("md", "tex", "csv", "json", "html")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["syndiff", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cells that were computed; each costs nothing and scores 20 dB + its seed."""
    titles: list[str] = []

    def fake(cell: Cell) -> dict[str, Any]:
        titles.append(cell.title)
        score = {"psnr_db": 20.0 + cell.seed, "psnr_db_std": 1.0, "ssim": 0.5, "ssim_std": 0.1}
        return {"values": score | {"people": 2}, "copy": score | {"people": 2}}

    monkeypatch.setitem(cells.KINDS, "translation", fake)
    return titles


def test_a_finished_cell_is_not_computed_again(
    prepared: Path, tmp_path: Path, computed: list[str]
) -> None:
    options = Options(seeds=2)
    first = study("table7", tmp_path, data=prepared, options=options)
    assert first.cells == first.computed == len(computed) == 8  # four rows, T1→T2, two seeds
    assert study("table7", tmp_path, data=prepared, options=options).computed == 0
    lost = tmp_path / "cells" / "glioma-T1_to_T2" / "SynDiff" / "seed1" / "cell.json"
    lost.unlink()
    assert study("table7", tmp_path, data=prepared, options=options).computed == 1
    assert computed[8:] == ["SynDiff, T1→T2, seed 1"]
    more = study("table7", tmp_path, data=prepared, options=Options(seeds=3))  # seeds may be added
    assert (more.cells, more.computed) == (12, 4)


def test_the_table_has_our_figures_beside_the_papers(
    prepared: Path, tmp_path: Path, computed: list[str]
) -> None:
    study("table8", tmp_path, data=prepared, options=Options(seeds=2))
    files = {ending: (tmp_path / f"table8.{ending}").read_text() for ending in ENDINGS}
    row = next(line for line in files["md"].splitlines() if line.startswith("| T/k=2 |"))
    assert row == "| T/k=2 | **20.50 ± 1.00** | 27.11 ± 1.31 | **50.00 ± 10.00** | 92.48 ± 1.27 |"
    assert "The data differ" in files["md"]
    assert "BRATS" in files["md"]
    lines = list(csv.DictReader(files["csv"].splitlines()))
    assert len(lines) == 15 * 2 * 2  # rows of one training are all there
    assert {line["paper"] for line in lines if line["row"] == "T/k=8"} == {
        "27.24±1.24", "92.42±1.24",
    }  # fmt: skip
    content = json.loads(files["json"])
    assert (content["cells"], content["finished"]) == (22, 22)
    assert r"$\lambda$1$\phi$=0.25 & " in files["tex"]
    assert files["html"].count("<tr>") == 1 + 15 + 1  # head, rows, copy of the source
    assert "http" not in files["html"]


def test_a_stopped_study_keeps_what_is_finished(
    prepared: Path, tmp_path: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = cells.KINDS["translation"]

    def stopped(cell: Cell) -> dict[str, Any]:
        if len(computed) == 2:
            raise KeyboardInterrupt
        return kept(cell)

    monkeypatch.setitem(cells.KINDS, "translation", stopped)
    with pytest.raises(KeyboardInterrupt):
        study("table7", tmp_path, data=prepared, options=Options(seeds=1))
    assert "2 of 4 cells are finished" in (tmp_path / "table7.md").read_text()
    monkeypatch.setitem(cells.KINDS, "translation", kept)
    assert study("table7", tmp_path, data=prepared, options=Options(seeds=1)).computed == 2
    assert len(set(computed)) == len(computed) == 4


def test_a_training_that_was_stopped_goes_on(prepared: Path, tmp_path: Path) -> None:
    """The run is resumed, not begun again: its first validation stays in its history."""
    name, options = "table10", tiny(Options())
    chosen = study_named(name)
    cell = Cell(
        chosen.kind, chosen.rows[-1], chosen.columns[1], 0, options, tmp_path / "cell", prepared
    )
    run, settings = cell.folder / "run", settings_of(cell, 4)
    stopped = train(prepared, run, source="T1", target="T2", settings=settings, max_minutes=1e-6)
    assert stopped.step < settings.max_steps
    assert run_cell(cell) == ""
    result = json.loads((cell.folder / "cell.json").read_text())
    assert result["steps"] == settings.max_steps
    assert result["values"]["people"] == len(
        read_manifest(prepared).paired_subjects("test", "T1", "T2")
    )
    assert next(int(line["step"]) for line in read(run)) == stopped.step


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("tabel8 --out s", "table8"),
        ("table8", "out"),
        ("table8 --out s --budget soon", "3000steps"),
        ("table8 --out s --data nothing", "nothing"),
        ("table5 --out s --workers 2", "measures time"),
        ("table10 --out s --budget 5m", "steps"),
        ("table8 --out s --preset github", "github"),
        ("table4 --out s --data {data}", "CT"),
        ("table8 --out {used} --tiny", "not empty"),
    ],
)
def test_bad_names_are_one_line(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], arguments: str, words: str,
) -> None:  # fmt: skip
    used = tmp_path / "used"
    used.mkdir()
    (used / "thesis.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "study", *arguments.format(data=prepared, used=used).split()) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in error if line.startswith("error: ")]) == 1
    assert words in error[-1]
    assert not (tmp_path / "s").exists()


def test_a_folder_belongs_to_one_study_and_one_process(
    prepared: Path, tmp_path: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = ("study", "table7", "--out", tmp_path / "s", "--data", prepared, "--seeds", 1)
    assert call(monkeypatch, *words) == 0
    assert call(monkeypatch, *words, "--budget", "10m") == 2
    assert "another folder" in capsys.readouterr().err
    with only_writer(tmp_path / "s"):
        assert call(monkeypatch, *words) == 2
    assert "another process" in capsys.readouterr().err


FAST = ("table5", "table10")  # one of time, one of trainings; the others are slow


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in names()]
)
def test_tiny_studies_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From nothing to the table, on virtual people."""
    out = tmp_path / "study"
    assert call(monkeypatch, "study", name, "--out", out, "--tiny", "--quiet") == 0
    for ending in ENDINGS:
        assert (out / f"{name}.{ending}").stat().st_size > 200
    content = json.loads((out / f"{name}.json").read_text())
    assert content["finished"] == content["cells"] >= 2
    assert "mean nothing" in (out / f"{name}.md").read_text()


@pytest.mark.slow
def test_cells_in_processes(prepared: Path, tmp_path: Path) -> None:
    found = study("table10", tmp_path, data=prepared, options=Options(tiny=True), workers=2)
    assert found.computed == found.cells == 2
    assert not found.problems
