"""Find scans: which file is whose, and of which modality.

Three layouts, which may be mixed (`.nii`, `.nii.gz`, `.mgz`; upper or lower case; "w" after the
name of a modality may be there or not):

    sub-X/[ses-Y/]anat/sub-X[_ses-Y][_…]_T1w.nii.gz     BIDS
    subject/T1.nii.gz, subject/subject_T1.nii.gz        one folder per subject
    T1/subject.nii.gz, IXI-T1/IXI002-Guys-0828-T1.nii.gz   one folder per modality, as in IXI

Folders named `derivatives` and hidden files are passed over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from syndiff.errors import DataError, OptionError
from syndiff.io.formats import SUFFIXES, stem_of

LAYOUTS = (
    "sub-X/anat/sub-X_T1w.nii.gz, subject/T1.nii.gz or T1/subject.nii.gz (.nii, .nii.gz or .mgz)"
)
IGNORED = {"derivatives", "sourcedata", "__macosx"}
Found = dict[str, dict[str, Path]]  # subject → modality → file, relative to the raw folder


def find_scans(raw: Path, modalities: Sequence[str]) -> Found:
    """The scans of the wanted modalities under a folder.

    Args:
        raw: the folder to search.
        modalities: names wanted, e.g. ("T1", "T2").

    Returns:
        subject → modality (spelt as wanted) → path relative to `raw`; subjects sorted.

    Raises:
        DataError: no such folder, no scan in a known layout, or two files for one place.
    """
    if not raw.is_dir():
        raise DataError(f"no folder {raw}", "a folder with scans")
    wanted = {_canonical(name): name for name in modalities}
    if len(wanted) != len(modalities):
        raise OptionError(f"the modalities {', '.join(modalities)}", "names that differ")
    found: Found = {}
    for path in _files(raw, wanted):
        place = _place(path, wanted)
        if place is None:
            continue
        subject, modality = place
        other = found.setdefault(subject, {}).get(modality)
        if other is not None:
            raise DataError(
                f"two {modality} scans of {subject} in {raw}: {other} and {path}",
                "one",
                "move one of them out of the folder",
            )
        found[subject][modality] = path
    if not found:
        raise DataError(
            f"no scan of {', '.join(modalities)} in {raw}, which holds {_contents(raw)}",
            LAYOUTS,
        )
    return dict(sorted(found.items()))


def overlooked(raw: Path, found: Found) -> list[str]:
    """BIDS subject folders in which no scan was found, for a warning; sorted names."""
    folders = (p.name for p in raw.iterdir() if p.is_dir() and p.name.startswith("sub-"))
    return sorted(name for name in folders if name not in found)


def _files(raw: Path, wanted: dict[str, str]) -> Iterator[Path]:
    """Image files under `raw`, and folders that stand for one, relative to it, in order."""
    for folder, folders, names in os.walk(raw, followlinks=True):
        folders[:] = sorted(
            f for f in folders if not f.startswith(".") and f.lower() not in IGNORED
        )
        inside = Path(folder).relative_to(raw)
        for name in [f for f in folders if _is_scan(raw, inside / f, wanted)]:
            folders.remove(name)  # its files are slices, not scans of other subjects
            yield inside / name
        for name in sorted(names):
            if name.startswith(".") or not name.lower().endswith(SUFFIXES):
                continue
            if not (name.endswith(".img") and name[:-4] + ".hdr" in names):  # a pair counts once
                yield (Path(folder) / name).relative_to(raw)


def _is_scan(raw: Path, folder: Path, wanted: dict[str, str]) -> bool:
    """Whether a folder stands where a scan's file would and holds DICOM: sub-01/T1w/."""
    if _place(folder, wanted) is None:
        return False
    dicom = any(path.suffix.lower() == ".dcm" for path in (raw / folder).iterdir())
    return dicom or folder.name.lower().endswith(SUFFIXES)


def _place(path: Path, wanted: dict[str, str]) -> tuple[str, str] | None:
    """(subject, modality) of a file, None if it lies in no known layout or is not wanted."""
    stem, folders = stem_of(path), path.parts[:-1]
    if not folders:
        return None
    person = next((part for part in folders if part.startswith("sub-")), None)
    if person is not None and stem.startswith("sub-") and "_" in stem:
        modality = wanted.get(_canonical(stem.rpartition("_")[2]))
        return (person, modality) if modality else None
    own = [part for part in folders if part.lower() != "anat" and not part.startswith("ses-")]
    owner = own[-1] if own else ""
    if owner and _canonical(stem) in wanted:
        return owner, wanted[_canonical(stem)]
    if owner and stem.startswith(owner) and re.match(r"[-_. ]", stem[len(owner) :]):
        modality = wanted.get(_canonical(stem[len(owner) + 1 :]))
        if modality:
            return owner, modality
    return _in_modality_folder(stem, folders[-1], wanted)


def _in_modality_folder(stem: str, folder: str, wanted: dict[str, str]) -> tuple[str, str] | None:
    """(subject, modality) of a file such as IXI-T1/IXI002-Guys-0828-T1.nii.gz."""
    words = [_canonical(word) for word in re.split(r"[-_. ]", folder)]
    named = [wanted[word] for word in words if word in wanted]
    if len(named) != 1:
        return None
    head, _, last = re.sub(r"[-_. ](?=[^-_. ]*$)", "\0", stem).partition("\0")
    if last and _canonical(last) == _canonical(named[0]):
        return head, named[0]
    return stem, named[0]


def _canonical(name: str) -> str:
    """A modality's name for comparing: T1w, t1 and T1 are one."""
    lower = name.lower()
    return lower[:-1] if len(lower) > 2 and lower.endswith("w") else lower


def _contents(raw: Path) -> str:
    """A few names of what a folder holds, for messages."""
    names = sorted(p.name + "/" * p.is_dir() for p in raw.iterdir() if not p.name.startswith("."))
    if not names:
        return "nothing"
    shown = ", ".join(names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
