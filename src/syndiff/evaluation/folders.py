"""What is given to compare: translators, runs, and folders of images from any software.

A folder of images holds one file per test subject: an image on the source's or on the target's
own grid (as `syndiff translate` writes it), or `SUBJECT.npy`, its prepared slices in [0, 1]. The
subject's name is the file's, begins it, or is one of the folders above it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from syndiff.errors import DataError, OptionError
from syndiff.evaluation.scoring import Slices
from syndiff.evaluation.whole import on_reference
from syndiff.io.atomic import read_json
from syndiff.io.formats import READABLE, read, stem_of, suffix_of
from syndiff.io.volume import Volume, same_grid, to_slices
from syndiff.preparation.head import head_mean
from syndiff.preparation.manifest import Manifest, Scan


@dataclass(frozen=True)
class Given:
    """The methods to compare, by kind.

    Attributes:
        models: name → translator folder.
        folders: name → folder of images.
    """

    models: dict[str, Path] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)


def sort(methods: Mapping[str, Path], source: str | None, target: str | None) -> Given:
    """Tell translators, runs and folders of images apart.

    Args:
        methods: name → path, or the name of a translator that ships with the package.
        source, target: which of a run's translators; by default that of the run's own direction.

    Raises:
        OptionError: a path is none of these.
    """
    from syndiff.translators import locate  # torch

    given = Given()
    for name, path in methods.items():
        folder = locate(path)
        if (folder / "config.json").is_file():
            given.models[name] = path
        elif (folder / "translators").is_dir():
            given.models[name] = _of_run(name, folder, source, target)
        elif folder.is_dir() and _images(folder):
            given.folders[name] = folder
        else:
            raise OptionError(
                f"{name}={path}", "a translator, a run, or a folder of images (NIfTI or .npy)"
            )
    return given


def _of_run(name: str, run: Path, source: str | None, target: str | None) -> Path:
    """The translator of a run in the wanted direction."""
    if not (source and target):
        asked = read_json(run / "settings.json", "run")
        source, target = source or str(asked["source"]), target or str(asked["target"])
    found = run / "translators" / f"{source}_to_{target}"
    if not found.is_dir():
        has = ", ".join(sorted(p.name for p in (run / "translators").iterdir() if p.is_dir()))
        raise OptionError(f"the run {name} has {has or 'no translator'}", f"{source}_to_{target}")
    return found


def slices_of(
    folder: Path, manifest: Manifest, split: str, source: str, target: str
) -> Callable[[str], Slices]:
    """The function that reads one subject's image and cuts the prepared slices out of it.

    Args:
        folder: of images, see the module.
        manifest: of the prepared data.
        split: of the test subjects.
        source, target: modalities.

    Returns:
        A function: subject → (n, h, w) in [0, 1]. MR is divided by its own mean over the head, as
        preparation does it; CT must be in HU. It raises DataError where there is not exactly one
        file of a subject, or its grid is neither the source's nor the target's.
    """
    files = _images(folder)
    scans = {m: {s.subject: s for s in manifest.scans(split, m)} for m in (source, target)}
    scale = manifest.scale(target)

    def load(subject: str) -> Slices:
        path = _file_of(subject, files, folder)
        first, last = scans[source][subject], scans[target][subject]
        if path.suffix == ".npy":
            return _stack(path, last)
        volume = read(path)
        own_mean = head_mean(volume, scale)
        placed = _placed(volume, first, last, scale.air, path)
        normal = scale.normalise(to_slices(placed)[list(last.slice_indices)], own_mean)
        return np.clip(last.grid.forward(normal, scale.background), 0, 1).astype(np.float32)

    return load


def _placed(volume: Volume, first: Scan, last: Scan, fill: float, path: Path) -> Volume:
    """The image on the grid on which the pair was prepared."""
    for scan in (first, last):
        if scan.record.get("native_affine") is None:
            raise DataError(
                f"the data do not say on which grid {scan.subject} was prepared",
                f"prepared slices for {path.name}",
                f"give {scan.subject}.npy, (slices, rows, columns) in [0, 1]",
            )
        shape = tuple(scan.record["native_shape"])
        affine = np.asarray(scan.record["native_affine"], np.float64)
        if same_grid(Volume(np.broadcast_to(np.float32(0), shape), affine), volume):
            return volume
    for scan in (first, last):  # one of the two was resampled to the other
        if scan.record.get("registration") is not None:
            return on_reference(volume, scan, fill)
    raise DataError(
        f"{path} lies on another grid than the {first.modality} and the {last.modality} of "
        f"{first.subject}",
        "an image on the grid of one of them",
    )


def _stack(path: Path, scan: Scan) -> Slices:
    """Prepared slices from a file of numpy."""
    try:
        slices = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error})") from error
    expected = scan.load().shape
    if slices.shape != expected:
        raise DataError(f"{path} holds an array of shape {slices.shape}", f"{expected}")
    return np.asarray(slices, dtype=np.float32)


def _images(folder: Path) -> list[Path]:
    """Images and stacks below a folder, sorted."""
    return sorted(
        p
        for p in folder.rglob("*")
        if p.is_file() and (suffix_of(p) in READABLE or p.suffix == ".npy")
    )


def _file_of(subject: str, files: list[Path], folder: Path) -> Path:
    """The one file of a subject."""
    found = []
    for path in files:
        stem = path.stem if path.suffix == ".npy" else stem_of(path)
        parts = (*path.relative_to(folder).parts[:-1], stem)
        if any(part == subject or part.startswith(f"{subject}_") for part in parts):
            found.append(path)
    if len(found) != 1:
        raise DataError(
            f"{len(found)} files of {subject} in {folder}",
            "one, named after the subject or in a folder of its name",
        )
    return found[0]
