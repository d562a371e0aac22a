"""Translations of a BIDS data set are a BIDS derivative: names, side-cars, what the set says.

    IN/dataset_description.json             makes the folder a BIDS data set
    IN/sub-1/anat/sub-1_T1w.nii.gz    →   OUT/sub-1/anat/sub-1_desc-synthetic_T2w.nii.gz, .json
                                          OUT/dataset_description.json, README.md

The keys are those of BIDS 1.10 (Derivatives); `Synthetic`, `IntendedUse` and `NotIntendedUse` are
further ones, which BIDS allows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from syndiff import __version__
from syndiff.errors import DataError, OptionError, UserError
from syndiff.io.atomic import read_json, write_json, write_text
from syndiff.io.formats import stem_of
from syndiff.io.marks import sidecar
from syndiff.preparation.names import canonical

DESCRIPTION = "dataset_description.json"
BIDS_VERSION = "1.10.0"
LINK = "source"  # the name under which URIs mean the data set that was translated
SUFFIXES = {"t1": "T1w", "t2": "T2w", "pd": "PDw", "flair": "FLAIR"}
INTENDED = ["registration to another modality", "distortion correction of EPI images"]
NOT_INTENDED = [
    "diagnosis",
    "finding or measuring lesions: what the source does not show cannot be in this image",
]
README = """# Synthetic images

The images in this folder were not acquired. syndiff made them from the images that each side-car
names under `Sources`. They may serve registration and distortion correction. They are not for
diagnosis, and not for finding or measuring lesions.
"""


def is_bids(folder: Path) -> bool:
    """Whether a folder is the root of a BIDS data set."""
    return (folder / DESCRIPTION).is_file()


def derivative_name(name: Path, target: str) -> Path:
    """sub-1/anat/sub-1_run-2_T1w.nii.gz → sub-1/anat/sub-1_run-2_desc-synthetic_T2w.nii.gz.

    Args:
        name: of the source, relative to the data set.
        target: the modality of the image.
    """
    *entities, _ = stem_of(name).split("_")
    kept = [part for part in entities if not part.startswith("desc-")]
    return name.with_name("_".join([*kept, "desc-synthetic", f"{suffix_of(target)}.nii.gz"]))


def suffix_of(target: str) -> str:
    """The suffix of file names: T2 → T2w; what BIDS does not know keeps its letters and digits."""
    return SUFFIXES.get(canonical(target)) or re.sub(r"[^A-Za-z0-9]", "", target) or "image"


def entries(folder: Path, inputs: Sequence[Path]) -> dict[str, Any]:
    """What a side-car says in the words of BIDS.

    Args:
        folder: the data set.
        inputs: the source files, in the order of the translator's sources.
    """
    sources = [uri(folder, file) for file in inputs]
    return {
        "Description": "Synthetic image, not acquired: translated from the images in Sources",
        "Sources": sources,
        "SpatialReference": sources[0],
        "SkullStripped": _stripped(inputs[0]),
        "Synthetic": True,
        "IntendedUse": INTENDED,
        "NotIntendedUse": NOT_INTENDED,
    }


def uri(folder: Path, file: Path) -> str:
    """The BIDS URI of a file of the data set."""
    return f"bids:{LINK}:{quote(file.relative_to(folder).as_posix())}"


def _stripped(file: Path) -> bool:
    """What the source's side-car says; images of raw BIDS data sets are whole heads."""
    try:
        content = read_json(sidecar(file), "side-car")
    except UserError:
        return False
    return isinstance(content, dict) and content.get("SkullStripped") is True


def check_place(folder: Path, out: Path) -> None:
    """Raise OptionError if `out` is a data set that syndiff did not make, or inside the scans'."""
    path = out / DESCRIPTION
    if path.is_file() and not _is_ours(path):
        raise OptionError(
            f"{out} is a BIDS data set that syndiff did not make", "a new or empty folder"
        )
    derivatives = folder / "derivatives"
    if folder in out.parents and derivatives not in out.parents:
        raise OptionError(
            f"the results would go among the scans of {folder}", f"a folder under {derivatives}"
        )


def describe(folder: Path, out: Path, translator: str, target: str) -> None:
    """Write what makes `out` a BIDS derivative of `folder`; see the module."""
    given = _content(folder / DESCRIPTION)
    link = os.path.relpath(folder, out)
    source = {"DOI": given["DatasetDOI"]} if given.get("DatasetDOI") else {"URL": quote(link)}
    write_json(
        out / DESCRIPTION,
        {
            "Name": f"Synthetic {target} of {given.get('Name') or folder.name}",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [
                {
                    "Name": "syndiff",
                    "Version": __version__,
                    "Description": f"Images translated by {translator}; not acquired, not for "
                    "diagnosis",
                }
            ],
            "SourceDatasets": [source],
            "DatasetLinks": {LINK: quote(link)},
        },
    )
    if not (out / "README.md").exists():
        write_text(out / "README.md", README)
    suffix = suffix_of(target)
    if suffix not in SUFFIXES.values():  # the validator knows no such image
        write_text(out / ".bidsignore", f"*_{suffix}.nii.gz\n*_{suffix}.json\n")


def participants(files: Iterable[Path]) -> list[str]:
    """The labels of the participants in relative paths, sorted, without "sub-"."""
    return sorted({p.parts[0][4:] for p in files if p.parts[0].startswith("sub-")})


def of_participants(
    groups: Sequence[tuple[Path, ...]], labels: Sequence[str]
) -> list[tuple[Path, ...]]:
    """The groups of relative paths that belong to some participants; all if none is named.

    Args:
        groups: of source files.
        labels: with or without "sub-".

    Raises:
        OptionError: there is no scan of a participant.
    """
    wanted = [label.removeprefix("sub-") for label in labels]
    known = participants(group[0] for group in groups)
    if missing := [label for label in wanted if label not in known]:
        raise OptionError(
            f"`participant_label` {' '.join(missing)}, of whom there is no scan to translate",
            f"one of {' '.join(known[:10])}{' …' if len(known) > 10 else ''}",
        )
    if not wanted:
        return list(groups)
    return [group for group in groups if group[0].parts[0].removeprefix("sub-") in wanted]


def lacking(folder: Path, source: Path, target: str) -> bool:
    """Whether a visit has no acquired image of the target beside the source (relative path)."""
    place = (folder / source).parent
    return not any(place.glob(f"*_{suffix_of(target)}.nii*"))


def _content(path: Path) -> dict[str, Any]:
    content = read_json(path, "description of a BIDS data set")
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no description", "a BIDS dataset_description.json")
    return content


def _is_ours(path: Path) -> bool:
    try:
        made_by = _content(path).get("GeneratedBy") or []
    except UserError:
        return False
    return any(isinstance(tool, dict) and tool.get("Name") == "syndiff" for tool in made_by)
