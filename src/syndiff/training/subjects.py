"""Who is trained on: the training subjects of either modality, and the pairs among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from syndiff.errors import DataError
from syndiff.preparation.manifest import Manifest
from syndiff.reporting import SILENT, Reporter
from syndiff.training.slice_files import Stack

ON_ONE_GRID = "prepare the data with `register_training` and subjects that have them all"


def stacks(manifest: Manifest, split: str, modalities: Sequence[str]) -> dict[str, Stack]:
    """Subject → its scans of the modalities, for the subjects that have all on one grid."""
    first, *others = modalities
    scans = [{s.subject: s for s in manifest.scans(split, m)} for m in modalities]
    subjects = set(scans[0])
    for other in others:
        subjects &= set(manifest.paired_subjects(split, first, other))
    return {subject: tuple(of[subject] for of in scans) for subject in sorted(subjects)}


def training_scans(
    manifest: Manifest,
    source: str | Sequence[str],
    target: str,
    shared: bool,
    report: Reporter = SILENT,
) -> tuple[list[Stack], list[Stack]]:
    """The training scans of source and target; unless `shared`, no subject gives both.

    People that have both are assigned one by one to the modality with fewer people.

    Args:
        manifest: manifest of the prepared data.
        source: modality, or several of which a subject must have all on one grid.
        target: modality.
        shared: whether every subject serves both.
        report: warned of what may spoil the result.

    Raises:
        DataError: a side has no subject.
    """
    sources, targets = _sides(manifest, source, target, report)
    return divide_people(sources, targets, shared, report)


def lone_scans(manifest: Manifest, target: str) -> list[Stack]:
    """The training scans of the target alone, for unconditional synthesis.

    Raises:
        DataError: there are none.
    """
    return list(_sides(manifest, target, target, SILENT)[1].values())


def paired_scans(
    manifest: Manifest, sources: Sequence[str], target: str, report: Reporter = SILENT
) -> list[Stack]:
    """The scans of the paired training subjects, the target's last.

    Raises:
        DataError: there are none.
    """
    pairs = stacks(manifest, "train", (*sources, target))
    names = " and ".join((*sources, target))
    if not pairs:
        raise DataError(
            f"no training subject has {names} on one grid in {manifest.folder}",
            "at least one for training on pairs",
            ON_ONE_GRID,
        )
    left_out = len(manifest.subjects("train")) - len(pairs)
    if left_out:
        report.warn(
            f"{left_out} of {len(manifest.subjects('train'))} training subjects do not have "
            f"{names} on one grid: left out; `pairing` mixed would train on them too"
        )
    return list(pairs.values())


def check_pairs(pairs: Manifest, data: Manifest, modalities: Sequence[str]) -> None:
    """Make sure that slices of two prepared folders can be shown side by side.

    Raises:
        DataError: pixels, sizes or modalities differ.
    """
    for modality in modalities:
        if modality not in pairs.modalities:
            raise DataError(f"{pairs.folder} holds no {modality}", f"{', '.join(modalities)}")
    ours, theirs = ((tuple(m.size), round(m.spacing_mm, 3)) for m in (data, pairs))
    if ours != theirs:
        raise DataError(
            f"slices of {theirs[0]} pixels of {theirs[1]} mm in {pairs.folder}",
            f"{ours[0]} pixels of {ours[1]} mm, as in {data.folder}",
            "prepare one of them with the other's `size` and `spacing_mm`",
        )


def mixed_scans(
    manifest: Manifest,
    sources: Sequence[str],
    target: str,
    shared: bool,
    report: Reporter = SILENT,
) -> tuple[tuple[list[Stack], list[Stack]], list[Stack]]:
    """Unpaired scans of source and target, and the scans of the paired subjects.

    Where all unpaired subjects have the same modality only, the paired ones give the other.

    Raises:
        DataError: no subject is paired, or all are.
    """
    pairs = paired_scans(manifest, sources, target)
    paired = {stack[0].subject for stack in pairs}
    sides = _sides(manifest, sources, target, report)
    rest = [{s: stack for s, stack in side.items() if s not in paired} for side in sides]
    if not any(rest):
        raise DataError(
            f"all {len(pairs)} training subjects that can be used are paired",
            "unpaired ones too for mixed training",
            "use `pairing` paired",
        )
    unpaired = [some or whole for some, whole in zip(rest, sides, strict=True)]
    return divide_people(unpaired[0], unpaired[1], shared, report), pairs


def divide_people(
    sources: Mapping[str, Stack],
    targets: Mapping[str, Stack],
    shared: bool,
    report: Reporter = SILENT,
) -> tuple[list[Stack], list[Stack]]:
    """Divide the people between source and target unless all serve both; sorted by subject.

    A person with several visits is several subjects, which all go to the same modality.
    """
    if not shared:
        with_source = {stack[0].person for stack in sources.values()}
        with_target = {stack[0].person for stack in targets.values()}
        for_source = sorted(with_source - with_target)
        for_target = sorted(with_target - with_source)
        for person in sorted(with_source & with_target):
            (for_source if len(for_source) <= len(for_target) else for_target).append(person)
        if for_source and for_target:
            return (
                [sources[s] for s in sorted(sources) if sources[s][0].person in for_source],
                [targets[s] for s in sorted(targets) if targets[s][0].person in for_target],
            )
        report.warn(
            "too few training subjects to divide between the modalities: "
            "each serves both, drawn independently"
        )
    return [sources[s] for s in sorted(sources)], [targets[s] for s in sorted(targets)]


def _sides(
    manifest: Manifest, source: str | Sequence[str], target: str, report: Reporter
) -> tuple[dict[str, Stack], dict[str, Stack]]:
    """Subject → scans, of the source modalities and of the target."""
    sources = (source,) if isinstance(source, str) else tuple(source)
    sides = stacks(manifest, "train", sources), stacks(manifest, "train", (target,))
    for modalities, side in zip((sources, (target,)), sides, strict=True):
        if not side:
            several = len(modalities) > 1
            raise DataError(
                f"no training subject has {' and '.join(modalities)}"
                f"{' on one grid' if several else ''} in {manifest.folder}",
                "at least one",
                ON_ONE_GRID
                if several
                else "prepare the data with more subjects or another `split`",
            )
    some = {s.subject for m in sources for s in manifest.scans("train", m)}
    if len(some) > len(sides[0]):
        report.warn(
            f"{len(some) - len(sides[0])} of {len(some)} training subjects lack one of "
            f"{', '.join(sources)}, or have them on different grids: not used as sources"
        )
    return sides
