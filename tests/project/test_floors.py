"""The house keeps its floors: imports go down only, as docs/architecture.md's table says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOUSE = ROOT / "src" / "syndiff"
NUMPY_ONLY = {
    *("phantom", "preparation", "dicom", "page", "quality"),
    *("io", "memory", "errors", "reporting", "tasks"),
}
AT_INFERENCE = {"inference", "translators", "networks", "diffusion", "anatomy", "losses"}
SLOW_TO_IMPORT = {"torch", "lightning", "nibabel", "SimpleITK", "scipy", "matplotlib", "pydicom"}


@dataclass(frozen=True)
class Import:
    """One import statement: who imports what, where."""

    importer: str  # room, "syndiff" for the package's own __init__.py
    imported: str  # dotted module, e.g. "syndiff.io.volume" or "torch"
    where: str  # file:line
    at_top: bool  # runs as soon as the file is imported

    @property
    def room(self) -> str:
        """The room of syndiff that is imported, "" for other packages and for syndiff itself."""
        head, *rest = self.imported.split(".")
        return rest[0] if head == "syndiff" and rest else ""


def floors() -> dict[str, int]:
    """Room → floor, from the table in docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", text, flags=re.MULTILINE)
    return {room: int(floor) for floor, rooms in rows for room in re.findall(r"`(\w+)`", rooms)}


def room_of(path: Path) -> str:
    """The room that a source file belongs to."""
    first = path.relative_to(HOUSE).parts[0].removesuffix(".py")
    return {"__init__": "syndiff", "__main__": "cli"}.get(first, first)


def imports_of(path: Path) -> Iterator[Import]:
    """Every import statement of a file, inside functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    lazy = {id(n) for f in ast.walk(tree) if isinstance(f, inner) for n in ast.walk(f)}
    lazy |= {id(n) for i in ast.walk(tree) if _is_typing_only(i) for n in ast.walk(i)}
    package = ("syndiff", *path.relative_to(HOUSE).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = _names_from(node, package)
        else:
            continue
        where = f"{path.relative_to(ROOT)}:{node.lineno}"
        for name in names:
            yield Import(room_of(path), name, where, id(node) not in lazy)


def _names_from(node: ast.ImportFrom, package: tuple[str, ...]) -> list[str]:
    """The modules that `from … import …` may load."""
    above = package[: len(package) - node.level + 1] if node.level else ()
    base = ".".join([*above, *([node.module] if node.module else [])])
    return [f"{base}.{alias.name}" for alias in node.names] if base == "syndiff" else [base]


def _is_typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


FLOORS = floors()
IMPORTS = [found for path in sorted(HOUSE.rglob("*.py")) for found in imports_of(path)]


def offenders(*wrong: Import) -> str:
    return "\n".join(f"{i.where}: {i.importer} imports {i.imported}" for i in wrong)


def test_every_room_stands_in_the_table() -> None:
    rooms = {room_of(path) for path in HOUSE.rglob("*.py")} - {"syndiff"}
    assert rooms == set(FLOORS), "docs/architecture.md and src/syndiff name different rooms"


def test_imports_go_down_only() -> None:
    def allowed(i: Import) -> bool:
        if i.importer == "syndiff" or i.room in ("", i.importer, "__version__"):
            return True
        above, below = FLOORS.get(i.importer, -1), FLOORS.get(i.room, 99)
        return above > below or above == below == 0

    assert not (wrong := [i for i in IMPORTS if not allowed(i)]), offenders(*wrong)


def test_ground_floor_has_no_circle() -> None:
    ground = {(i.importer, i.room) for i in IMPORTS if FLOORS.get(i.importer) == 0 and i.room}
    assert not {(a, b) for a, b in ground if a != b and (b, a) in ground}


def test_rooms_of_numpy_never_import_torch() -> None:
    torch = ("torch", "lightning", "torchmetrics", "safetensors.torch")
    wrong = [i for i in IMPORTS if i.importer in NUMPY_ONLY and i.imported.startswith(torch)]
    assert not wrong, offenders(*wrong)


def test_inference_never_imports_training() -> None:
    def is_training(i: Import) -> bool:
        return i.room == "training" or i.imported.split(".")[0] in (
            "lightning",
            "pytorch_lightning",
        )

    wrong = [i for i in IMPORTS if i.importer in AT_INFERENCE and is_training(i)]
    assert not wrong, offenders(*wrong)


def test_command_line_imports_nothing_slow_at_its_top() -> None:
    wrong = [
        i
        for i in IMPORTS
        if i.importer in ("cli", "syndiff")
        and i.at_top
        and i.imported.split(".")[0] in SLOW_TO_IMPORT
    ]
    assert not wrong, offenders(*wrong)


def loaded_by(module: str) -> set[str]:
    """The modules that a fresh interpreter holds after importing `module`."""
    program = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["syndiff", "syndiff.cli"])
def test_importing_the_front_door_loads_nothing_slow(module: str) -> None:
    assert not SLOW_TO_IMPORT & loaded_by(module)


def test_inference_loads_no_training() -> None:
    training = {"lightning", "pytorch_lightning", "syndiff.training"}
    assert not training & loaded_by("syndiff.inference")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("from syndiff import volume", "syndiff.volume"),
        ("from syndiff.io.volume import read", "syndiff.io.volume"),
        ("import syndiff.training.run", "syndiff.training.run"),
        ("from ..volume import read", "syndiff.volume"),
        ("from .. import volume", "syndiff.volume"),
        ("def f():\n    from . import run", "syndiff.training"),
    ],
)
def test_reader_of_imports(line: str, expected: str, monkeypatch, tmp_path: Path) -> None:
    house = tmp_path / "src" / "syndiff"
    (house / "training").mkdir(parents=True)
    monkeypatch.setattr(sys.modules[__name__], "HOUSE", house)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    file = house / "training" / "data.py"
    file.write_text(line)
    (found,) = imports_of(file)
    assert (found.importer, found.imported) == ("training", expected)
    assert found.at_top == (not line.startswith("def"))
