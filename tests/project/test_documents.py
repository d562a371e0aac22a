"""The documents: commands that exist, a list of pages and an API page that are complete."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

import syndiff
from syndiff import cli

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.glob("*.md")])
COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


def lines(page: Path) -> list[str]:
    """The commands in the bash blocks of a page, continued lines joined."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    return [
        line
        for line in "".join(blocks).replace("\\\n", " ").splitlines()
        if line.startswith("syndiff ")
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    for line in lines(page):
        _, name, *words = shlex.split(line.partition(" >")[0], comments=True)
        if name.startswith("--"):
            continue  # an option of syndiff itself
        context = COMMANDS[name].make_context(name, words, resilient_parsing=False)
        assert not context.args, line


def test_the_starts_have_commands() -> None:
    assert all(lines(page) for page in DOCS.glob("start_*.md"))


def test_the_list_of_pages_is_complete() -> None:
    listed = re.findall(r"\]\(([\w/]+\.md)\)", (DOCS / "index.md").read_text(encoding="utf-8"))
    assert set(listed) == {p.name for p in PAGES[1:]} - {"index.md"} | {"decisions/index.md"}
    decisions = (DOCS / "decisions" / "index.md").read_text(encoding="utf-8")
    pages = {page.name for page in (DOCS / "decisions").glob("*.md")} - {"index.md"}
    assert set(re.findall(r"\]\(([\w]+\.md)\)", decisions)) == pages


def test_the_api_page_is_complete() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    documented = re.findall(r"^::: syndiff\.(\w+)$", page, flags=re.MULTILINE)
    assert sorted(documented) == sorted(set(syndiff.__all__) - {"__version__"})
