"""Find scans: the person, visit and modality of each file, and the reasons for leaving files out.

The layouts are in `layouts`, the words in `names`. Of several versions of one scan (BIDS `acq-`,
`rec-`, `run-`, `desc-`, `space-`; HCP) only one is taken. Versions named in `prefer` come first,
then those with the fewest words in the name, then the lowest run, then the order of names.
Skull-stripped copies are only taken if they are preferred. Folders named `derivatives` and hidden
files are skipped.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from syndiff.errors import DataError, OptionError, UserError
from syndiff.io.atomic import read_json
from syndiff.io.checked import checked
from syndiff.io.dicom import first_dicom
from syndiff.io.formats import SUFFIXES, is_series, stem_of
from syndiff.preparation import layouts, names
from syndiff.preparation.layouts import LeftOut, Reading, read_path, settle
from syndiff.preparation.names import Modalities, words_of
from syndiff.preparation.stored import Channels

LAYOUTS = (
    "sub-X/anat/sub-X_T1w.nii.gz, subject/T1.nii.gz or T1/subject.nii.gz (.nii, .nii.gz or .mgz)"
)
IGNORED = {"derivatives", "sourcedata", "__macosx"}
Found = dict[str, dict[str, Path]]  # subject → modality → file, relative to the raw folder


SHOWN = 5  # names in one line


@dataclass(frozen=True)
class Choice:
    """How scans are chosen if the names are ambiguous.

    Attributes:
        prefer: words of preferred file names, e.g. "acq-mprage".
        unpaired_people: treat equal names in two modalities as two people.
        across_visits: allow pairs of scans from two visits of a person.
    """

    prefer: tuple[str, ...] = ()
    unpaired_people: bool = False
    across_visits: bool = False


@dataclass(frozen=True)
class Cohort:
    """The scans that were found in a folder.

    Attributes:
        files: subject → modality → file. A subject is one visit of a person.
        people: subject → person. The name of a subject is the person's name; if the person has
            several visits, the name of the visit is appended.
        visits: subject → name of the visit; empty if the name has no visit.
        left_out: the files that were left out, with reasons.
        splits: person → split, if a table gives it.
    """

    files: Found
    people: dict[str, str]
    visits: dict[str, str]
    left_out: tuple[LeftOut, ...] = ()
    splits: dict[str, str] = field(default_factory=dict)  # person → split, if a table says so

    @property
    def persons(self) -> list[str]:
        """All people, sorted."""
        return sorted(set(self.people.values()))


def find_cohort(
    raw: Path, modalities: Sequence[str], choice: Choice | None = None, *, strict: bool = True
) -> Cohort:
    """The scans of the wanted modalities under a folder.

    Args:
        raw: the folder to search.
        modalities: the requested modalities, e.g. ("T1", "T2").
        choice: how to choose between ambiguous names.
        strict: refuse ambiguous names; otherwise guess, for a table that the user corrects.

    Raises:
        DataError: the folder or the scans do not exist, or the person of a scan is ambiguous.
        OptionError: two modalities are equal.
    """
    choice = choice or Choice()
    readings, left_out = read_folder(raw, modalities)
    if not readings and (strict or not left_out):
        _refuse_dicom(raw)
        raise DataError(
            f"no scan of {', '.join(modalities)} in {raw}, which holds {contents(raw)}"
            + (f" ({counted(left_out)})" if left_out else ""),
            LAYOUTS,
            layouts.TABLE_REMEDY if left_out else "",
        )
    readings = settle(readings, raw, strict=strict)
    if choice.unpaired_people:
        readings = [replace(r, owner=(r.modality, *r.owner)) for r in readings]
    elif strict:
        _check_twins(readings, modalities, raw)
    chosen, more = versions(readings, choice, raw, strict)
    files, people, visits = subjects_of(chosen, modalities, choice)
    return Cohort(files, people, visits, tuple(sorted((*left_out, *more), key=by_path)))


def _refuse_dicom(raw: Path) -> None:
    """Raise DataError if a folder holds DICOM series in folders of no known layout."""
    found = first_dicom(raw)
    if found is not None:
        raise DataError(
            f"{raw} holds DICOM ({found.relative_to(raw)}) in folders without a modality",
            "each series in a folder or .zip named after its person and modality: sub-01/T1/…",
            "'syndiff series' says which series there are",
        )


def find_scans(raw: Path, modalities: Sequence[str]) -> Found:
    """Subject → modality → file of a folder; see `find_cohort`."""
    return find_cohort(raw, modalities).files


def counted(left_out: Sequence[LeftOut]) -> str:
    """ "2 masks or label maps: a_mask.nii.gz, b_seg.nii.gz; 1 other modalities: …"."""
    reasons: dict[str, list[Path]] = defaultdict(list)
    for left in left_out:
        reasons[left.reason].append(left.path)
    return "; ".join(f"{len(paths)} {reason}: {some(paths)}" for reason, paths in reasons.items())


def overlooked(raw: Path, cohort: Cohort) -> list[str]:
    """BIDS subject folders in which no scan was found, for a warning; sorted names."""
    folders = (p.name for p in raw.iterdir() if p.is_dir() and p.name.startswith("sub-"))
    held = {part for of in cohort.files.values() for path in of.values() for part in path.parts}
    return sorted(name for name in folders if name not in held)


def read_folder(
    raw: Path, modalities: Sequence[str], also: Mapping[str, str] | None = None
) -> tuple[list[Reading], list[LeftOut]]:
    """Read the paths of all image files under a folder; see `layouts`.

    Raises:
        DataError: the folder does not exist.
        OptionError: two modalities are equal.
    """
    if not raw.is_dir():
        raise DataError(f"no folder {raw}", "a folder with scans")
    if len({names.canonical(name) for name in modalities}) != len(modalities):
        raise OptionError(f"the modalities {', '.join(modalities)}", "names that differ")
    known, channels = Modalities(modalities, also), _channels(raw)
    said = [read_path(path, known, channels) for path in _files(raw)]
    readings = [item for item in said if isinstance(item, Reading)]
    return readings, [item for item in said if isinstance(item, LeftOut)]


def _check_twins(readings: Sequence[Reading], modalities: Sequence[str], raw: Path) -> None:
    """Refuse a name in two folders of different modalities: it may be one person or two."""
    held: dict[str, dict[tuple[str, ...], set[str]]] = defaultdict(lambda: defaultdict(set))
    for reading in readings:
        held[reading.owner[-1].lower()][reading.owner].add(reading.modality)
    unclear = [
        owners
        for owners in held.values()
        if len(owners) > 1 and not any(a & b for a, b in _pairs(list(owners.values())))
    ]
    if unclear:
        shown = " and ".join(
            f"{'/'.join(owner)} ({', '.join(sorted(of))})" for owner, of in unclear[0].items()
        )
        more = f" and {len(unclear) - 1} such names more" if len(unclear) > 1 else ""
        raise DataError(
            f"it is unclear whether {shown} in {raw} are one person{more}",
            f"people with {' and '.join(modalities)} in one folder",
            f"`unpaired_people` says that they are different people; else {layouts.TABLE_REMEDY}",
        )


def _pairs(items: Sequence[set[str]]) -> Iterator[tuple[set[str], set[str]]]:
    for i, first in enumerate(items):
        for second in items[i + 1 :]:
            yield first, second


def versions(
    readings: Sequence[Reading], choice: Choice, raw: Path, strict: bool
) -> tuple[list[Reading], list[LeftOut]]:
    """Choose one file for each person, visit and modality; return also the files left out."""
    places: dict[tuple[object, ...], list[Reading]] = defaultdict(list)
    left_out: list[LeftOut] = []
    preferred = [word.lower() for word in choice.prefer]
    for reading in readings:
        words = {word.removeprefix("desc-") for word in reading.version}
        if names.STRIPPED & words and not _wanted(reading, preferred):
            left_out.append(LeftOut(reading.path, layouts.STRIPPED))
            continue
        places[reading.owner, reading.visit, reading.modality].append(reading)
    chosen = []
    for candidates in places.values():
        first, *others = sorted(candidates, key=lambda r: _rank(r, preferred))
        same = [r for r in others if _equal(r, first, preferred)]
        if same and strict:
            raise DataError(
                f"it is unclear which file is the {first.modality} scan of "
                f"{'/'.join((*first.owner, *first.visit))} in {raw}: "
                f"{some([r.path for r in (first, *same)])}",
                "one",
                f"choose with `prefer`, or {layouts.TABLE_REMEDY}",
            )
        chosen.append(first)
        left_out += [LeftOut(r.path, layouts.VERSIONS) for r in others]
    return chosen, left_out


def _wanted(reading: Reading, preferred: Sequence[str]) -> int:
    name = stem_of(reading.path).lower()
    return sum(word in re.split(r"[_. ]", name) or word in words_of(name) for word in preferred)


def _rank(reading: Reading, preferred: Sequence[str]) -> tuple[object, ...]:
    numbers = [int(n) for word in reading.version for n in re.findall(r"\d+", word)]
    suffix = reading.path.name.lower()[len(stem_of(reading.path)) :]
    order = SUFFIXES.index(suffix) if suffix in SUFFIXES else len(SUFFIXES)
    words = len(reading.version)
    return (
        -_wanted(reading, preferred),
        bool(reading.series),
        words,
        numbers,
        reading.version,
        order,
        reading.path,
    )


def _equal(a: Reading, b: Reading, preferred: Sequence[str]) -> bool:
    """Whether two files differ only in the name of a series or of a folder."""
    return (
        a.version == b.version
        and bool(a.series) == bool(b.series)
        and _wanted(a, preferred) == _wanted(b, preferred)
        and a.path.with_name(stem_of(a.path)) != b.path.with_name(stem_of(b.path))
    )


def subjects_of(
    chosen: Sequence[Reading], modalities: Sequence[str], choice: Choice
) -> tuple[Found, dict[str, str], dict[str, str]]:
    """Files, people and visits by subject; a subject is one visit of one person."""
    labels = _labels({reading.owner for reading in chosen})
    of: dict[str, dict[str, dict[str, Path]]] = defaultdict(lambda: defaultdict(dict))
    for reading in chosen:
        of[labels[reading.owner]]["_".join(reading.visit)][reading.modality] = reading.path
    for person, held in of.items():
        if choice.across_visits and not any(set(modalities) <= set(v) for v in held.values()):
            of[person] = {"": {m: p for v in reversed(sorted(held)) for m, p in held[v].items()}}
    return by_subject(of, modalities)


def by_subject(
    held: Mapping[str, Mapping[str, Mapping[str, Path]]], modalities: Sequence[str]
) -> tuple[Found, dict[str, str], dict[str, str]]:
    """Files, people and visits by subject; a subject's name is "person" or "person_visit".

    Args:
        held: person → visit → modality → file.
        modalities: the order of the files.

    Raises:
        DataError: two subjects would have the same name, e.g. person "A_1" and visit 1 of "A".
    """
    files: Found = {}
    people: dict[str, str] = {}
    visits: dict[str, str] = {}
    for person, of in sorted(held.items()):
        for visit, scans in sorted(of.items()):
            subject = f"{person}_{visit}" if len(of) > 1 and visit else person
            if subject in files:
                first, second = (
                    f"visit {v} of {p}" if v else p
                    for p, v in ((people[subject], visits[subject]), (person, visit))
                )
                raise DataError(
                    f"the name {subject} would mean {first} and {second}",
                    "names that tell people and visits apart",
                    "rename one of them, or give a table",
                )
            files[subject] = {m: scans[m] for m in modalities if m in scans}
            people[subject], visits[subject] = person, visit
    return dict(sorted(files.items())), people, visits


def _labels(owners: set[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """A name for each person: the innermost part where that tells them apart, else all parts."""
    last: dict[str, int] = defaultdict(int)
    for owner in owners:
        last[owner[-1].lower()] += 1
    return {o: o[-1] if last[o[-1].lower()] == 1 else "_".join(o) for o in owners}


def _files(raw: Path) -> Iterator[Path]:
    """Image files under `raw`, and folders that stand for one, relative to it, in order."""
    seen: set[str] = set()
    for folder, folders, files in os.walk(raw, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder that was already searched
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(
            f for f in folders if not f.startswith(".") and f.lower() not in IGNORED
        )
        inside = Path(folder).relative_to(raw)
        for name in [f for f in folders if is_series(Path(folder) / f)]:
            folders.remove(name)  # its files are slices, not scans of other subjects
            yield inside / name
        lower = {name.lower() for name in files}
        for name in sorted(files):
            if name.startswith(".") or not name.lower().endswith(SUFFIXES):
                continue
            if name.lower().endswith(".zip") and not is_series(Path(folder) / name):
                continue  # a download that lies beside the scans
            if not (name.lower().endswith(".img") and name.lower()[:-4] + ".hdr" in lower):
                yield inside / name  # a pair counts once


def _channels(raw: Path) -> dict[str, str] | None:
    """nnU-Net's channel number → modality, from dataset.json in the folder or above it."""
    for folder in (raw, raw.resolve().parent):
        try:
            content = read_json(folder / "dataset.json", "description of channels")
            described = checked(Channels, content, folder / "dataset.json")
        except UserError:  # another program's file of this name, or none
            continue
        held = described.channel_names or described.modality
        return {f"{int(number):04d}": name for number, name in held.items()}
    return None


def by_path(left: LeftOut) -> str:
    return left.path.as_posix()


def some(names: Sequence[str | Path]) -> str:
    """The first few of many names, and how many more there are."""
    shown = ", ".join(n.as_posix() if isinstance(n, Path) else n for n in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def contents(raw: Path) -> str:
    """A few names of what a folder holds, for messages."""
    held = sorted(p.name + "/" * p.is_dir() for p in raw.iterdir() if not p.name.startswith("."))
    if not held:
        return "nothing"
    return some(held)
