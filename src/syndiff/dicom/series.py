"""The series of a folder: which there are, what each can be used for, and why not.

One entry of the list is one volume: a series with several echoes or time points gives one entry
for each of them. A series that is no regular grid, a localiser, a derived series and the like stay
in the list, with the reason why they are not taken.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from syndiff.dicom.contrast import contrast_of
from syndiff.dicom.files import sources_of
from syndiff.dicom.frames import TELLING, Frame, Header, Unusable, frames_of
from syndiff.dicom.geometry import Stack, collisions, same_plane, stacked
from syndiff.dicom.options import DicomOptions
from syndiff.errors import UserError, VolumeError
from syndiff.reporting import SILENT, Reporter

NEVER, REGULAR, ASKED = "never", "regular_grid", "series"  # what makes an entry usable
LOCALISER = re.compile(
    r"\b(locali[sz]er|scout|survey|topogram|scanogram|surview)\b", re.IGNORECASE
)
NO_ORIGINAL = re.compile(r"LOCALIZER|PROJECTION IMAGE|ADC|FA|TRACEW?|DERIVED", re.I)
SHOWN = 6
NO_HEADER = Header("", "", "", "", "", (), False, False, None, None, "")


@dataclass(frozen=True)
class Series:
    """One volume that a folder holds, or a reason why there is none.

    Attributes:
        number: its place in the list, from 1.
        header: what the files say of the series.
        files: the number of files.
        stack: the slices in order; None if they make no volume.
        label: what tells it from other volumes of the series: "echo time 90".
        reason: why it is not taken unasked; empty if it can be used.
        needs: which option of `DicomOptions` takes it all the same; "never" if none does.
        remedy: what the user can do.
        taken_for: the modality that description and timing speak for; empty if unclear.
        notes: how the slices were chosen, in sentences.
    """

    number: int
    header: Header
    files: int
    stack: Stack | None = None
    label: str = ""
    reason: str = ""
    needs: str = ""
    remedy: str = ""
    taken_for: str = ""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """A name for messages, without anything that names a patient: "MR series 3"."""
        said = f"{self.header.modality or 'DICOM'} series {self.header.number or self.number}"
        return f"{said} ({self.label})" if self.label else said


def series_of(path: Path, report: Reporter = SILENT) -> list[Series]:
    """The series at a path, sorted by study and number; see `Series`.

    Args:
        path: a folder with all its subfolders, a .zip, or one file.
        report: receives the number of files read.

    Raises:
        VolumeError: no DICOM file is there, or none of them can be read.
    """
    sources = sources_of(path)
    frames: dict[str, list[Frame]] = defaultdict(list)
    odd: list[Unusable] = []
    for done, source in enumerate(sources, start=1):
        found = frames_of(source)
        if isinstance(found, Unusable):
            odd.append(found)
        else:
            frames[found[0].header.series_uid] += found
        report.progress(done, len(sources), source.path.name)
    entries = [entry for held in frames.values() for entry in _entries(held)]
    entries = _with_faults(entries, odd)
    without = [each for each in odd if each.header is None]
    if not entries:
        raise without[0].error
    ordered = [*sorted(entries, key=_order), *([_unreadable(without)] if without else [])]
    return [replace(entry, number=i) for i, entry in enumerate(ordered, start=1)]


def choose(series: Sequence[Series], path: Path, options: DicomOptions) -> Series:
    """The one series to read.

    Raises:
        VolumeError: none or several fit, or the one that fits cannot be used.
    """
    lost = next((s for s in series if not s.header.series_uid), None)
    if lost is not None and not options.series:  # any of them may be a slice
        raise VolumeError(f"{path} holds {lost.reason}", "", lost.remedy)
    if options.series:
        fitting = _named(series, options.series)
        if len(fitting) != 1:
            raise VolumeError(
                f"{len(fitting) or 'none'} of the {len(series)} series in {path} "
                f"{'fits' if len(fitting) < 2 else 'fit'} `series` {options.series!r}: "
                f"{_listed(fitting or series)}",
                "the number of one",
            )
    else:
        fitting = [s for s in series if _usable(s, options)]
        fitting = [s for s in fitting if not s.header.synthetic] or fitting
        if not fitting and len(series) == 1:
            fitting = list(series)
        if len(fitting) != 1:
            raise VolumeError(
                f"{path} holds {len(series)} series, {len(fitting) or 'none'} of which can be "
                f"taken: {_listed(fitting or series)}",
                "one",
                "choose with `series` by number, UID or description",
            )
    (chosen,) = fitting
    if not _usable(chosen, options):
        raise VolumeError(f"{chosen.name} in {path}: {chosen.reason}", "", chosen.remedy)
    return chosen


def _usable(series: Series, options: DicomOptions) -> bool:
    return (
        not series.reason
        or (series.needs == REGULAR and options.regular_grid)
        or (series.needs == ASKED and bool(options.series))
    )


def _named(series: Sequence[Series], text: str) -> list[Series]:
    """The series that a number, UID or description names."""
    if text.isdigit():
        return [s for s in series if s.number == int(text)]
    if uid := [s for s in series if s.header.series_uid == text]:
        return uid
    words = text.lower()
    exact = [s for s in series if _title(s).lower() == words]
    return exact or [s for s in series if words in _title(s).lower()]


def _title(series: Series) -> str:
    label = f" ({series.label})" if series.label else ""
    return f"{series.header.description}{label}"


def _listed(series: Sequence[Series]) -> str:
    shown = [
        f"{s.number} {_title(s) or s.name}" + (f" [{s.reason}]" if s.reason else "")
        for s in series[:SHOWN]
    ]
    more = f" and {len(series) - SHOWN} more" if len(series) > SHOWN else ""
    return ", ".join(shown) + more


def _order(series: Series) -> tuple[object, ...]:
    number = series.header.number
    at = int(number) if number.lstrip("-").isdigit() else 1 << 40
    numbers = [float(n) for n in re.findall(r"\d+\.?\d*", series.label)]
    return series.header.study_uid, at, series.header.series_uid, numbers, series.label


def _unreadable(odd: Sequence[Unusable]) -> Series:
    """The last entry of the list: files of which nothing tells to which series they belong."""
    return Series(
        0,
        NO_HEADER,
        len(odd),
        reason=f"{len(odd)} files that cannot be read: {odd[0].error.found}",
        needs=NEVER,
        remedy="copy them again or move them away; to do without them, choose with `series`",
    )


def _entries(frames: Sequence[Frame]) -> list[Series]:
    """The volumes of one series."""
    first = frames[0]
    files = len({frame.source for frame in frames})
    blank = Series(0, first.header, files)
    frames, notes = _without_copies(frames)
    blank = replace(blank, notes=notes, taken_for=contrast_of(first))
    odd = next((f for f in frames if not same_plane(first, f)), None)
    if odd is not None:
        reason = (
            "slices of several orientations (a localiser?)"
            if odd.shape == first.shape and odd.spacing_mm == first.spacing_mm
            else "slices of several sizes or orientations (a localiser?)"
        )
        return [replace(blank, reason=reason, needs=NEVER)]
    parts = _parts(list(frames), "")
    if parts is None:
        twice = sum(len(group) > 1 for group in collisions(frames))
        reason = f"several images at {twice} positions, which no tag tells apart"
        return [replace(blank, reason=reason, needs=NEVER)]
    found = []
    for label, part in parts:
        whole = {frame.source for frame in part}
        entry = replace(
            blank,
            label=label,
            stack=stacked(part),
            files=len(whole),
            taken_for=contrast_of(part[0]),
        )
        found.append(_judged(entry))
    return found


def _without_copies(frames: Sequence[Frame]) -> tuple[list[Frame], tuple[str, ...]]:
    """One frame of each instance, however often its file is there."""
    held: dict[tuple[str, int], Frame] = {}
    for frame in frames:
        held.setdefault((frame.instance_uid, frame.index), frame)
    copies = len(frames) - len(held)
    notes = (f"{copies} images are there twice and were taken once",) if copies else ()
    return list(held.values()), notes


def _parts(frames: list[Frame], label: str) -> list[tuple[str, list[Frame]]] | None:
    """Volumes with one image at each position; None if no tag tells the images apart."""
    most = max(len(group) for group in collisions(frames))
    if most == 1:
        return [(label, frames)]
    for keyword, words in TELLING.items():
        groups: dict[str, list[Frame]] = defaultdict(list)
        for frame in frames:
            groups[frame.tells_apart[keyword]].append(frame)
        if not 1 < len(groups) <= most:
            continue
        found: list[tuple[str, list[Frame]]] = []
        for value, group in groups.items():
            said = f"{words} {value or 'unknown'}"
            inner = _parts(group, f"{label}, {said}" if label else said)
            if inner is None:
                break
            found += inner
        else:
            return found
    return None


def _judged(entry: Series) -> Series:
    """An entry with the reason why it is not taken unasked, if there is one."""
    assert entry.stack is not None
    if entry.stack.fault:
        single = len(entry.stack.frames) == 1
        return replace(
            entry,
            reason=entry.stack.fault,
            needs=NEVER if single else REGULAR,
            remedy="" if single else "`regular_grid` resamples it to a regular grid",
        )
    header = entry.header
    kind = "\\".join(header.image_type)
    asked = "name it with `series` to take it all the same"
    if LOCALISER.search(header.description) or "LOCALIZER" in header.image_type:
        return replace(entry, reason="a localiser", needs=ASKED, remedy=asked)
    if header.synthetic:
        return entry  # marked in the volume, and judged where a scan is asked for
    if any(NO_ORIGINAL.fullmatch(word) for word in header.image_type):
        return replace(entry, reason=f"a derived series ({kind})", needs=ASKED, remedy=asked)
    return entry


def _with_faults(entries: list[Series], odd: Sequence[Unusable]) -> list[Series]:
    """Entries where a damaged file of a series makes the series unusable, and other series."""
    faults: dict[str, list[Unusable]] = defaultdict(list)
    for each in odd:
        if each.header is not None:
            faults[each.header.series_uid].append(each)
    found = []
    for entry in entries:
        if held := faults.get(entry.header.series_uid):
            reason = f"{len(held)} of its files cannot be used: {held[0].error.found}"
            entry = replace(entry, reason=reason, needs=NEVER, remedy=held[0].error.remedy)
        found.append(entry)
    known = {entry.header.series_uid for entry in entries}
    for uid, held in faults.items():
        if uid not in known and held[0].header is not None:
            error: UserError = held[0].error
            found.append(
                Series(0, held[0].header, len(held), reason=error.found, needs=NEVER,
                       remedy=error.remedy)
            )  # fmt: skip
    return found
