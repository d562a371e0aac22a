"""How commands end: one line and a code, whoever listens and whatever was typed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer.main

from syndiff import cli
from syndiff.cli import ending, training_console
from syndiff.cli.command import check_number
from syndiff.cli.console import EVERY_S, FIRST_S, Lines
from syndiff.cli.patience import loaded, while_loading
from syndiff.errors import OptionError
from syndiff.training.progress import Progress

SYNDIFF = [sys.executable, "-m", "syndiff"]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["syndiff", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("translate", "demo", "", "out.nii.gz"), "an empty INPUT"),
        (("translate", "demo", " ", "out.nii.gz"), "an empty INPUT"),
        (("info", ""), "an empty MODEL"),
        (("translate", "demo", "a", "b.nii", "--device="), "an empty --device"),
        (("evaluate", "a", "b", "--model", ""), "an empty --model"),
        (("translate", "demo", "a", "b.nii", "--seed", "9" * 30), "--seed"),
        (("translate", "demo", "a", "b.nii", "--seed", str(2**63)), "9223372036854775807"),
        (("translate", "demo", "a", "b.nii", "--samples", "1000000000000"), "at most 10000"),
        (("translate", "demo", "a", "b.nii", "--workers", "99999999"), "at most 4096"),
        (("translate", "demo", "a", "b.nii", "--sampling-steps", "10000000"), "at most 100000"),
        (("translate", "demo", "a", "b.nii", "--batch-size", "0"), "--batch-size"),
        (("train", "a", "b", "--max-minutes", "inf"), "--max-minutes inf"),
        (("train", "a", "b", "--max-minutes", "nan"), "--max-minutes"),
        (("translate", "demo"), "INPUT"),
        (("translate", "--nonsense"), "--nonsense"),
        (("nonsense",), "nonsense"),
    ],
)
def test_nonsense_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    assert call(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    assert words in error


def numeric_options() -> list[str]:
    commands = typer.main.get_command(cli.app).commands.values()  # type: ignore[attr-defined]
    return sorted(
        {p.name for c in commands for p in c.params if isinstance(p.default, int | float)}
    )


def test_every_number_has_a_bound() -> None:
    for name in numeric_options():
        for value in (2**63, float("inf"), float("nan"), -float("inf")):
            with pytest.raises(OptionError, match=f"`{name}`"):
                check_number(name, value)


def test_a_defect_is_one_line_and_names_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(ending.tempfile, "tempdir", None)

    def broken() -> None:
        raise ZeroDivisionError("/data/Doe_Jane/T1.nii.gz")

    assert ending.told(broken) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    (kept,) = tmp_path.glob("syndiff-defect-*.txt")
    for text in (error, kept.read_text()):
        assert "ZeroDivisionError" in text
        assert "Doe" not in text
    assert str(kept) in error
    monkeypatch.setenv("SYNDIFF_DEBUG", "1")
    assert ending.told(broken) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied", "a\nb.nii"), "a b.nii: Permission denied"),
        (OSError(40, "Too many levels of symbolic links", "x"), "symbolic links"),
        (RuntimeError("Symlink loop from 'a'"), "links that lead to a file"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
    ],
)
def test_what_a_person_can_mend(
    capsys: pytest.CaptureFixture[str], error: Exception, words: str
) -> None:
    def fails() -> None:
        raise error

    assert ending.told(fails) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert words in line


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "stopped by SIGTERM")],
)
@pytest.mark.parametrize("swallowed", [False, True])
def test_a_signal_is_one_line(
    capsys: pytest.CaptureFixture[str], number: int, code: int, words: str, swallowed: bool
) -> None:
    """Whether or not the parser of options takes it for an exit; a second one would kill."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    second = []

    def works() -> int:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            second.extend([signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)])
            if not swallowed:
                raise
        return 130

    assert ending.told(works) == code
    assert capsys.readouterr().err == f"{words}\n"
    assert second == [signal.SIG_DFL] * 2
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_reader_that_leaves_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-c", '"$@" | head -1; exit ${PIPESTATUS[0]}', "bash", *SYNDIFF, "info", "demo"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
def test_words_that_cannot_be_written() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*SYNDIFF, "info", "demo"], stdout=full, stderr=subprocess.PIPE, timeout=120
        )
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1


def test_a_bare_machine() -> None:
    """No home, a temporary folder that is none, an old locale, warnings as errors."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    poor = kept | {"TMPDIR": "/nonexistent", "LC_ALL": "C", "PYTHONWARNINGS": "error"}
    poor |= {"COLUMNS": "40", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*SYNDIFF, "info", "demo"], env=poor, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "T1" in done.stdout


def test_lines_of_a_log_come_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    report = Lines("preparing", clock=lambda: now[0])
    report.phase("reading")
    assert capsys.readouterr().err == ""  # what is quickly done says nothing
    now[0] = FIRST_S
    report.progress(3, 9, "sub-\n003")
    report.progress(4, 9)
    assert capsys.readouterr().err == "preparing: reading 3/9 sub- 003\n"
    now[0] += EVERY_S
    report.progress(5, 9)
    assert capsys.readouterr().err.strip() == "preparing: reading 5/9"


def test_lines_of_a_log_come_while_the_work_is_silent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    report = Lines("evaluating", clock=lambda: now[0])
    report.progress(1, 3, "mine: sub-04")
    for _ in range(40):  # a slice takes forty seconds
        now[0] += 1.0
        report.beat()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "evaluating 1/3 mine: sub-04 (2 s)"
    assert len(lines) >= 40 / 10
    report.progress(2, 3)
    report.beat()
    assert capsys.readouterr().err == ""


def test_a_training_shows_what_lasts_and_every_validation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    report = training_console.Lines(clock=lambda: now[0])
    report.phase("training on 3 T1 slices")
    report.phase("step")
    report.step(Progress(10, 20))
    scores = {"T1_to_T2/psnr_db": 21.0, "T1_to_T2/copy_psnr_db": 18.0}
    report.step(Progress(20, 20, scores=scores))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training on 3 T1 slices"
    assert lines[1].startswith("step 20/20 T1_to_T2 21.00 dB (copy 18.00)")
    assert len(lines) == 2


def test_loading_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with while_loading("translate", every_s=0.02):
        time.sleep(0.2)
        loaded()
        told = capsys.readouterr().err
        time.sleep(0.1)
    assert told.startswith("translate: loading")
    assert "loading" not in capsys.readouterr().err


def test_quiet_leaves_warnings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from syndiff.cli.command import is_quiet

    arguments = ("phantom", str(tmp_path / "raw"), "--subjects", "1", "--spacing-mm", "8")
    assert call(monkeypatch, *arguments, "--quiet") == 0
    assert is_quiet()
    assert capsys.readouterr().err == ""
    assert call(monkeypatch, "--version") == 0
