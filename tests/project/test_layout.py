"""How the tests lie: folders as in src/syndiff, and no file of tests imports another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
HOUSE = ROOT / "src" / "syndiff"
FOLDERS = {path.parent.name for path in HOUSE.glob("*/__init__.py")}
ROOMS = FOLDERS | {path.stem for path in HOUSE.glob("*.py")}
# Of no room: what tests share, the repository itself, additions as a newcomer writes them, kills,
# and the scripts of experiments/.
OTHERS = {"helpers", "project", "extending", "experiments", "reliability"}
FILES = sorted(TESTS.rglob("*.py"))


def test_folders_are_those_of_the_source() -> None:
    folders = {path.parent.name for path in TESTS.glob("*/__init__.py")}
    assert FOLDERS <= folders <= ROOMS | OTHERS


def test_a_file_of_tests_lies_in_a_rooms_folder() -> None:
    above = {path.parent for path in FILES if path.name.startswith("test_")}
    assert {folder.parent for folder in above} == {TESTS}
    assert TESTS / "helpers" not in above


def modules_imported(text: str) -> Iterator[str]:
    """Dotted names of all modules that a file may load, inside functions too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def of_a_test_file(module: str) -> bool:
    return any(part.startswith("test_") or part == "conftest" for part in module.split("."))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_nothing_is_imported_from_a_file_of_tests(path: Path) -> None:
    """What two files share lies in tests/helpers."""
    wrong = [m for m in modules_imported(path.read_text(encoding="utf-8")) if of_a_test_file(m)]
    assert not wrong


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from tests.helpers.tiny import TINY", False),
        ("from tests.io.test_volume import head", True),
        ("from tests.io import test_volume", True),
        ("from .test_volume import head", True),
        ("def f():\n    import tests.conftest", True),
    ],
)
def test_imports_are_seen(line: str, found: bool) -> None:
    assert any(of_a_test_file(m) for m in modules_imported(line)) == found
