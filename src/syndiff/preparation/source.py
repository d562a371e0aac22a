"""Where slices come from: what the recipe asks of scans in a folder or of other stores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import UserError
from syndiff.preparation.discover import Found


@dataclass(frozen=True)
class Fault:
    """A scan that cannot be used; with `path` None a subject whose scans do not fit together."""

    subject: str
    path: Path | None
    error: UserError


class Source(Protocol):
    """Slices of some modalities on their own grids, and what was measured there."""

    @property
    def raw(self) -> Path:
        """The folder that holds the files."""

    @property
    def files(self) -> Found:
        """Subject → modality → path relative to `raw`; only subjects that are used."""

    @property
    def splits(self) -> dict[str, str]:
        """Subject → "train", "val" or "test"."""

    @property
    def unused(self) -> list[str]:
        """Subjects that are in no split."""

    @property
    def options(self) -> dict[str, Any]:
        """What was asked of this kind of source, as the manifest holds it."""

    @property
    def left_out(self) -> dict[str, Any]:
        """What was not taken and why, as the manifest holds it."""

    def notes(self, subject: str) -> dict[str, Any]:
        """What the manifest says of a subject beside its records: person and visit."""

    def faults(self, subject: str, error: UserError) -> list[Fault]:
        """Every scan of a subject that cannot be used, after `records` raised an error."""

    def without(self, faults: Sequence[Fault]) -> Source:
        """The same without scans that cannot be used."""

    def check_records(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse what only the records of all subjects together show."""

    def records(self, subject: str) -> dict[str, dict[str, Any]]:
        """The first pass over a subject: modality → plain values, as `measure.measured` makes."""

    def apart(self, subject: str, reasons: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """The first pass once more; these scans (modality → why) are no pair with the first."""

    def parts(self, subject: str, modality: str) -> Iterator[NDArray[np.float32]]:
        """The chosen native slices (n, y, x) in acquired units, in order, some at a time."""

    def restore(self, subject: str, records: Mapping[str, Any]) -> None:
        """Remember a subject's records from a manifest, so that it need not be read again."""
