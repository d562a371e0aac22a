"""A folder of scans as a source of slices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.preparation.discover import Found, find_scans, overlooked
from syndiff.preparation.measure import MeasureOptions, measured, restore_cache, slices_cache
from syndiff.preparation.split import assign
from syndiff.reporting import SILENT, Reporter


@dataclass(frozen=True)
class ScanFolder:
    """Scans of persons; see `source.Source` for what it offers.

    Attributes:
        measure: what the first pass depends on.
        work: folder for what was measured already.
        report: told in one line each what a person should know.
    """

    raw: Path
    files: Found
    splits: dict[str, str]
    unused: list[str]
    measure: MeasureOptions
    work: Path
    report: Reporter

    @classmethod
    def find(
        cls,
        raw: Path,
        work: Path,
        measure: MeasureOptions,
        split: Mapping[str, int] | None,
        split_file: Path | None,
        report: Reporter = SILENT,
    ) -> ScanFolder:
        """Look for scans and divide their subjects; warns of what is left out.

        Raises:
            DataError: there are none, or not those that the split needs.
            OptionError: no split, or two.
        """
        found = find_scans(raw, measure.modalities)
        ordered = {s: {m: of[m] for m in measure.modalities if m in of} for s, of in found.items()}
        splits = assign(ordered, measure.modalities, split, split_file)
        unused = sorted(set(found) - set(splits))
        if unused:
            report.warn(f"{len(unused)} subjects are in no split and left out: {_some(unused)}")
        missed = overlooked(raw, found)
        if missed:
            report.warn(f"no readable scan in {len(missed)} subject folders: {_some(missed)}")
        return cls(raw, {s: ordered[s] for s in splits}, splits, unused, measure, work, report)

    @property
    def options(self) -> dict[str, Any]:
        """How scans of a person are brought together and chosen from."""
        return {
            "register": self.measure.register,
            "register_training": self.measure.register_training,
            "max_slices": self.measure.max_slices,
            "units": self.measure.units,
        }

    def records(self, subject: str) -> dict[str, dict[str, Any]]:
        """What was measured at a subject's scans; from the cache if it is in order."""
        return self._measured(subject, need_slices=False)

    def apart(self, subject: str, reasons: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """The same once more, with scans (modality → why) that are no pair with the first."""
        return self._measured(subject, need_slices=False, apart=reasons)

    def parts(self, subject: str, modality: str) -> Iterator[NDArray[np.float32]]:
        """The chosen slices of a scan, all at once."""
        cache = slices_cache(self.work, subject, modality)
        if not cache.is_file():  # its numbers came from an earlier run's manifest
            self._measured(subject, need_slices=True)
        yield np.load(cache, allow_pickle=False)  # n y x

    def restore(self, subject: str, records: Mapping[str, Any]) -> None:
        """Put records into the cache."""
        files = self.files[subject]
        restore_cache(
            self.work, subject, self.splits[subject], files, self.raw, self.measure, records
        )

    def _measured(
        self, subject: str, need_slices: bool, apart: Mapping[str, str] | None = None
    ) -> dict[str, dict[str, Any]]:
        return measured(
            subject,
            self.splits[subject],
            self.files[subject],
            self.raw,
            self.work,
            self.measure,
            self.report,
            need_slices=need_slices,
            apart=apart,
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
