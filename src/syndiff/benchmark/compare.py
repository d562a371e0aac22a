"""Changes between two benchmarks: counts are compared exactly, times as ratios."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from syndiff.errors import OptionError, UserError
from syndiff.io.atomic import read_json
from syndiff.io.checked import Checked, Count, Text, checked

FORMAT = 1
SAME = ("what", "variant", "method", "preset", "networks", "size", "batch", "precision")
EXACT = {  # exactly repeatable: any difference comes from the program
    "flop_per_image": "FLOP/image",
    "allocations": "allocations",
    "allocated_bytes": "bytes allocated",
    "counted_peak_bytes": "peak bytes (counted)",
}
MEASURED = {"seconds_per_image": "s/image", "peak_bytes": "peak bytes"}


class Kind(Checked):
    """The counts of one kind of call, of which nothing else is compared."""

    model_config = ConfigDict(extra="ignore")

    peak_bytes: float
    allocations: float
    allocated_bytes: float


class Line(Checked):
    """One case, of which nothing else is compared."""

    model_config = ConfigDict(extra="ignore")

    what: Text
    variant: Text
    method: Text | None
    preset: Text | None
    networks: Text | None
    size: Count
    batch: Count
    precision: Text
    flop_per_image: float | None = None
    seconds_per_image: float | None = None
    peak_bytes: float | None = None
    counts: Annotated[list[Kind], Field(min_length=1)] | None = None


class Benchmark(Checked):
    """See `run.benchmark`."""

    model_config = ConfigDict(extra="ignore")

    cases: Annotated[list[Line], Field(max_length=100_000)]


@dataclass(frozen=True)
class Change:
    """One quantity of one case.

    Attributes:
        case: the case in words.
        quantity: what changed.
        old, new: its values.
        exact: whether the quantity is exactly repeatable, so that any difference comes from the
            program.
    """

    case: str
    quantity: str
    old: float
    new: float
    exact: bool

    @property
    def percent(self) -> float:
        """Change from old to new, in percent."""
        return 100 * (self.new / self.old - 1) if self.old else float("inf")


def read_benchmark(path: str | Path) -> dict[str, Any]:
    """A file that `syndiff benchmark --out` wrote.

    Raises:
        UserError: the file is missing or is no benchmark.
    """
    content = read_json(path, "benchmark", "make one with `out` of syndiff benchmark")
    if not isinstance(content, dict) or content.get("format") != FORMAT or "cases" not in content:
        raise UserError(f"{path} is no benchmark", "a file that `out` of syndiff benchmark named")
    checked(Benchmark, content, path, "make it again with `out` of syndiff benchmark")
    return content


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Counts that differ, and all times, of the cases that are in both benchmarks.

    Raises:
        OptionError: the benchmarks have no case in common.
    """
    before = {_key(line): line for line in old["cases"]}
    common = [(before[_key(line)], line) for line in new["cases"] if _key(line) in before]
    if not common:
        raise OptionError(
            "no case is in both experiments", "the same options", "repeat those of the old one"
        )
    return [change for a, b in common for change in _changes(a, b)]


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    case = f"{new['what']}, {new['variant']}, {new['size']}², b{new['batch']}, {new['precision']}"
    found = []
    for names, exact in ((EXACT, True), (MEASURED, False)):
        for name, words in names.items():
            a, b = _value(old, name), _value(new, name)
            if a is not None and b is not None and (a != b or not exact):
                found.append(Change(case, words, a, b, exact))
    return found


def _value(line: Mapping[str, Any], name: str) -> float | None:
    """A quantity of a case: its own, or the sum (peak: the maximum) over its kinds of call."""
    if name in line or "counts" not in line:
        return line.get(name)
    if name == "counted_peak_bytes":
        return max(kind["peak_bytes"] for kind in line["counts"])
    if name in ("allocations", "allocated_bytes"):
        return sum(kind[name] for kind in line["counts"])
    return None


def _key(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(line[name] for name in SAME)
