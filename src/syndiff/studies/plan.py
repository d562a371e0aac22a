"""What a study is asked for: budget, seeds, sizes; and what it will take."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from syndiff.errors import OptionError
from syndiff.studies.definitions import Column, Row, Study, names, study_named

BUDGET = re.compile(r"(\d+(?:\.\d+)?)(m|steps)")
SHOWN_MINUTES = 10  # of a cell, in the list of studies


@dataclass(frozen=True)
class Budget:
    """Of one training: steps or minutes; the other is 0.

    Attributes:
        steps: batches.
        minutes: of wall time, with reading, validations and export.
    """

    steps: int = 0
    minutes: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Budget:
        """ "10m" or "3000steps".

        Raises:
            OptionError: it is neither, or 0.
        """
        found = BUDGET.fullmatch(text.strip())
        number = float(found[1]) if found else 0.0
        if not found or not 0 < number < 1e9 or (found[2] == "steps" and number % 1):
            raise OptionError(
                f"`budget` {text}", "minutes such as 10m, or steps such as 3000steps"
            )
        return cls(int(number)) if found[2] == "steps" else cls(0, number)

    @property
    def words(self) -> str:
        return f"{self.steps} steps" if self.steps else f"{self.minutes:g} minutes"


@dataclass(frozen=True)
class Options:
    """How the cells of a study are computed; one folder holds cells of the same options.

    Attributes:
        budget: of each training.
        seeds: number of trainings of each cell.
        size: rows and columns of the slices.
        preset: of the training settings.
        profile: by which the scores are computed.
        sampling_steps: of chains that can be cut short (ddpm, unit_ddpm, the ℓ1 projector).
        people: split → number of virtual people; empty: as many as the paper has.
        max_slices: of a scan; 0: all.
        samples: of unconditional synthesis.
        tiny: smallest networks and data, two rows, one column.
        device: "auto", "cpu" or "cuda".

    Raises:
        OptionError: a value is out of range.
    """

    budget: Budget = Budget(steps=3000)
    seeds: int = 3
    size: int = 64
    preset: str = "small"
    profile: str = "paper"
    sampling_steps: int = 50
    people: tuple[tuple[str, int], ...] = ()
    max_slices: int = 0
    samples: int = 16
    tiny: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= 1000:
            raise OptionError(f"`seeds` {self.seeds}", "1 to 1000")
        if self.preset == "github":
            raise OptionError("`preset` github", "small, default or paper, which all methods have")

    def record(self) -> dict[str, Any]:
        """As JSON; without what does not change the figures."""
        content = asdict(self) | {"people": dict(self.people), "budget": self.budget.words}
        del content["seeds"], content["device"]
        return content


def tiny(options: Options) -> Options:
    """The same in seconds: it shows that every part works, and nothing else."""
    return replace(
        options,
        budget=Budget(steps=2),
        seeds=1,
        size=32,
        preset="small",
        sampling_steps=4,
        people=(("train", 1), ("val", 1), ("test", 1)),
        max_slices=2,
        samples=2,
        tiny=True,
    )


def check(study: Study, options: Options, workers: int) -> None:
    """Refuse what a study cannot do.

    Raises:
        OptionError: see the message.
    """
    if study.kind == "cost" and workers > 1:
        raise OptionError(f"`workers` {workers} with {study.name}", "1: it measures time")
    if options.budget.minutes and any(row.one_shot_share for row in study.rows):
        raise OptionError(
            f"`budget` {options.budget.minutes:g}m with {study.name}",
            "steps, such as 3000steps: its rows stop a module after a share of them",
        )


def columns_of(study: Study, options: Options, modalities: set[str] | None) -> tuple[Column, ...]:
    """The columns that are computed.

    Args:
        study: the study.
        options: how.
        modalities: of the data that were given; None for virtual cohorts.

    Raises:
        OptionError: the data have none of the columns' modalities.
    """
    found = study.columns
    if modalities is not None and study.kind != "cost":
        # Without the cohorts, columns of the same task are one.
        tasks = {(c.source, c.target): c for c in reversed(found) if c.cohort != "accelerated"}
        kept = tuple(c for c in found if c in tasks.values() and c.modalities <= modalities)
        if not kept:
            needed = " or ".join(dict.fromkeys("+".join(sorted(c.modalities)) for c in found))
            raise OptionError(
                f"`data` with {', '.join(sorted(modalities))} for {study.name}", needed
            )
        found = kept
    return found[:1] if options.tiny else found


def rows_of(study: Study, options: Options) -> tuple[Row, ...]:
    """The rows that are computed; of a tiny study of trainings the first and the last."""
    rows = study.trainings
    return (rows[0], rows[-1]) if options.tiny and study.kind != "cost" else rows


def listed() -> list[str]:
    """One line per study: what it compares, needs and takes."""
    lines = []
    for study in map(study_named, names()):
        cells = len(study.trainings) * len(study.columns)
        trainings = cells + len(study.columns) * sum(row.pretrain for row in study.trainings)
        cohorts = (
            ", ".join(dict.fromkeys(c.cohort for c in study.columns if c.cohort)) or "no data"
        )
        takes = (
            f"{cells} measurements of about a minute"
            if study.kind == "cost"
            else f"{trainings} trainings per seed: {trainings * SHOWN_MINUTES / 60:.1f} h at "
            f"{SHOWN_MINUTES} minutes each"
        )
        lines.append(f"{study.name:8} Table {study.table}: {study.title}")
        lines.append(f"{'':8} needs {cohorts}; {takes}")
    return lines


def out_folders(out: Path, study: Study, column: Column, row: str, seed: int) -> Path:
    """The folder of a cell."""
    return Path(out) / "cells" / column.name / row / f"seed{seed}"


def people_of(options: Options, paper: Mapping[str, int]) -> dict[str, int]:
    """Split → number of virtual people."""
    return dict(options.people) or dict(paper)
