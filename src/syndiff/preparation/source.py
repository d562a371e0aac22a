"""The protocol of data sources: what the recipe needs from a folder of scans or .mat files."""

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
    """A scan that cannot be used; if `path` is None, the subject's scans do not fit together."""

    subject: str
    path: Path | None
    error: UserError


class Source(Protocol):
    """Slices of the requested modalities on their native grids, and their measurements."""

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
        """The options of this kind of source, as the manifest records them."""

    @property
    def left_out(self) -> dict[str, Any]:
        """The files and people that were left out, with reasons, as the manifest records them."""

    def notes(self, subject: str) -> dict[str, Any]:
        """Person and visit of a subject, for the manifest."""

    def faults(self, subject: str, error: UserError) -> list[Fault]:
        """Every scan of a subject that cannot be used, after `records` raised an error."""

    def without(self, faults: Sequence[Fault]) -> Source:
        """The same source without these scans."""

    def check_records(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Check the records of all subjects together, e.g. for scans that occur twice."""

    def records(self, subject: str) -> dict[str, dict[str, Any]]:
        """The first pass over a subject: modality → plain values, see `measure.measured`."""

    def apart(self, subject: str, reasons: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Repeat the first pass, with scans (modality → reason) that are not pairs."""

    def parts(self, subject: str, modality: str) -> Iterator[NDArray[np.float32]]:
        """The chosen native slices (n, y, x) in acquired units, in order, some at a time."""

    def restore(self, subject: str, records: Mapping[str, Any]) -> None:
        """Take a subject's records from a manifest, so that its scans need not be read again."""
