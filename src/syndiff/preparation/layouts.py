"""Read person, visit and modality from a path, for all supported layouts of files.

The rules are tried in this order, and the first that fits decides (the words are in `names`):

    1  masks and label maps           …_seg, …_dseg, …mask, labels/…          no scan
    2  BIDS                           sub-X/ses-Y/anat/sub-X_ses-Y_acq-Z_run-1_T1w
    3  a modality in the name         subject/T1, subject/subject_T1, IXI-T1/IXI002-T1,
                                      Patient-001/week-000/T1, T1w/T1w_acpc_dc_restore,
                                      BraTS-GLI-00017-000-t1n, PATIENT/DATE/T1, site/ID/T1
    4  a modality in a folder's name  T1/subject, subject/T1/anything
    5  a channel, where dataset.json  imagesTr/case_0000                      nnU-Net
       says which modality it is
    6  nothing of these               no scan

The remaining parts of folders and name identify the person. `settle` decides for all files
together which part is a site, a person or a visit, and refuses ambiguous folders.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from syndiff.errors import DataError
from syndiff.io.formats import stem_of
from syndiff.preparation import names
from syndiff.preparation.names import Modalities, words_of

NO_SCAN = "masks or label maps"
OTHER_MODALITY = "other modalities"
NO_MODALITY = "names without a modality"
UNKNOWN = "names of no known layout"
CHANNEL = "numbered channels (nnU-Net) without a dataset.json"
VERSIONS = "further runs or versions of a scan that was taken"
STRIPPED = "skull-stripped copies"
DISAGREE = "names of another person than their folder"
TABLE_REMEDY = (
    "say who is who with `table`; `write_table` writes what was found for you to correct"
)


@dataclass(frozen=True)
class LeftOut:
    """A file that was not taken, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Reading:
    """The person, visit and modality that a path names.

    Attributes:
        path: the path relative to the folder that was searched.
        modality: the modality as the user spells it.
        owner: the folders and the name that identify the person, outermost first, without visits.
        visit: the parts that distinguish the person's visits; empty if there are none.
        version: the words that distinguish several files of one visit and modality.
        series: a file name that only distinguishes several series; else empty.
    """

    path: Path
    modality: str
    owner: tuple[str, ...]
    visit: tuple[str, ...] = ()
    version: tuple[str, ...] = ()
    series: str = ""


def read_path(
    path: Path, modalities: Modalities, channels: Mapping[str, str] | None = None
) -> Reading | LeftOut:
    """Read a path by the rules above.

    Args:
        path: a file or a DICOM folder, relative to the folder of scans.
        modalities: the modalities that are looked for.
        channels: nnU-Net's channel number ("0000") → modality.
    """
    stem, words = stem_of(path), words_of(stem_of(path))
    folders = [stem_of(part) for part in path.parts[:-1]]
    if (
        any(names.NO_SCAN.fullmatch(word) for word in words)
        or (words and names.NO_SCAN_AT_THE_END.fullmatch(words[-1]))
        or any(names.NO_SCAN_FOLDER.fullmatch(folder.lower()) for folder in folders)
    ):
        return LeftOut(path, NO_SCAN)
    if re.match(r"sub-[^_]+_", stem):
        return _bids(path, stem, folders, modalities)
    if (marked := modalities.marked(words)) is not None:
        return _named(path, stem, folders, modalities, marked)
    if channel := re.fullmatch(r"(.+)_(\d{4})", stem):
        if channels is None:
            return LeftOut(path, CHANNEL)
        modality = modalities.of(channels.get(channel[2], ""))
        if not modality:
            return LeftOut(path, OTHER_MODALITY)
        return _reading(path, modality, [*folders, channel[1]], modalities)
    return _in_modality_folder(path, stem, folders, modalities)


def _bids(
    path: Path, stem: str, folders: Sequence[str], modalities: Modalities
) -> Reading | LeftOut:
    person, *parts = stem.split("_")
    if (modality := modalities.of(parts[-1])) is None:
        known = modalities.marked(words_of(stem)) is not None
        return LeftOut(path, UNKNOWN if known else OTHER_MODALITY)
    if not modality:
        return LeftOut(path, OTHER_MODALITY)
    own = next((f for f in folders if f.startswith("sub-")), person)
    if own != person:
        return LeftOut(path, DISAGREE)
    visit = next((part for part in parts if re.match(r"sess?-", part)), "")  # OASIS-3: sess-
    outside = folders[: folders.index(own)] if own in folders else []
    reading = _reading(path, modality, [*outside, person], modalities)
    visits = (visit,) if visit else tuple(f for f in folders if f.startswith("ses-"))
    version = tuple(sorted(part for part in parts[:-1] if not re.match(r"sess?-", part)))
    return replace(reading, visit=visits, version=version)


def _named(
    path: Path,
    stem: str,
    folders: Sequence[str],
    modalities: Modalities,
    marked: tuple[int, int, str],
) -> Reading | LeftOut:
    """Read a name with a modality; the person comes before it, the version after it."""
    first, last, modality = marked
    if not modality:
        return LeftOut(path, OTHER_MODALITY)
    places = [m.span() for m in re.finditer(r"[^-_. ]+", stem)]
    before = stem[: places[first][0]].strip("-_. ") if first else ""
    behind = [stem[a:b] for a, b in places[last:]]
    folders = _without_modality(folders, modality, modalities)
    owner = [folder for folder in folders if folder.lower() not in names.NEUTRAL]
    if before.lower() in names.NEUTRAL:
        before = ""
    if before and owner and _begins(before, owner[-1]):
        rest = before[len(owner[-1]) :].strip("-_. ")
        if not rest or rest.lower() in names.NEUTRAL:
            before = ""
        elif names.SESSION.fullmatch(rest):
            folders, before = [*folders, rest], ""
        elif not _visit_of(before):
            return LeftOut(path, UNKNOWN)  # P001/P001_localizer_T1
    tail = "_".join(behind)
    if behind and not before and not owner and re.search(r"\d", tail):
        return _reading(path, modality, [*folders, tail], modalities)  # T1_001
    if behind and names.SESSION.fullmatch(tail):
        folders, behind = [*folders, tail], []
    within = len(folders) < len(path.parts) - 1 and any(map(_numbered, owner))  # sub01/T1/…
    known = all(names.VERSION.fullmatch(word.lower()) for word in behind)
    if within and (before or not known):
        return replace(_reading(path, modality, folders, modalities), series=stem)
    if not known:
        return LeftOut(path, UNKNOWN)
    parts = [*folders, before] if before else folders
    reading = _reading(path, modality, parts, modalities)
    return replace(reading, version=tuple(word.lower() for word in behind))


def _in_modality_folder(
    path: Path, stem: str, folders: Sequence[str], modalities: Modalities
) -> Reading | LeftOut:
    """T1/subject and subject/T1/anything: the innermost folder that names a modality decides."""
    for i in reversed(range(len(folders))):
        if (marked := modalities.marked(words_of(folders[i]))) is None:
            continue
        if not marked[2]:
            return LeftOut(path, OTHER_MODALITY)
        left = _without_modality(folders, marked[2], modalities)
        if any(map(_numbered, _without_modality(folders[: i + 1], marked[2], modalities))):
            return replace(_reading(path, marked[2], left, modalities), series=stem)
        return _reading(path, marked[2], [*left, stem], modalities)
    return LeftOut(path, NO_MODALITY)


def _numbered(folder: str) -> bool:
    """Whether a folder may name a person: it contains a number and does not name a site."""
    plain = folder.lower() not in names.NEUTRAL and not names.GROUP.fullmatch(folder)
    return plain and re.search(r"\d", folder) is not None


def _begins(name: str, folder: str) -> bool:
    """Whether a name begins with a folder's name as whole words."""
    behind = name[len(folder) :]
    return name.lower().startswith(folder.lower()) and not behind[:1].isalnum()


def _without_modality(folders: Sequence[str], modality: str, modalities: Modalities) -> list[str]:
    """Folders without the words that name the file's modality: IXI-T1 → IXI, T1 → nothing."""
    left = []
    for i, folder in enumerate(folders):
        marked = modalities.marked(words_of(folder))
        plain = modalities.of(folder) is not None and (i == len(folders) - 1 and i > 0)
        if marked is None or (marked[2] != modality and not plain):
            left.append(folder)
        elif marked[2] == modality and not plain:
            places = [m.span() for m in re.finditer(r"[^-_. ]+", folder)]
            behind = folder[places[marked[1] - 1][1] :].strip("-_. ")
            behind = "" if names.VERSION.fullmatch(behind.lower()) else behind  # T1w_MPR1
            if rest := (folder[: places[marked[0]][0]] + behind).strip("-_. "):
                left.append(rest)
    return left


def _reading(path: Path, modality: str, parts: Sequence[str], modalities: Modalities) -> Reading:
    """Divide folders and name into owner and visit."""
    owner: list[str] = []
    visit: list[str] = []
    for part in parts:
        if part.lower() in names.NEUTRAL and modalities.of(part) != modality:
            continue
        if names.SESSION.fullmatch(part):
            visit.append(part)
            continue
        both = _visit_of(part)
        person = both[0] if both else part
        if both and not any(both[1].startswith(held) for held in visit):
            visit.append(both[1])
        if person not in owner:
            owner.append(person)
    if visit and not any(not names.GROUP.fullmatch(name) for name in owner):
        owner.append(visit.pop(0))  # a date or v1 that is all there is to name a person
    return Reading(path, modality, tuple(owner), tuple(visit))


def _visit_of(name: str) -> tuple[str, str] | None:
    """Person and visit of a name that holds both."""
    for pattern in names.PERSON_AND_VISIT:
        if found := pattern.fullmatch(name):
            return found[1], found[2]
    return None


def settle(readings: Sequence[Reading], raw: Path, *, strict: bool = True) -> list[Reading]:
    """Decide for all files which parts of `owner` are sites, the person and visits.

    Args:
        readings: the readings of one folder.
        raw: the folder, whose name is the person's if a path has no other.
        strict: refuse ambiguous folders; otherwise the innermost part is taken as the person.

    Returns:
        The readings with sites and, last, the person in `owner`; further parts move to `visit`.

    Raises:
        DataError: it is unclear whether folders name sites or people.
    """
    children: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for reading in readings:
        for i in range(len(reading.owner)):
            children[reading.owner[:i]].add(reading.owner[i])
    settled = []
    for reading in readings:
        owner = reading.owner or (raw.resolve().name,)
        depth = _depth(owner, children)
        if not depth and strict:
            raise _unclear(readings, owner, raw)
        depth = depth or len(owner)
        rest = tuple(part for part in owner[depth:])
        settled.append(replace(reading, owner=owner[:depth], visit=(*reading.visit, *rest)))
    return settled


def _depth(owner: tuple[str, ...], children: Mapping[tuple[str, ...], set[str]]) -> int:
    """How many parts of an owner name the person, sites included; 0 if that is unclear."""
    if len(owner) < 2:
        return len(owner)
    groups = [bool(names.GROUP.fullmatch(part)) for part in owner]
    people = [i for i, p in enumerate(owner) if names.PERSON.fullmatch(p) and not groups[i]]
    if len(people) == 1:
        return people[0] + 1
    inner = [
        i
        for i in range(1, len(owner))
        if _begins(owner[i], owner[i - 1]) and re.search(r"\d", owner[i - 1])
    ]
    if inner:
        return inner[0]  # OAS30001/OAS30001_MR_x
    numbered = [i for i, part in enumerate(owner) if re.search(r"\d", part) and not groups[i]]
    if len(numbered) == 1:
        return numbered[0] + 1
    # Where each folder holds one, or one folder holds them all, nothing is to be decided.
    if all(len(held) == 1 for outside, held in children.items() if outside):
        return len(owner)
    if not numbered and all(groups[:-1]):
        return len(owner)
    if len(children[()]) == 1:
        inside = {k[1:]: v for k, v in children.items() if k}
        below = _depth(owner[1:], inside)
        return below + 1 if below else 0
    return 0


def _unclear(readings: Sequence[Reading], owner: tuple[str, ...], raw: Path) -> DataError:
    """The error for folders that may be sites with people or people with visits."""
    alike = [r.path.as_posix() for r in readings if len(r.owner) == len(owner)]
    shown = ", ".join(alike[:3]) + (f" and {len(alike) - 3} more" if len(alike) > 3 else "")
    return DataError(
        f"it is unclear whether {owner[0]} in {raw} is a site with people or a person with "
        f"visits ({shown})",
        "names such as site-1/…, patient-1/… or …/ses-1",
        TABLE_REMEDY,
    )
