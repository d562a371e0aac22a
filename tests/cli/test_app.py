"""The command line: help, versions, errors in one line with exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer.main

from syndiff import __version__, cli
from syndiff.cli.app import whole_numbers
from syndiff.cli.training_console import training_console
from syndiff.errors import OptionError
from syndiff.inference import sidecar
from syndiff.training.progress import Progress
from tests.helpers.cli import call

COMMANDS = [command.name or command.callback.__name__ for command in cli.app.registered_commands]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    command = typer.main.get_command(cli.app).commands[name]  # type: ignore[attr-defined]
    assert command.help
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"syndiff {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("phantom", "{tmp}/raw", "--modalities", "T1,T9"), "T9"),
        (("prepare", "{tmp}/none", "{tmp}/data", "--split", "train=1"), "no folder"),
        (("prepare", "{cohort}", "{tmp}/data", "--split", "some"), "80/10/10"),
        (("prepare", "{cohort}", "{tmp}/data", "--split", "train=1", "--spacing-mm", "x"), "mm"),
        (("prepare", "{cohort}", "{tmp}/data", "--split", "train=99"), "99"),
        (("prepare", "{cohort}", "{tmp}/data", "--split", "train=1", "--modalities", "CT"), "CT"),
        (("train", "{tmp}/none", "{tmp}/run"), "prepare"),
        (("train", "{prepared}", "{tmp}/run", "--preset", "huge"), "preset"),
        (("train", "{prepared}", "{tmp}/run", "--source", "T1", "--target", "PD"), "PD"),
        (("train", "{prepared}", "{tmp}/run", "--resume"), "no run"),
        (("translate", "{tmp}/none", "{tmp}/a.nii.gz", "{tmp}/b.nii.gz"), "translator"),
        (("evaluate", "{prepared}", "{tmp}/out", "--model", "mine"), "NAME=PATH"),
        (
            ("evaluate", "{prepared}", "{tmp}/out", "--model", "a=x", "--model", "a=y"),
            "two of --model named 'a'",
        ),
        (
            ("compare", "a=x", "a=y", "--data", "{prepared}", "--out", "{tmp}/out"),
            "two of METHOD named 'a'",
        ),
        (("info", "{tmp}/none"), "no translator folder"),
    ],
)
def test_mistakes_end_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    cohort: Path,
    prepared: Path,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    places = {"tmp": tmp_path, "cohort": cohort, "prepared": prepared}
    assert call(monkeypatch, *(a.format(**places) for a in arguments)) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    assert words in error
    assert not list(tmp_path.rglob("*.npy"))


def test_a_mistyped_option_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "phantom", "x", "--subject", "3") == 2


def test_sidecar_stands_beside_the_volume() -> None:
    assert sidecar("a/scan.T2w.nii.gz") == Path("a/scan.T2w.json")
    assert sidecar("scan.nii") == Path("scan.json")


@pytest.mark.parametrize("text", ["nan", "inf", "1.5", "x", "²"])
def test_whole_numbers_are_whole(text: str) -> None:
    with pytest.raises(OptionError, match="--batch"):
        whole_numbers("--batch", f"2,{text}")


def test_messages_are_spelled_by_the_command_that_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`data` is DATA for most commands, and --data for `import`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gen_diffusive_1_50.pth").touch()
    asked = ("import", "gen_diffusive_1_50.pth", "out", "--source", "T1", "--target", "T2")
    assert call(monkeypatch, *asked, "--contrast1", "T1") == 2
    assert "or --data with" in capsys.readouterr().err


def test_a_quiet_training_tells_warnings_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("syndiff.cli.training_console.is_quiet", lambda: True)
    with training_console() as report:
        report.phase("reading the slices")
        report.step(Progress(1, 2))
        report.warn("look here")
    assert capsys.readouterr().err == "warning: look here\n"
