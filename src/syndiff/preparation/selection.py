"""Select the scans of a folder to translate: scans of the source modalities, without masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from syndiff.errors import DataError, OptionError
from syndiff.io.formats import stem_of
from syndiff.preparation import layouts
from syndiff.preparation.discover import (
    LAYOUTS,
    Choice,
    by_path,
    contents,
    counted,
    read_folder,
    some,
    subjects_of,
    versions,
)
from syndiff.preparation.layouts import LeftOut, Reading, settle


@dataclass(frozen=True)
class Selection:
    """The scans of a folder that are to be translated.

    Attributes:
        groups: one tuple of files per scan, in the order of the modalities.
        left_out: files that were not taken.
    """

    groups: tuple[tuple[Path, ...], ...]
    left_out: tuple[LeftOut, ...]


def scans_of(
    folder: Path, modalities: Sequence[str], pattern: str = "", modality: str = ""
) -> Selection:
    """The scans of some modalities in a folder, whatever its layout.

    For one modality, all its scans are selected, with all visits and versions. For several
    modalities, one set of scans is selected per visit. If no file name contains a modality, all
    files without a modality are selected. Masks are never selected.

    Args:
        folder: the folder to search.
        modalities: the requested modalities; `pattern` and `modality` refer to the first one.
        pattern: select exactly the files whose name or path matches, e.g. "*_0000.nii.gz".
        modality: the word for the first modality in this folder, e.g. "mprage".

    Raises:
        DataError: there is no such scan, or the choice is ambiguous.
        OptionError: `pattern` is given with several modalities.
    """
    if pattern and len(modalities) > 1:
        raise OptionError(
            f"`pattern` {pattern} for {' and '.join(modalities)} together",
            "a translator of one source",
            "name the files so that each says its modality",
        )
    also = {modality: modalities[0]} if modality else {}
    readings, left_out = read_folder(folder, modalities, also)
    if pattern:
        return _fitting(folder, pattern, left_out, readings)
    if len(modalities) > 1:
        return _sets(folder, modalities, readings, left_out)
    files = [reading.path for reading in readings]
    if not files and not modality:
        files = [left.path for left in left_out if left.reason == layouts.NO_MODALITY]
        channels = [left.path for left in left_out if left.reason == layouts.CHANNEL]
        if len({stem_of(path)[-4:] for path in channels}) > 1:
            raise DataError(
                f"{folder} holds numbered channels ({some(channels)}), and nothing says which is "
                f"{modalities[0]}",
                "one channel",
                "choose it with `pattern`, e.g. *_0000.nii.gz",
            )
        files = sorted(files + channels)
    if not files:
        raise _nothing(folder, modalities, left_out)
    taken = set(files)
    return Selection(
        tuple((path,) for path in files), tuple(x for x in left_out if x.path not in taken)
    )


def _sets(
    folder: Path, modalities: Sequence[str], readings: list[Reading], left_out: list[LeftOut]
) -> Selection:
    if not readings:
        raise _nothing(folder, modalities, left_out)
    chosen, more = versions(settle(readings, folder), Choice(), folder, True)
    files, _, _ = subjects_of(chosen, modalities, Choice())
    complete = [of for of in files.values() if set(modalities) <= set(of)]
    if not complete:
        raise DataError(f"no subject in {folder} has {' and '.join(modalities)}", "at least one")
    lacking = [
        LeftOut(path, "scans of people who lack a modality")
        for of in files.values()
        if of not in complete
        for path in of.values()
    ]
    groups = tuple(tuple(of[m] for m in modalities) for of in complete)
    return Selection(groups, tuple(sorted((*left_out, *more, *lacking), key=by_path)))


def _fitting(
    folder: Path, pattern: str, left_out: list[LeftOut], readings: list[Reading]
) -> Selection:
    paths = sorted([r.path for r in readings] + [x.path for x in left_out])
    taken = [p for p in paths if fnmatch(p.name, pattern) or fnmatch(p.as_posix(), pattern)]
    if not taken:
        raise DataError(
            f"no scan in {folder} fits the `pattern` {pattern!r}",
            f"one that fits names such as {some(paths)}" if paths else "files of images",
        )
    left = tuple(LeftOut(p, "names that do not fit the pattern") for p in paths if p not in taken)
    return Selection(tuple((path,) for path in taken), left)


def _nothing(folder: Path, modalities: Sequence[str], left_out: Sequence[LeftOut]) -> DataError:
    why = f" ({counted(left_out)})" if left_out else f", which holds {contents(folder)}"
    return DataError(
        f"no scan of {' and '.join(modalities)} in {folder}{why}",
        LAYOUTS,
        "choose the files with `pattern`, or say with `modality` what their names call it",
    )
