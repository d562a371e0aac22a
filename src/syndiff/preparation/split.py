"""Who is for training, validation and test: always whole subjects, never slices."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from syndiff.errors import DataError, OptionError
from syndiff.preparation.discover import Found
from syndiff.preparation.manifest import SPLITS


def parse_split(text: str) -> dict[str, int]:
    """Numbers of subjects from text such as "train=8,val=2,test=2"; what is not named is 0.

    Raises:
        OptionError: the text says something else.
    """
    expected = "something like train=8,val=2,test=2"
    counts: dict[str, int] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not equals or name not in SPLITS or not number.isdecimal() or name in counts:
            raise OptionError(f"the split {text!r}", expected)
        counts[name] = int(number)
    return {name: counts.get(name, 0) for name in SPLITS}


def assign(
    found: Found,
    modalities: Sequence[str],
    counts: Mapping[str, int] | None,
    split_file: Path | None,
) -> dict[str, str]:
    """Subject → split, for the subjects that are used; training first, names in order.

    Args:
        found: subject → modality → file.
        modalities: all that validation and test subjects must have.
        counts: how many subjects for each split, or
        split_file: a table of subject and split.

    Raises:
        OptionError: neither or both are given, or nobody is left for training.
        DataError: too few subjects, or a validation or test subject lacks a modality.
    """
    if (counts is None) == (split_file is None):
        raise OptionError(
            "no split" if counts is None else "both a split and a split file",
            "one of `split` train=8,val=2,test=2 and `split_file`",
        )
    if split_file is not None:
        splits = _from_file(split_file, found)
    else:
        splits = _in_order(found, counts or {})
    if "train" not in splits.values():
        raise OptionError("a split without training subjects", "at least one")
    _check_complete(found, modalities, splits)
    return splits


def _in_order(found: Found, counts: Mapping[str, int]) -> dict[str, str]:
    """The first subjects for training, the next for validation, the next for test."""
    unknown = [name for name in counts if name not in SPLITS]
    if unknown or min(counts.values(), default=0) < 0:
        raise OptionError(f"the split {dict(counts)}", "numbers of train, val and test subjects")
    wanted = [name for name in SPLITS for _ in range(counts.get(name, 0))]
    if len(wanted) > len(found):
        asked = " + ".join(f"{counts.get(name, 0)} {name}" for name in SPLITS)
        raise DataError(
            f"{len(found)} subjects found", f"{len(wanted)} ({asked})", "ask for fewer in `split`"
        )
    return dict(zip(sorted(found), wanted, strict=False))


def _from_file(path: Path, found: Found) -> dict[str, str]:
    """Subject → split of a table with two columns, separated by tab, comma or semicolon."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the split file {path} cannot be read ({error})") from error
    delimiter = next((d for d in "\t,;" if d in text), "\t")
    splits: dict[str, str] = {}
    for number, row in enumerate(csv.reader(text.splitlines(), delimiter=delimiter), start=1):
        cells = [cell.strip() for cell in row if cell.strip()]
        if not cells or cells[0].startswith("#") or _is_header(number, cells):
            continue
        if len(cells) != 2 or cells[1] not in SPLITS or cells[0] in splits:
            raise DataError(
                f"line {number} of {path}: {' '.join(row)!r}",
                "each subject once, with train, val or test in the second column",
            )
        splits[cells[0]] = cells[1]
    missing = sorted(set(splits) - set(found))
    if missing:
        raise DataError(
            f"{path} names {', '.join(missing[:5])}, of which no scan was found",
            f"names such as {next(iter(sorted(found)))}",
        )
    return dict(sorted(splits.items()))


def _is_header(number: int, cells: list[str]) -> bool:
    return number == 1 and (len(cells) < 2 or cells[1] not in SPLITS) and "split" in cells


def _check_complete(found: Found, modalities: Sequence[str], splits: Mapping[str, str]) -> None:
    """Validation and test compare modalities: their subjects must have them all."""
    for subject, split in splits.items():
        lacking = [m for m in modalities if m not in found[subject]]
        if lacking and split != "train":
            raise DataError(
                f"{subject} of the {split} split has no {' and no '.join(lacking)}",
                "validation and test subjects with all modalities",
                "name such subjects with `split_file`",
            )
    for modality in modalities:
        if not any(modality in found[s] for s, split in splits.items() if split == "train"):
            raise DataError(
                f"no training subject has a {modality} scan",
                "at least one",
                "choose training subjects with `split_file`",
            )
