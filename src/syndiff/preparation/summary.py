"""The summary of `prepare`: numbers of slices and subjects, and everything that was left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from syndiff.preparation.discover import some
from syndiff.preparation.manifest import SPLITS, Manifest


def summary(manifest: Manifest, out: Path, holders: str = "subjects") -> list[str]:
    """The lines.

    Args:
        manifest: of the prepared folder.
        out: as the user named it.
        holders: what a scan is counted by: subjects (visits), or files.
    """
    h, w = manifest.size
    lines = [*_splits(manifest, holders), *left_out(manifest)]
    split = manifest.content.get("options", {}).get("split")
    if isinstance(split, str) and "/" in split:
        people = {s: len({x.person for x in manifest.all_scans() if x.split == s}) for s in SPLITS}
        said = ", ".join(f"{count} {name}" for name, count in people.items())
        lines.insert(0, f"split {split} by person, in the order of their names: {said}")
    return [*lines, f"slices of {h}×{w} pixels of {manifest.spacing_mm:.3g} mm in {out}"]


def _splits(manifest: Manifest, holders: str) -> list[str]:
    lines = []
    for split in SPLITS:
        counts = ", ".join(
            f"{m} {sum(s.count for s in scans)} slices of {len(scans)} {holders}"
            for m in manifest.modalities
            if (scans := manifest.scans(split, m))
        )
        lines.append(f"{split}: {counts or 'nothing'}")
    return lines


def left_out(manifest: Manifest) -> list[str]:
    """Files, people, scans and slices that were left out, one line for each reason."""
    content = manifest.content.get("left_out", {})
    reasons: dict[str, list[str]] = defaultdict(list)
    for item in content.get("files", []):
        reasons[item["reason"]].append(item["file"])
    lines = [f"left out: {_counted(files, reason)}" for reason, files in reasons.items()]
    for key, what in (
        ("people_lacking_a_modality", "people who lack a modality and are in no split"),
        ("synthetic", "synthetic images taken for scans"),
    ):
        if names := content.get(key, []):
            lines.append(f"{'left out: ' if key != 'synthetic' else ''}{_counted(names, what)}")
    others = [
        name
        for name in manifest.content.get("unused_subjects", [])
        if name not in content.get("people_lacking_a_modality", [])
    ]
    if others:
        lines.append(f"left out: {_counted(others, 'subjects in no split')}")
    if skipped := content.get("skipped", []):
        names = [item["file"] or item["subject"] for item in skipped]
        lines.append(f"left out: {_counted(names, 'scans that cannot be used')}")
    apart = {
        scan.subject: scan.record["unpaired_because"]
        for scan in manifest.all_scans()
        if scan.record.get("unpaired_because")
    }
    if parted := [f"{subject} ({why})" for subject, why in apart.items()]:
        lines.append(f"no pair: {_counted(parted, 'subjects whose scans do not belong together')}")
    return [*lines, *_lost_slices(manifest)]


def _lost_slices(manifest: Manifest) -> list[str]:
    """Slices that one scan of a pair has not seen, counted once for each subject."""
    lost: Counter[str] = Counter()
    for scan in manifest.all_scans():
        lost[scan.subject] = max(
            lost[scan.subject], scan.record.get("slices_not_seen_by_all") or 0
        )
    names = [f"{subject} ({count})" for subject, count in lost.items() if count]
    if not names:
        return []
    total = sum(lost.values())
    return [
        f"left out: {total} slices that another scan of the person has not seen (a narrower field "
        f"of view): {some(names)}"
    ]


def _counted(names: list[str], what: str) -> str:
    return f"{len(names)} {what}: {some(names)}"
