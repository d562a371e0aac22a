"""The studies as they are declared in tables.toml, and the paper's figures of paper.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from syndiff.errors import OptionError


@dataclass(frozen=True)
class Cohort:
    """A cohort of virtual people.

    Attributes:
        name: its key.
        words: what it is.
        stands_for: the paper's data set.
        modalities: of every person.
        people: split → number.
        anatomy: "brain" or "pelvis".
        lesions: of each head.
        accelerate: modality → undersampling, such as "4x4".
    """

    name: str
    words: str
    stands_for: str
    modalities: tuple[str, ...]
    people: Mapping[str, int]
    anatomy: str = "brain"
    lesions: int = 0
    accelerate: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """A task: modalities of a cohort; no source in unconditional synthesis."""

    cohort: str
    source: str
    target: str

    @property
    def title(self) -> str:
        prefix = "acc. " if self.cohort == "accelerated" else ""
        return prefix + (f"{self.source}→{self.target}" if self.source else self.target)

    @property
    def name(self) -> str:
        """As folders are named."""
        task = f"{self.source}_to_{self.target}" if self.source else self.target
        return f"{self.cohort}-{task}" if self.target else "cost"

    @property
    def modalities(self) -> set[str]:
        return {self.source, self.target} - {""}


@dataclass(frozen=True)
class Row:
    """A method, or a variant of SynDiff.

    Attributes:
        name: as the table shows it.
        method: to train.
        set: hyper-parameters, those of the study's base included.
        pretrain: whether the one-shot module is trained alone in an earlier run.
        one_shot_share: share of the passes after which the one-shot module is frozen; 0: never.
    """

    name: str
    method: str = "syndiff"
    set: Mapping[str, Any] = field(default_factory=dict)
    pretrain: bool = False
    one_shot_share: float = 0.0

    @property
    def folder(self) -> str:
        """Its name without what a folder's name should not have."""
        return re.sub(r"[^\w.=-]+", "_", self.name).strip("_")

    def same_training(self, other: Row) -> bool:
        """Whether both rows are one training."""
        return (self.method, self.set, self.pretrain, self.one_shot_share) == (
            other.method, other.set, other.pretrain, other.one_shot_share,
        )  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """A figure of a table.

    Attributes:
        name: its key in a cell's values.
        title: with its unit.
        digits: that are shown.
        better: "higher" or "lower".
        factor: what is shown, relative to the value.
    """

    name: str
    title: str
    digits: int
    better: str
    factor: float = 1.0

    def shown(self, value: float) -> str:
        return f"{self.factor * value:.{self.digits}f}"


SCORES = (
    Measure("psnr_db", "PSNR (dB)", 2, "higher"),
    Measure("ssim", "SSIM (%)", 2, "higher", 1e2),
)
COSTS = (
    Measure("training_s", "training (s)", 3, "lower"),
    Measure("inference_s", "inference (s)", 3, "lower"),
    Measure("memory_gb", "memory (GB)", 2, "lower"),
)
FID = (Measure("fid", "FID", 2, "lower"),)
MEASURES = {"translation": SCORES, "cost": COSTS, "unconditional": FID}
COST = Column("", "", "")  # of a study without data


@dataclass(frozen=True)
class Study:
    """A table of the paper.

    Attributes:
        name: "table2".
        title: what it compares.
        table: the paper's number, in Roman.
        kind: "translation", "unconditional" or "cost".
        columns, rows: of the table.
        paper: row → one text of figures per column, as printed.
    """

    name: str
    title: str
    table: str
    kind: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    paper: Mapping[str, tuple[str, ...]]

    @property
    def measures(self) -> tuple[Measure, ...]:
        return MEASURES[self.kind]

    @property
    def trainings(self) -> tuple[Row, ...]:
        """The rows that differ from those above them."""
        return tuple(row for row in self.rows if self.trained_as(row) is row)

    def trained_as(self, row: Row) -> Row:
        """The first row with the same settings."""
        return next(first for first in self.rows if first.same_training(row))

    def printed(self, row: str, column: Column) -> tuple[str, ...]:
        """The paper's figures of a cell: one per measure; empty texts where it has none."""
        texts = dict(zip(self.columns, self.paper.get(row, ()), strict=False))
        figures = texts.get(column, "").split()
        return (*figures, *[""] * (len(self.measures) - len(figures)))


@cache
def _content(name: str) -> dict[str, Any]:
    text = files("syndiff.studies").joinpath(name).read_text(encoding="utf-8")
    return tomllib.loads(text)


def names() -> tuple[str, ...]:
    """Of all studies, in the paper's order."""
    return tuple(_content("tables.toml")["studies"])


def study_named(name: str) -> Study:
    """The study of that name.

    Raises:
        OptionError: there is none.
    """
    content = _content("tables.toml")
    if name not in content["studies"]:
        raise OptionError(
            f"the study {name!r}", f"one of {', '.join(names())}", "see 'syndiff study list'"
        )
    entry, printed = content["studies"][name], _content("paper.toml")[name]
    base = content["bases"][entry["base"]] if "base" in entry else {}
    rows = content["rows"][entry["rows"]] if isinstance(entry["rows"], str) else entry["rows"]
    return Study(
        name,
        entry["title"],
        printed["table"],
        entry["kind"],
        tuple(map(_column, entry["columns"])) or (COST,),
        tuple(Row(**{**row, "set": {**base, **row.get("set", {})}}) for row in rows),
        {row: tuple(texts) for row, texts in printed["rows"].items()},
    )


def _column(text: str) -> Column:
    cohort, _, task = text.partition(":")
    source, _, target = task.rpartition(">")
    return Column(cohort, source, target)


def cohort_named(name: str) -> Cohort:
    """A virtual cohort of tables.toml."""
    entry = dict(_content("tables.toml")["cohorts"][name])
    return Cohort(name, **{**entry, "modalities": tuple(entry["modalities"])})


def tiny_networks(method: str) -> dict[str, Any]:
    """Hyper-parameters of the smallest networks of a method."""
    return dict(_content("tables.toml")["tiny"][method])
