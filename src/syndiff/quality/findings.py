"""The checks: each looks at the whole data set and returns findings with their remedies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syndiff.preparation.discover import some
from syndiff.preparation.judgement import tell_profiles
from syndiff.preparation.names import canonical
from syndiff.quality.examine import Examined
from syndiff.quality.seen import Seen, likeness
from syndiff.reporting import Remembering

SPOILS, LOOK = "would spoil training", "look at it"
FEWEST, FEW = 3, 8  # people to train on: fewer spoil it, fewer are worth a word
FEW_TESTED = 5  # people from which a difference can be told from chance
MANY_BLANK = 0.05  # share of a scan's slices
CLIPPED, BADLY_CLIPPED = 0.02, 0.1  # share of the tissue; the rule of preparation clips 0.001
OTHER_SIZE, WRONG_SIZE = 0.2, 0.35  # relative difference from the median head
SAME_SCAN = 0.99  # of the coarse images; see docs/quality.md
TURNED = 0.05  # so much more like the others when it is turned over; real scans: -0.1 or less
OTHER_CONTRAST = 0.1  # so much more like the scans of another modality
FEW_ALIKE = 3  # other scans that are needed to say what is usual
HISTOGRAM, SPREADS = 0.06, 5.0  # least distance that is worth a word; and in usual distances
OFFSET_MM, OFFSET_PX = 2.0, 1.0  # a pair lies wrongly if both are exceeded
SPACING = 1.5  # times the usual voxel size
SEEN_CONTRASTS = ("t1", "t2", "flair")


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        level: SPOILS or LOOK.
        check: the name of the check, e.g. "duplicates".
        says: what was found, in a sentence.
        who: the scans or people that it concerns.
        remedy: what to do about it, in a sentence.
    """

    level: str
    check: str
    says: str
    who: tuple[str, ...]
    remedy: str

    def line(self) -> str:
        """For the terminal."""
        names = f": {some(self.who)}" if self.who else ""
        return f"{self.level}: {self.says}{names}; {self.remedy}"


def findings(examined: Examined) -> list[Finding]:
    """All findings, those that would spoil training first."""
    found = [finding for check in CHECKS for finding in check(examined)]
    return sorted(found, key=lambda finding: finding.level != SPOILS)


def unreadable(e: Examined) -> Iterable[Finding]:
    for fault in e.faults:
        yield Finding(SPOILS, "unreadable", fault.says, (fault.name,), fault.remedy)
    if empty := [s.name for s in e.scans if s.empty]:
        yield Finding(
            SPOILS, "blank", "nothing in these scans looks like tissue", _named(empty),
            "look at the files; prepare without them",
        )  # fmt: skip


def numbers(e: Examined) -> Iterable[Finding]:
    """Values that are not numbers, blank slices, clipped values."""
    if bad := [f"{s.name} ({s.bad} values)" for s in e.scans if s.bad]:
        yield Finding(
            SPOILS, "nan", "values that are not finite", _named(bad),
            "one of them makes every weight NaN; delete the folder and prepare the data again",
        )  # fmt: skip
    for level, chosen in _graded(e.scans, lambda s: len(s.blank) / max(s.count, 1), 0, MANY_BLANK):
        yield Finding(
            level, "blank", "blank slices",
            tuple(f"{s.name} ({len(s.blank)} of {s.count})" for s in chosen),
            "they were lost in export or masked; mend the scan, or prepare without it",
        )  # fmt: skip
    for level, chosen in _graded(e.scans, lambda s: s.clipped, CLIPPED, BADLY_CLIPPED):
        yield Finding(
            level, "clipped", "tissue that is clipped at the brightest value",
            tuple(f"{s.name} ({s.clipped:.0%})" for s in chosen),
            "export the scan again with its full range of values; if many scans are clipped, "
            "prepare with the intensity rule `robust`",
        )  # fmt: skip


def duplicates(e: Examined) -> Iterable[Finding]:
    """One scan under two names; with a copy in another split the scores are worthless."""
    across: list[str] = []
    within: list[str] = []
    for modality in e.modalities:
        scans = e.of(modality)
        for i, a in enumerate(scans):
            for b in scans[i + 1 :]:
                if a.person != b.person and likeness(a.coarse, b.coarse) > SAME_SCAN:
                    (across if a.split != b.split else within).append(f"{a.name} = {_placed(b)}")
    within += [" = ".join(group) for group in e.same if not _told(group, within)]
    if across:
        yield Finding(
            SPOILS, "duplicates", "the same scan in two splits", _named(across),
            "keep one of them, or put both names into one split with `split_file`",
        )  # fmt: skip
    if within:
        yield Finding(
            LOOK if e.manifest else SPOILS, "duplicates", "the same scan under two names",
            _named(within), "remove one of them; split by chance, a copy may be tested on",
        )  # fmt: skip


def mirrored(e: Examined) -> Iterable[Finding]:
    """Pairs that fit better when one is mirrored; scans that lie upside down or back to front."""
    remedy = "the file's orientation is wrong: convert it again from DICOM, or mend its affine"
    if pairs := [pair.name for pair in e.pairs if pair.looks_mirrored]:
        yield Finding(
            SPOILS, "mirrored", "one of the two scans is mirrored, left to right", _named(pairs),
            remedy,
        )  # fmt: skip
    for axis, words in ((1, "back to front"), (2, "upside down")):
        turned = [
            s.name
            for s in e.scans
            if (usual := _usual(e, s.modality, but=s)) is not None
            and likeness(np.flip(s.coarse, axis), usual) > likeness(s.coarse, usual) + TURNED
        ]
        if turned:
            yield Finding(SPOILS, "mirrored", f"scans that lie {words}", _named(turned), remedy)


def contrasts(e: Examined) -> Iterable[Finding]:
    """Scans that look like another modality than their name says."""
    wrong = []
    for s in e.scans:
        label = canonical(s.modality)
        looks = s.contrast.lower()
        if label in SEEN_CONTRASTS and looks in SEEN_CONTRASTS and looks != label:
            wrong.append(f"{s.name} looks like {s.contrast}")
        elif (label not in SEEN_CONTRASTS or not looks) and (other := _nearer(e, s)):
            wrong.append(f"{s.name} looks like {other}")
    if wrong:
        yield Finding(
            SPOILS, "contrasts", "contrasts that look unlike their label", _named(wrong),
            "look at the scans; rename them, or correct a table of scans (`write_table`)",
        )  # fmt: skip


def sizes(e: Examined) -> Iterable[Finding]:
    """Heads whose size or voxels differ from all others: a wrong spacing in the header?"""
    for modality in e.modalities:
        scans = e.of(modality)
        if len(scans) <= FEW_ALIKE:
            continue
        usual = np.median([s.head_mm[:2] for s in scans], axis=0)
        away = {s.name: float(np.abs(np.array(s.head_mm[:2]) / usual - 1).max()) for s in scans}
        for level, chosen in _graded(scans, lambda s: away[s.name], OTHER_SIZE, WRONG_SIZE):  # noqa: B023
            yield Finding(
                level, "sizes",
                f"{modality} usually shows {usual[0]:.0f} x {usual[1]:.0f} mm of tissue",
                tuple(f"{s.name} {s.head_mm[0]:.0f} x {s.head_mm[1]:.0f} mm" for s in chosen),
                "is the voxel size in the header right? Mend it, or prepare without the scan",
            )  # fmt: skip
        known = [s for s in scans if s.geometry]
        voxels = {s.name: np.array(s.geometry.spacing_mm) for s in known if s.geometry}
        if len(known) > FEW_ALIKE:
            middle = np.median(list(voxels.values()), axis=0)
            ratio = {n: float(np.maximum(v / middle, middle / v).max()) for n, v in voxels.items()}
            if other := [f"{n} {_mm(voxels[n])}" for n, r in ratio.items() if r > SPACING]:
                yield Finding(
                    LOOK, "sizes", f"voxels unlike the usual {_mm(middle)} of {modality}",
                    _named(other),
                    "such scans are blurred or sharper than the others; leave them out if they "
                    "are few",
                )  # fmt: skip


def histograms(e: Examined) -> Iterable[Finding]:
    """Scans whose brightness is distributed unlike that of the others."""
    outliers = [name for m in e.modalities for name in histogram_outliers(e.of(m))]
    if outliers:
        yield Finding(
            LOOK, "histograms", "the histogram of these scans is unlike the others",
            _named(outliers),
            "look at them: contrast agent, another scanner, a stripped skull, a wrong window?",
        )  # fmt: skip


def registration(e: Examined) -> Iterable[Finding]:
    """Pairs that do not lie on each other."""
    wrong = [
        p
        for p in e.pairs
        if not p.looks_mirrored
        and (p.offset_mm or 0) > OFFSET_MM
        and (p.offset_px or 0) > OFFSET_PX
    ]
    judged = [p for p in wrong if p.split != "train"]
    for level, chosen, why in (
        (SPOILS, judged, "the scores of these people would mean nothing"),
        (LOOK, [p for p in wrong if p.split == "train"], "do not train on pairs with them"),
    ):
        if chosen:
            yield Finding(
                level, "registration", "pairs that do not lie on each other",
                tuple(f"{p.name} {p.offset_mm:.1f} mm" for p in chosen),
                f"{why}; prepare again with `register`, or leave them out",
            )  # fmt: skip
    scans = e.manifest.all_scans() if e.manifest else ()
    apart = [(s.subject, s.record.get("unpaired_because")) for s in scans]
    if parted := [f"{subject} ({why})" for subject, why in apart if why]:
        yield Finding(
            LOOK, "registration", "scans of one person that were not taken for a pair",
            _named(parted), "look at both; a wrong one is to be left out",
        )  # fmt: skip


def fields(e: Examined) -> Iterable[Finding]:
    """Modalities that show different parts of the body."""
    if e.manifest is None:
        return
    records: dict[str, dict[str, dict[str, object]]] = {}
    for scan in e.manifest.all_scans():
        records.setdefault(scan.subject, {})[scan.modality] = scan.record
    told = Remembering()
    tell_profiles(records, told)
    for message in told.warnings:
        yield Finding(
            LOOK, "fields", message, (),
            "a translator would learn to add or remove what only one of them shows; prepare "
            "with `max_slices`",
        )  # fmt: skip


def people(e: Examined) -> Iterable[Finding]:
    """Too few people to train on, to choose the best by, or to test on."""
    for modality in e.modalities:
        splits = ("train",) if e.manifest else ("",)
        held = {s.person for s in e.scans if s.modality == modality and s.split in splits}
        if len(held) < FEW:
            where = " to train on" if e.manifest else ""
            yield Finding(
                SPOILS if len(held) < FEWEST else LOOK, "people",
                f"{len(held)} people with {modality}{where}", (),
                f"{FEW} or more are needed for a translator of any use, 25 are the paper's; add "
                "people, or use a shipped translator",
            )  # fmt: skip
    if e.manifest is None or len(e.modalities) < 2:
        return
    reference = e.modalities[0]
    for split, least, why in (
        ("val", 1, "without a pair the best step is chosen by the anatomy alone"),
        ("test", FEW_TESTED, "with so few a difference cannot be told from chance"),
    ):
        pairs = {p.subject for p in e.pairs if p.split == split and p.reference == reference}
        if len(pairs) < least:
            yield Finding(
                LOOK, "people", f"{len(pairs)} people with a pair in {split}", (),
                f"{why}; give more people to {split} with `split`",
            )  # fmt: skip


CHECKS: tuple[Callable[[Examined], Iterable[Finding]], ...] = (
    unreadable, numbers, duplicates, mirrored, contrasts, registration, sizes, people, fields,
    histograms,
)  # fmt: skip


def histogram_outliers(scans: Sequence[Seen]) -> list[str]:
    """The names of scans of one modality whose histogram is far from the median one."""
    if len(scans) <= FEW_ALIKE:
        return []
    sums = np.cumsum([s.histogram for s in scans], axis=1)
    away = np.abs(sums - np.median(sums, axis=0)).mean(axis=1)  # the earth mover's distance
    limit = max(HISTOGRAM, SPREADS * float(np.median(away)))
    return [s.name for s, distance in zip(scans, away, strict=True) if distance > limit]


def _usual(e: Examined, modality: str, but: Seen) -> NDArray[np.float32] | None:
    """The median coarse image of a modality's other people; None of too few."""
    others = [s.coarse for s in e.of(modality) if s.person != but.person]
    return np.median(others, axis=0) if len(others) >= FEW_ALIKE else None


def _nearer(e: Examined, scan: Seen) -> str:
    """Another modality that a scan is clearly more like; empty if there is none."""
    own = _usual(e, scan.modality, but=scan)
    if own is None or scan.empty:
        return ""
    fits = {
        m: likeness(scan.coarse, usual)
        for m in e.modalities
        if m != scan.modality and (usual := _usual(e, m, but=scan)) is not None
    }
    best = max(fits, key=lambda m: fits[m], default="")
    return best if best and fits[best] > likeness(scan.coarse, own) + OTHER_CONTRAST else ""


def _graded(
    scans: Sequence[Seen], value: Callable[[Seen], float], noteworthy: float, bad: float
) -> Iterable[tuple[str, list[Seen]]]:
    """The scans above each of two limits, with the level that it means; nothing of none."""
    worst = [s for s in scans if value(s) > bad]
    middle = [s for s in scans if noteworthy < value(s) <= bad]
    return [(level, of) for level, of in ((SPOILS, worst), (LOOK, middle)) if of]


def _named(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(names)


def _placed(scan: Seen) -> str:
    return f"{scan.name} ({scan.split})" if scan.split else scan.name


def _told(group: Sequence[str], said: Sequence[str]) -> bool:
    """Whether a group of equal files was already found by what they show."""
    return any(all(name in line for name in group) for line in said)


def _mm(spacing: NDArray[np.float64]) -> str:
    return " x ".join(f"{v:.3g}" for v in spacing) + " mm"
