"""Split people into training, validation and test; all visits of a person stay together."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from syndiff.errors import DataError, OptionError, UserError
from syndiff.io.atomic import read_text
from syndiff.io.checked import checked
from syndiff.preparation.discover import Cohort, counted
from syndiff.preparation.manifest import SPLITS
from syndiff.preparation.stored import Cells

Counts = Mapping[str, int]
Shares = tuple[float, float, float]  # of training, validation and test, in percent
DEFAULT_SHARES: Shares = (80.0, 10.0, 10.0)
SUBJECT_COLUMNS = ("subject", "participant_id", "subject_id", "participant", "id")


def parse_split(text: str) -> dict[str, int] | Shares:
    """Numbers of people from "train=8,val=2,test=2" (0 where not named), or shares "80/10/10".

    Raises:
        OptionError: the text says something else.
    """
    expected = "something like train=8,val=2,test=2 or 80/10/10"
    if "/" in text:
        try:
            train, val, test = (float(part) for part in text.split("/"))
        except ValueError as error:
            raise OptionError(f"the split {text!r}", expected) from error
        if min(train, val, test) < 0 or abs(train + val + test - 100) > 0.01:
            raise OptionError(f"the split {text!r}", f"{expected}: percents that add up to 100")
        return train, val, test
    counts: dict[str, int] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not equals or name not in SPLITS or not number.isdecimal() or name in counts:
            raise OptionError(f"the split {text!r}", expected)
        counts[name] = int(number)
    return {name: counts.get(name, 0) for name in SPLITS}


def assign(
    cohort: Cohort,
    modalities: Sequence[str],
    split: Counts | Shares | None = None,
    split_file: Path | None = None,
) -> dict[str, str]:
    """Subject → split, for the subjects that are used; names in order.

    People are assigned in the order of their names: first to training, then to validation, then
    to test. Numbers and shares count people; all visits of a person are in the same split.
    Validation and test only take people who have every modality, unless there are none.

    Args:
        cohort: the scans that were found.
        modalities: the requested modalities.
        split: numbers of people, or shares in percent; None: 80/10/10.
        split_file: a table of subject (or person) and split, in place of `split`.

    Raises:
        OptionError: both `split` and `split_file` are given, or no person is used.
        DataError: there are too few people, or a modality has no training scan.
    """
    if split is not None and split_file is not None:
        raise OptionError("both a split and a split file", "one of `split` and `split_file`")
    if split_file is not None:
        splits = _from_file(split_file, cohort)
    elif cohort.splits and split is None:
        splits = {s: cohort.splits[p] for s, p in cohort.people.items() if p in cohort.splits}
    else:
        chosen = DEFAULT_SHARES if split is None else split
        people = _by_counts(cohort, modalities, _counts(chosen, cohort, modalities))
        splits = {s: people[p] for s, p in cohort.people.items() if p in people}
    if not splits:
        raise OptionError("a split without anybody", "at least one person")
    _check_training(cohort, modalities, splits)
    return dict(sorted(splits.items()))


def lacking(cohort: Cohort, modalities: Sequence[str]) -> list[str]:
    """People without any visit that has every modality, sorted."""
    whole = {cohort.people[s] for s, of in cohort.files.items() if set(modalities) <= set(of)}
    return [person for person in cohort.persons if person not in whole]


def _counts(split: Counts | Shares, cohort: Cohort, modalities: Sequence[str]) -> Counts:
    """Numbers of people, from shares where shares are asked for."""
    if isinstance(split, Mapping):
        unknown = [name for name in split if name not in SPLITS]
        if unknown or min(split.values(), default=0) < 0:
            raise OptionError(f"the split {dict(split)}", "numbers of train, val and test people")
        return split
    n = len(cohort.persons)
    whole = n - len(lacking(cohort, modalities)) or n
    held: dict[str, int] = {}
    for name, share in (("test", split[2]), ("val", split[1])):
        wanted = max(1, round(n * share / 100)) if share and n > len(held) + 1 else 0
        held[name] = min(wanted, max(whole - sum(held.values()), 0))
    if split[0] == 0:  # nobody is to train: what rounding left goes to the larger part
        held["test" if split[2] >= split[1] else "val"] += whole - sum(held.values())
        return {"train": 0, **held}
    return {"train": n - sum(held.values()), **held}


def _by_counts(cohort: Cohort, modalities: Sequence[str], counts: Counts) -> dict[str, str]:
    """Person → split: the first people for training, the next for validation, then for test."""
    incomplete = set(lacking(cohort, modalities))
    people = cohort.persons
    paired = len(incomplete) < len(people)
    if not paired and len(modalities) > 1:
        people = _alternating(cohort, modalities)  # so that each part gets each modality
    asked = " + ".join(f"{counts.get(name, 0)} {name}" for name in SPLITS)
    total = sum(counts.get(name, 0) for name in SPLITS)
    if total > len(people):
        left_out = counted(cohort.left_out)
        raise DataError(
            f"{len(people)} people found" + (f" (left out: {left_out})" if left_out else ""),
            f"{total} ({asked})",
            "ask for fewer in `split`",
        )
    splits: dict[str, str] = {}
    spare = sum(counts.get(name, 0) for name in ("val", "test")) if paired else 0
    left = list(people)
    for _ in range(counts.get("train", 0)):
        whole = [person for person in left if person not in incomplete]
        others = [person for person in left if person in incomplete]
        # Complete people are kept for validation and test where there are just enough of them.
        first = others[0] if others and len(whole) <= spare else left[0]
        splits[first] = "train"
        left.remove(first)
    for name in ("val", "test"):
        fitting = [person for person in left if not paired or person not in incomplete]
        wanted = counts.get(name, 0)
        if len(fitting) < wanted:
            raise DataError(
                f"{len(fitting)} people are left for the {name} split who have "
                f"{' and '.join(modalities)} ({len(incomplete)} of {len(people)} lack one)",
                f"{wanted} ({asked})",
                "ask for fewer in `split`, or name people with `split_file`",
            )
        for person in fitting[:wanted]:
            splits[person] = name
            left.remove(person)
    return splits


def _alternating(cohort: Cohort, modalities: Sequence[str]) -> list[str]:
    """People in turn by modality: the first of each, the second of each …"""
    holders: dict[str, list[str]] = {modality: [] for modality in modalities}
    for subject, of in cohort.files.items():
        for modality in of:
            if cohort.people[subject] not in holders[modality]:
                holders[modality].append(cohort.people[subject])
    turns = zip_longest(*holders.values())
    return list(dict.fromkeys(person for turn in turns for person in turn if person))


def read_rows(path: Path, what: str) -> list[tuple[int, list[str]]]:
    """Read a table separated by tab, comma or semicolon, without comment lines.

    Args:
        path: the table.
        what: the kind of table, for messages.

    Returns:
        (line number, cells) of each row.

    Raises:
        DataError: the table cannot be read.
    """
    try:
        text = read_text(path, what)
    except UserError as error:
        raise DataError(error.found, error.expected, error.remedy) from error
    delimiter = next((d for d in "\t,;" if d in text), "\t")
    rows = []
    try:
        for number, row in enumerate(csv.reader(text.splitlines(), delimiter=delimiter), start=1):
            cells = [cell.strip() for cell in row]
            if any(cells) and not cells[0].startswith("#"):
                checked(Cells, cells, f"line {number} of {path}", error=DataError)
                rows.append((number, cells))
    except csv.Error as error:
        raise DataError(f"the {what} {path} is no table ({error})") from error
    return rows


def _from_file(path: Path, cohort: Cohort) -> dict[str, str]:
    """Subject → split of a table: two columns, or columns named subject and split among others."""
    rows = read_rows(path, "split file")
    known = set(cohort.people) | set(cohort.people.values())
    header = [cell.lower() for cell in rows[0][1]] if rows else []
    name_at, split_at = 0, 1
    if "split" in header:
        split_at = header.index("split")
        name_at = next((header.index(c) for c in SUBJECT_COLUMNS if c in header), 1 - split_at)
        rows = rows[1:]
    named: dict[str, str] = {}
    for number, row in rows:
        cells = row if "split" in header else [cell for cell in row if cell]
        cells += [""] * (max(name_at, split_at) + 1 - len(cells))
        name, split = cells[name_at], cells[split_at]
        if "split" in header and not split:
            continue  # a person that is not to be used
        again = named.get(name, split) != split or ("split" not in header and name in named)
        if not name or split not in SPLITS or again or ("split" not in header and len(cells) > 2):
            raise DataError(
                f"line {number} of {path}: {' '.join(row)!r}",
                "each subject once, with train, val or test in the second column",
            )
        named[name] = split
    missing = sorted(set(named) - known)
    if missing:
        raise DataError(
            f"{path} names {', '.join(missing[:5])}, of which no scan was found",
            f"names such as {next(iter(sorted(known)))}",
        )
    return _of_people(named, cohort, path)


def _of_people(named: Mapping[str, str], cohort: Cohort, path: Path) -> dict[str, str]:
    """Subject → split from names of people or of their visits; a person is in one split."""
    splits: dict[str, str] = {}
    parts: dict[str, dict[str, str]] = {}
    for subject, person in cohort.people.items():
        split = named.get(subject, named.get(person))
        if split is not None:
            splits[subject] = split
            parts.setdefault(person, {})[split] = subject
    torn = {person: of for person, of in parts.items() if len(of) > 1}
    if torn:
        person, of = next(iter(torn.items()))
        where = " and ".join(f"{subject} in {split}" for split, subject in of.items())
        more = f" and {len(torn) - 1} people more" if len(torn) > 1 else ""
        raise DataError(
            f"{path} puts visits of {person} into several splits ({where}){more}",
            "all visits of a person in one split",
        )
    return splits


def _check_training(cohort: Cohort, modalities: Sequence[str], splits: Mapping[str, str]) -> None:
    """Each modality needs a scan, and where anybody trains a training scan."""
    training = [s for s, split in splits.items() if split == "train"]
    for modality in modalities:
        if not any(modality in scans for scans in cohort.files.values()):
            raise DataError(
                f"nobody has a {modality} scan, of {len(cohort.files)} subjects",
                "at least one",
                "name modalities as the scans' files or folders do, e.g. T1, T2, FLAIR, CT",
            )
        if not any(modality in cohort.files[s] for s in training or splits):
            raise DataError(
                f"no {'training ' if training else ''}subject has a {modality} scan",
                "at least one",
                "choose training subjects with `split_file`",
            )
