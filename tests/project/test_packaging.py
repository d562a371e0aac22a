"""What pyproject.toml says is what other files of the repository repeat."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def listed() -> dict[str, str]:
    """Package → the extra that brings it, as THIRD_PARTY.md says."""
    text = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w.-]+) \| .* \| ([`\w]+) \|$", text, flags=re.MULTILINE)
    return {name: extra for name, extra in rows if name != "package"}


def test_one_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, flags=re.MULTILINE) == [PROJECT["version"]]
    boutiques = json.loads((ROOT / "integrations" / "boutiques" / "syndiff.json").read_text())
    assert boutiques["tool-version"] == PROJECT["version"]


def test_licences_are_those_of_the_pinned_packages() -> None:
    """After a change of dependencies: `make licences`."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {normalised(line.partition("==")[0]) for line in lines if "==" in line}
    assert {name for name, extra in listed().items() if extra != "`dicom`"} == pinned


def test_every_dependency_has_a_lower_bound_once() -> None:
    extras = PROJECT["optional-dependencies"]
    groups = [PROJECT["dependencies"], *(extras[name] for name in sorted(extras))]
    lines = [line for group in groups for line in group if not line.startswith("syndiff[")]
    names = [normalised(re.split(r"[\[<>=]", line)[0]) for line in lines]
    assert len(names) == len(set(names))
    unbounded = {name for name, line in zip(names, lines, strict=True) if ">=" not in line}
    assert unbounded <= {"types-pyyaml"}  # follows PyYAML
    assert set(names) <= set(listed())
