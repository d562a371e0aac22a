"""A folder of scans as a source of slices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import DataError, UserError
from syndiff.io.formats import mark_of, read
from syndiff.preparation.discover import Choice, Cohort, Found, find_cohort, overlooked, some
from syndiff.preparation.identical import check_bytes, check_voxels
from syndiff.preparation.intensity import is_ct
from syndiff.preparation.labels import refuse_labels
from syndiff.preparation.layouts import LeftOut
from syndiff.preparation.measure import MeasureOptions, measured, restore_cache, slices_cache
from syndiff.preparation.source import Fault
from syndiff.preparation.split import Counts, Shares, assign, lacking
from syndiff.preparation.table import names_files, read_table
from syndiff.reporting import SILENT, Reporter


@dataclass(frozen=True)
class Request:
    """The requested scans and their split.

    Attributes:
        split: numbers of people, or shares in percent; None: 80/10/10.
        split_file: a table of subject and split, in place of `split`.
        table: a table of scans, see `table`; without a column `file`, of subjects and splits.
        choice: how to choose between ambiguous names.
        allow_synthetic: accept synthetic images as scans.
    """

    split: Counts | Shares | None = None
    split_file: Path | None = None
    table: Path | None = None
    choice: Choice = field(default_factory=Choice)
    allow_synthetic: bool = False


@dataclass(frozen=True)
class ScanFolder:
    """A folder of scans; see `source.Source` for its methods.

    Attributes:
        raw, files, splits, unused: see `source.Source`.
        measure: the options of the first pass.
        work: folder of the cached measurements.
        report: receives warnings.
        cohort: all scans that were found, including those of people in no split.
        lacking: people in no split who lack a modality.
        synthetic: synthetic images that were accepted as scans.
        skipped: scans that cannot be used and are left out.
    """

    raw: Path
    files: Found
    splits: dict[str, str]
    unused: list[str]
    measure: MeasureOptions
    work: Path
    report: Reporter
    cohort: Cohort
    lacking: tuple[str, ...] = ()
    synthetic: tuple[Path, ...] = ()
    skipped: tuple[Fault, ...] = ()

    @classmethod
    def find(
        cls,
        raw: Path,
        work: Path,
        measure: MeasureOptions,
        request: Request,
        report: Reporter = SILENT,
    ) -> ScanFolder:
        """Find scans, split their people, and warn of everything that is left out.

        Raises:
            DataError: there are no scans or too few for the split, a scan is in two splits, or
                synthetic images are not allowed.
            OptionError: two splits are given.
        """
        modalities = measure.modalities
        cohort, splits = found_and_split(raw, modalities, request)
        files = {subject: cohort.files[subject] for subject in splits}
        synthetic = _synthetic(raw, files, measure, request.allow_synthetic, report)
        check_bytes(raw, files, splits, report)
        unused = sorted(set(cohort.files) - set(splits))
        passed = [
            p for p in lacking(cohort, modalities) if p in {cohort.people[s] for s in unused}
        ]
        if unused:
            report.warn(f"{len(unused)} subjects are in no split and left out: {some(unused)}")
        missed = overlooked(raw, cohort) if request.table is None else []
        if missed:
            report.warn(f"no scan taken in {len(missed)} subject folders: {some(missed)}")
        return cls(
            raw, files, splits, unused, measure, work, report, cohort, tuple(passed), synthetic
        )

    @property
    def options(self) -> dict[str, Any]:
        """The options of registration and of the choice of slices."""
        return {
            "register": self.measure.register,
            "register_training": self.measure.register_training,
            "max_slices": self.measure.max_slices,
            "units": self.measure.units,
            "series": dict(self.measure.series) or None,
            "regular_grid": self.measure.regular_grid or None,
            "hu_offset": self.measure.hu_offset or None,
        }

    @property
    def left_out(self) -> dict[str, Any]:
        """The files and people that were left out, as the manifest records them."""
        return {
            "files": [_said(left) for left in self.cohort.left_out],
            "people_lacking_a_modality": list(self.lacking),
            "skipped": [
                {
                    "subject": fault.subject,
                    "file": fault.path.as_posix() if fault.path else None,
                    "reason": f"{fault.error}",
                }
                for fault in self.skipped
            ],
            "synthetic": [path.as_posix() for path in self.synthetic],
        }

    def notes(self, subject: str) -> dict[str, Any]:
        """Person and visit of a subject, for its entries in the manifest."""
        return {"person": self.cohort.people[subject], "visit": self.cohort.visits[subject]}

    def records(self, subject: str) -> dict[str, dict[str, Any]]:
        """The measurements of a subject's scans; from the cache if it is valid."""
        return self._measured(subject, need_slices=False)

    def faults(self, subject: str, error: UserError) -> list[Fault]:
        """Every scan of a subject that cannot be used, after one of them raised an error."""
        found = []
        for modality, path in self.files[subject].items():
            if f"{self.raw / path}" in f"{error}":
                found.append(Fault(subject, path, error))
                continue
            try:
                volume = read(self.raw / path, **self.measure.reading(modality))
                if not is_ct(modality):
                    refuse_labels(volume.array, f"{self.raw / path}")
            except UserError as other:
                found.append(Fault(subject, path, other))
        return found or [Fault(subject, None, error)]

    def without(self, faults: Sequence[Fault]) -> ScanFolder:
        """The same folder without scans that cannot be used.

        Raises:
            DataError: no person is left, or a modality has no training scan left.
        """
        bad = {(fault.subject, fault.path) for fault in faults}
        files = {
            s: kept
            for s, of in self.files.items()
            if (s, None) not in bad
            and (kept := {m: p for m, p in of.items() if (s, p) not in bad})
        }
        splits = {s: split for s, split in self.splits.items() if s in files}
        training = [s for s, split in splits.items() if split == "train"]
        for modality in self.measure.modalities:
            if not any(modality in files[s] for s in training or files):
                raise DataError(
                    f"without the {len(bad)} scans that cannot be used no {modality} scan is left "
                    f"{'for training' if training else 'at all'}"
                )
        for fault in faults:
            self.report.warn(f"left out: {fault.error}")
        return replace(self, files=files, splits=splits, skipped=(*self.skipped, *faults))

    def only(self, subject: str) -> ScanFolder:
        """The same folder with one subject, small enough to be sent to another process."""
        cohort = Cohort(
            {subject: self.files[subject]},
            {subject: self.cohort.people[subject]},
            {subject: self.cohort.visits[subject]},
        )
        splits = {subject: self.splits[subject]}
        return replace(
            self,
            files=dict(cohort.files),
            splits=splits,
            unused=[],
            cohort=cohort,
            lacking=(),
            synthetic=(),
            skipped=(),
        )

    def check_records(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse scans with equal voxels in two splits; see `identical`."""
        reading = self.measure.reading
        check_voxels(self.raw, self.files, self.splits, records, self.report, reading)

    def apart(self, subject: str, reasons: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Measure again, with scans (modality → reason) that are not pairs with the first."""
        return self._measured(subject, need_slices=False, apart=reasons)

    def parts(self, subject: str, modality: str) -> Iterator[NDArray[np.float32]]:
        """The chosen slices of a scan, all at once."""
        cache = slices_cache(self.work, subject, modality)
        if not cache.is_file():  # the records came from the manifest of an earlier run
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


def found_and_split(
    raw: Path, modalities: Sequence[str], request: Request
) -> tuple[Cohort, dict[str, str]]:
    """The cohort of a folder or a table, and the split of each subject that is used."""
    if not raw.is_dir():
        raise DataError(f"no folder {raw}", "a folder with scans")
    split, split_file = request.split, request.split_file
    if request.table is not None and names_files(request.table):
        cohort = read_table(request.table, raw, modalities)
    else:
        cohort = find_cohort(raw, modalities, request.choice)
        split_file = split_file or request.table
    return cohort, assign(cohort, modalities, split, split_file)


def _synthetic(
    raw: Path, files: Found, measure: MeasureOptions, allowed: bool, report: Reporter
) -> tuple[Path, ...]:
    """The files that carry the mark of a synthetic image; refused unless they are allowed."""
    marked = [
        path
        for of in files.values()
        for modality, path in of.items()
        if mark_of(raw / path, **measure.reading(modality))
    ]
    if not marked:
        return ()
    said = some(marked)
    if not allowed:
        raise DataError(
            f"{len(marked)} synthetic images among the scans in {raw}: {said}",
            "acquired scans",
            "move them away; `allow_synthetic` takes them nevertheless, and the manifest says so",
        )
    report.warn(f"{len(marked)} synthetic images are taken for scans: {said}")
    return tuple(marked)


def _said(left: LeftOut) -> dict[str, str]:
    return {"file": left.path.as_posix(), "reason": left.reason}
