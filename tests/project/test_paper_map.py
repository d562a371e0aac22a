"""docs/paper.md: the files and names exist, and code that is named for an equation cites it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
FILE = re.compile(r"[\w/.-]+\.(?:py|yaml)")
NAMES = re.compile(r"`([\w/.-]+\.(?:py|yaml))`(?::((?: `[\w.]+`,?)+))?")


def section(title: str) -> str:
    """The text below one heading."""
    (text,) = re.findall(rf"^## {re.escape(title)}.*?\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    return text


def rows(text: str) -> list[list[str]]:
    """The cells of the rows of a page's tables, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def named(text: str) -> list[tuple[str, str]]:
    """(file, name) of all that a text names; the name is empty where the file alone is named."""
    return [
        (file, name)
        for file, names in NAMES.findall(text)
        for name in re.findall(r"`([\w.]+)`", names) or [""]
    ]


def located(file: str) -> Path:
    return ROOT / file if file.startswith("examples/") else ROOT / "src" / "syndiff" / file


@cache
def definitions(path: Path) -> dict[str, str]:
    """Source text of every class, function, method, constant and field of a module."""
    source = path.read_text(encoding="utf-8")
    found: dict[str, str] = {}

    def visit(body: list[ast.stmt], before: str) -> None:
        for node in body:
            text = "\n".join(source.splitlines()[node.lineno - 1 : node.end_lineno])
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                found[before + node.name] = text
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [
                getattr(node, "target", None)
            ]  # fmt: skip
            found.update((before + t.id, text) for t in targets if isinstance(t, ast.Name))

    visit(ast.parse(source).body, "")
    return found


def cited(text: str) -> set[int]:
    """Numbers of the equations that a text cites: "Eq. 11", "Eqs. 15, 19 and 20", "Eqs. 8–14"."""
    numbers: set[int] = set()
    for words in re.findall(r"Eqs?\. (\d+(?:(?:, | and |–)\d+)*)", text):
        for part in re.split(r", | and ", words):
            first, _, last = part.partition("–")
            numbers |= set(range(int(first), int(last or first) + 1))
    return numbers


@pytest.mark.parametrize(("file", "name"), sorted(set(named(PAGE))))
def test_what_the_page_names_exists(file: str, name: str) -> None:
    assert located(file).is_file()
    assert not name or name in definitions(located(file))


def test_every_file_of_the_page_is_seen() -> None:
    """A file that is written otherwise than the test expects would not be looked at."""
    assert {file for file, _ in named(PAGE)} == set(re.findall(rf"`({FILE.pattern})`", PAGE))


OF_SYNDIFF = [
    cells for cells in rows(section("SynDiff (Sec. III-B)")) if re.fullmatch(r"[\d, ]+", cells[0])
]


@pytest.mark.parametrize("cells", OF_SYNDIFF, ids=lambda cells: cells[0])
def test_code_cites_its_equation(cells: list[str]) -> None:
    numbers = {int(number) for number in cells[0].split(", ")}
    for file, name in named(cells[-1]):
        assert cited(definitions(located(file))[name]) & numbers, (file, name)


@pytest.mark.parametrize(
    ("titles", "all_of_them"),
    [
        (("Regular diffusion", "SynDiff (Sec. III-B)"), {str(n) for n in range(1, 25)}),
        (("Figures",), set("123456")),
        (("Tables",), {"I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X"}),
    ],
    ids=["equations", "figures", "tables"],
)
def test_nothing_of_the_paper_is_left_out(titles: tuple[str, ...], all_of_them: set[str]) -> None:
    listed = [
        label
        for title in titles
        for cells in rows(section(title))
        for label in cells[0].split(", ")
        if re.fullmatch(r"\d+|[IVX]+", label)
    ]
    assert sorted(listed) == sorted(all_of_them)
