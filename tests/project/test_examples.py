"""The examples: scripts that bash accepts, commands and options that exist, Python that runs."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
from pathlib import Path

import pytest
import typer.main

from syndiff import cli
from syndiff.io import formats
from syndiff.io.volume import same_grid
from tests.helpers.translators import build
from tests.helpers.volumes import head

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.sh"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_commands_and_options_exist(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    command = r'^(?:srun .*?)?(syndiff .*?)(?: "\$\{again\[@\]\}")?$'
    lines = re.findall(command, path.read_text(), flags=re.MULTILINE)
    assert lines
    for line in lines:
        _, name, *words = shlex.split(line)
        context = commands[name].make_context(name, words, resilient_parsing=False)
        assert not context.args


def test_translate_folder(tmp_path: Path) -> None:
    build().save(tmp_path / "model")
    formats.write(head(), tmp_path / "in" / "sub-01_T1w.nii.gz")
    example = runpy.run_path(str(EXAMPLES / "translate_folder.py"))
    example["main"](str(tmp_path / "model"), str(tmp_path / "in"), str(tmp_path / "out"))
    result = formats.read(tmp_path / "out" / "sub-01_T2w.nii.gz")
    assert same_grid(result, head())
