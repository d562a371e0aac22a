"""README's commands run in order in an empty folder: small ones at once, as they stand if slow."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from syndiff import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SET_UP = {"make demo", "make test", "python3 -m venv .venv", ". .venv/bin/activate"}


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The lines of the bash blocks, continued ones joined."""
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def run(words: list[str], folder: Path) -> str:
    """Run one command in `folder`; what it printed."""
    environment = os.environ | {"PYTHONWARNINGS": "", "COLUMNS": "120"}
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{shlex.join(words)} ended with {done.returncode}:\n{said}"
    assert "Traceback" not in said, said
    return said


def test_only_set_up_is_left_out() -> None:
    others = [line for line in commands() if shlex.split(line)[0] != "syndiff"]
    assert {line for line in others if not line.startswith("pip install ")} == SET_UP


# What makes a command small, and changes nothing else that a reader would see.
SMALLER = {
    "phantom": ["--spacing-mm", "4"],
    "prepare": ["--size", "32", "--no-register"],
    "train": ["--max-steps", "2", "--batch-size", "1"],
    "evaluate": ["--device", "cpu"],
}


def test_commands_and_python_on_a_small_cohort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: the order of commands, their options, and the paths that they hand on."""
    monkeypatch.chdir(tmp_path)
    for line in commands():
        program, *arguments = shlex.split(line)
        if program != "syndiff":
            continue
        monkeypatch.setattr(sys, "argv", [program, *arguments, *SMALLER.get(arguments[0], [])])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code, line + capsys.readouterr().err
    assert (tmp_path / "sub-006_T2w.nii.gz").is_file()
    assert (tmp_path / "report" / "report.html").is_file()
    for program in blocks("python"):
        exec(program, {})
    assert (tmp_path / "sub-006_T2w_python.nii.gz").is_file()


@pytest.mark.slow
def test_commands_and_python(tmp_path: Path) -> None:
    entry = str(Path(sys.executable).with_name("syndiff"))
    used = []
    for line in commands():
        program, *arguments = shlex.split(line)
        if program == "syndiff":
            run([entry, *arguments], tmp_path)
            used.append(arguments[0])
    assert used == ["phantom", "prepare", "train", "translate", "evaluate", "info"]
    assert (tmp_path / "sub-006_T2w.nii.gz").is_file()
    assert (tmp_path / "report" / "report.html").is_file()
    models = json.loads((tmp_path / "report" / "metrics.json").read_text())["models"]
    assert {"mine", "copy", "histogram"} <= set(models)

    for program in blocks("python"):
        run([sys.executable, "-c", program], tmp_path)
    assert (tmp_path / "sub-006_T2w_python.nii.gz").is_file()


def test_table_of_commands_is_complete() -> None:
    listed = set(re.findall(r"^\| `syndiff (\w+)", README, flags=re.MULTILINE))
    entry = str(Path(sys.executable).with_name("syndiff"))
    help_text = run([entry, "--help"], ROOT)
    assert listed == set(re.findall(r"^(?:│ |  )([a-z]+)\s{2,}", help_text, flags=re.MULTILINE))
