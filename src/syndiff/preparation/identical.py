"""Detect the same scan under two names, which would put a test person into training."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from syndiff.errors import DataError
from syndiff.io.digest import sha256_of
from syndiff.io.formats import read
from syndiff.preparation.discover import Found
from syndiff.reporting import Reporter

Place = tuple[str, str]  # subject, modality
SAME = ("file_shape", "reference_mean", "peak", "foreground_quantiles")


def check_bytes(raw: Path, files: Found, splits: Mapping[str, str], report: Reporter) -> None:
    """Refuse files with equal bytes in different splits; warn of equal files in one split.

    Raises:
        DataError: files in different splits have equal bytes; the message names all of them.
    """
    _tell(same_files(raw, files), files, splits, report)


def same_files(raw: Path, files: Found) -> list[list[Place]]:
    """The groups of two or more files with equal bytes."""
    sizes: dict[int, list[Place]] = defaultdict(list)
    for subject, of in files.items():
        for modality, path in of.items():
            if (raw / path).is_file():
                sizes[(raw / path).stat().st_size].append((subject, modality))
    return [
        group
        for held in sizes.values()
        if len(held) > 1
        for group in _grouped(held, lambda place: _digest(raw / files[place[0]][place[1]]))
    ]


def check_voxels(
    raw: Path,
    files: Found,
    splits: Mapping[str, str],
    records: Mapping[str, Mapping[str, Any]],
    report: Reporter,
    reading: Callable[[str], Mapping[str, Any]] = lambda modality: {},
) -> None:
    """Refuse scans with equal voxels in different splits; warn of equal scans in one split.

    This finds copies that were compressed again and so differ in bytes. Only scans with exactly
    equal measurements are read again and compared; `reading` tells how a modality is read.

    Raises:
        DataError: scans in different splits have equal voxels; the message names all of them.
    """
    places = [(subject, modality) for subject, of in records.items() for modality in of]
    likely = _grouped(places, lambda p: repr([records[p[0]][p[1]].get(key) for key in SAME]))
    groups = []
    for held in likely:
        path = {place: raw / files[place[0]][place[1]] for place in held}
        if len({_digest(path[place]) for place in held}) > 1:  # else `check_bytes` reported them
            groups += _grouped(
                held,
                lambda place, path=path: _voxels(path[place], reading(place[1])),  # type: ignore[misc]
            )
    _tell(groups, files, splits, report)


def _grouped(places: Iterable[Place], key: Callable[[Place], Any]) -> list[list[Place]]:
    """The groups of two or more places that have the same key."""
    groups: dict[Any, list[Place]] = defaultdict(list)
    for place in places:
        groups[key(place)].append(place)
    return [group for group in groups.values() if len(group) > 1]


def _tell(
    groups: list[list[Place]], files: Found, splits: Mapping[str, str], report: Reporter
) -> None:
    faults = []
    for group in groups:
        said = " = ".join(f"{files[s][m].as_posix()} ({splits[s]})" for s, m in group)
        if len({splits[subject] for subject, _ in group}) > 1:
            faults.append(said)
        else:
            report.warn(f"the same scan under {len(group)} names: {said}")
    if faults:
        raise DataError(
            f"the same scan is in two splits: {'; '.join(faults)}",
            "each scan once",
            "remove one of them, or put them into one split with `split_file`",
        )


def _digest(path: Path) -> str:
    """SHA-256 of a file; for a header file (.hdr), of the image beside it."""
    if path.suffix.lower() == ".hdr":
        images = [path.with_suffix(suffix) for suffix in (".img", ".IMG", ".Img")]
        path = next((image for image in images if image.is_file()), path)
    return sha256_of(path)


def _voxels(path: Path, how: Mapping[str, Any]) -> str:
    array = np.ascontiguousarray(read(path, **how).array)
    return hashlib.sha256(array.tobytes()).hexdigest()
