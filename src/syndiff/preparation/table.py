"""A table of scans in place of a layout: read, or written from what was found.

    subject   session   modality   file                    split
    P001      2019      T1         a/t1_mprage.nii.gz      train
    P001      2019      T2         a/t2_tse.nii.gz         train

`subject`, `modality` and `file` are needed, other columns are ignored, and a row without a
modality is left out. Separated by tab, comma or semicolon. Files lie in the folder of scans, or
beside the table.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from syndiff.errors import DataError, OptionError
from syndiff.io.atomic import write_text
from syndiff.preparation.discover import Cohort, by_subject
from syndiff.preparation.layouts import LeftOut
from syndiff.preparation.manifest import SPLITS
from syndiff.preparation.names import canonical
from syndiff.preparation.split import SUBJECT_COLUMNS, read_rows
from syndiff.preparation.stored import is_name

COLUMNS = ("subject", "session", "modality", "file", "split", "note")
NOT_ASKED = "other modalities"
NO_ROW = "rows without a modality"


def names_files(table: Path) -> bool:
    """Whether a table has a column of files; else it says only who is in which split."""
    rows = read_rows(table, "table")
    return bool(rows) and "file" in [cell.lower() for cell in rows[0][1]]


def read_table(table: Path, raw: Path, modalities: Sequence[str]) -> Cohort:
    """The cohort that a table describes.

    Args:
        table: see above.
        raw: folder that the files lie in.
        modalities: wanted; rows of others are left out.

    Raises:
        DataError: the table does not have this form; the message lists the faults of its rows.
    """
    rows = read_rows(table, "table")
    header = [cell.lower() for cell in rows[0][1]] if rows else []
    who = next((column for column in SUBJECT_COLUMNS if column in header), "")
    if not who or "modality" not in header or "file" not in header:
        raise DataError(
            f"the table {table} has the columns {', '.join(header) or 'nothing'}",
            "subject, modality, file and, if you like, session and split",
        )
    wanted = {canonical(name): name for name in modalities}
    held: dict[str, dict[str, dict[str, Path]]] = defaultdict(lambda: defaultdict(dict))
    splits: dict[str, str] = {}
    left_out, faults = [], []
    for number, cells in rows[1:]:
        row = dict(zip(header, cells, strict=False))
        person, file = row.get(who, ""), row.get("file", "")
        modality = wanted.get(canonical(row.get("modality", "")), "")
        if not modality:
            reason = NOT_ASKED if row.get("modality") else NO_ROW
            left_out.append(LeftOut(Path(file), reason))
            continue
        path = _located(file, table, raw) if file else None
        split = row.get("split", "")
        scans = held[person][row.get("session", "")]
        fault = _fault(person, row.get("session", ""), modality, file, path, split, scans, splits)
        if fault:
            faults.append(f"line {number}: {fault}")
            continue
        assert path is not None  # `_fault` has seen to it
        scans[modality] = path
        if split:
            splits[person] = split
    if faults:
        raise DataError(
            f"the table {table} has {len(faults)} faults: {'; '.join(faults[:10])}"
            + (f"; and {len(faults) - 10} more" if len(faults) > 10 else "")
        )
    return _cohort(held, splits, modalities, left_out, table)


def _fault(
    person: str,
    visit: str,
    modality: str,
    file: str,
    path: Path | None,
    split: str,
    scans: dict[str, Path],
    splits: dict[str, str],
) -> str:
    """What is wrong with a row, empty if nothing is."""
    for what, name in (("subject", person), ("session", visit)):
        if name and not is_name(name):
            return f"a {what} named {name[:60]!r}"
    if not person:
        return "no subject is named"
    if path is None:
        return f"no file {file}" if file else "no file is named"
    if split and split not in SPLITS:
        return f"the split {split!r}, which is none of {', '.join(SPLITS)}"
    if split and splits.get(person, split) != split:
        return f"{person} is in two splits"
    if modality in scans:
        return f"a second {modality} scan of one session of {person}"
    return ""


def _located(file: str, table: Path, raw: Path) -> Path | None:
    """A file of the table relative to the folder of scans, None if there is none."""
    for folder in (raw, table.parent):
        if os.path.exists(folder / file):  # False, too, for what can be no path
            return Path(os.path.relpath(folder / file, raw))
    return None


def _cohort(
    held: dict[str, dict[str, dict[str, Path]]],
    splits: dict[str, str],
    modalities: Sequence[str],
    left_out: list[LeftOut],
    table: Path,
) -> Cohort:
    files, people, visits = by_subject(held, modalities)
    if not files:
        raise DataError(f"the table {table} names no scan of {', '.join(modalities)}")
    return Cohort(files, people, visits, tuple(left_out), splits)


def write_table(path: Path, cohort: Cohort, splits: dict[str, str] | None = None) -> None:
    """Write a cohort as a table for the user to correct; files that were left out have a note.

    Raises:
        OptionError: the file exists; it may contain the user's corrections.
    """
    if path.exists():
        raise OptionError(f"the table {path} exists", "a new name", "it is never overwritten")
    lines = ["\t".join(COLUMNS)]
    for subject, of in cohort.files.items():
        person, visit = cohort.people[subject], cohort.visits[subject]
        split = (splits or {}).get(subject, "")
        lines += [
            "\t".join((person, visit, modality, file.as_posix(), split, ""))
            for modality, file in of.items()
        ]
    lines += [
        "\t".join(("", "", "", left.path.as_posix(), "", f"left out: {left.reason}"))
        for left in cohort.left_out
    ]
    write_text(path, "\n".join(lines) + "\n")
