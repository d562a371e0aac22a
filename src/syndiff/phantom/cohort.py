"""Virtual subjects in memory and cohorts of them on disk, laid out as BIDS does.

What a subject is made of depends only on (seed, index): each scan draws from a stream of its own,
so that neither the number of subjects nor the other modalities matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import OptionError, UserError
from syndiff.io import formats
from syndiff.io.atomic import read_json, write_json, write_text
from syndiff.io.locks import clear_leftovers, in_use, only_writer
from syndiff.io.outputs import check_folder
from syndiff.io.volume import Volume
from syndiff.phantom.fields import Array, smooth_field
from syndiff.phantom.signal import (
    INDEX,
    PROTOCOLS,
    TISSUES,
    scan,
    signal_table,
    tissues_of,
)
from syndiff.phantom.tissues import Anatomy, displaced, invent, view
from syndiff.reporting import SILENT, Reporter

DESCRIPTION = "virtual subject (syndiff phantom)"
DATASET_NAME = "syndiff phantom"
ANATOMY, TISSUE, LESIONS, SCANS = range(4)  # streams of random numbers
CT_NOISE_HU = 300.0  # what `noise` is relative to in CT


@dataclass(frozen=True)
class Settings:
    """What a cohort is made with; kept in its dataset_description.json.

    Attributes:
        seed: of all random draws.
        spacing_mm: voxel size, the same along all axes.
        lesions: white-matter lesions per subject.
        misregistration_mm: length of the shift of each modality but the first; its rotation has
            as many degrees.
        noise: standard deviation of the noise relative to the brain's mean signal (CT: to 300 HU).
        bias: relative deviation of the receive field (two standard deviations); none in CT.
    """

    seed: int = 0
    spacing_mm: float = 2.0
    lesions: int = 0
    misregistration_mm: float = 0.0
    noise: float = 0.02
    bias: float = 0.2


@dataclass(frozen=True)
class Subject:
    """One virtual person.

    Attributes:
        scans: modality → (x, y, z) float32; MR in arbitrary units, CT in HU.
        labels: (x, y, z) index into `signal.TISSUES`, on the grid of the first modality.
        affine: (4, 4) of all of them, RAS+, mm.
    """

    name: str
    scans: dict[str, Array]
    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]


def make_subject(
    index: int,
    modalities: Sequence[str] = ("T1", "T2"),
    seed: int = 0,
    *,
    spacing_mm: float = 2.0,
    lesions: int = 0,
    misregistration_mm: float = 0.0,
    noise: float = 0.02,
    bias: float = 0.2,
) -> Subject:
    """Invent subject `index` (from 1). Parameters as in `write_cohort`.

    Raises:
        OptionError: a value that makes no sense.
    """
    settings = Settings(seed, spacing_mm, lesions, misregistration_mm, noise, bias)
    _check(index, modalities, settings)
    return _make(index, modalities, settings)


def _make(index: int, modalities: Sequence[str], settings: Settings) -> Subject:
    grid = view(settings.spacing_mm)
    person = invent(
        _stream(settings, index, ANATOMY),
        grid,
        _stream(settings, index, LESIONS),
        settings.lesions,
    )
    scans = {}
    for modality in modalities:
        rng = _stream(settings, index, SCANS + list(PROTOCOLS).index(modality))
        move = _displacement(rng, settings.misregistration_mm)
        seen = person if modality == modalities[0] or move is None else displaced(person, *move)
        scans[modality] = _acquire(rng, seen, modality, index, settings)
    return Subject(subject_name(index), scans, person.labels, grid.affine)


def _stream(settings: Settings, index: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([settings.seed, index, stream])


def _displacement(
    rng: np.random.Generator, length: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """A shift of `length` mm and a rotation of `length` degrees (rad), in random directions.

    The draws are made in any case, so that what follows them does not depend on `length`.
    """
    shift, axis = rng.standard_normal((2, 3))
    if length == 0:
        return None
    turn = np.deg2rad(length) * axis / np.linalg.norm(axis)
    return length * shift / np.linalg.norm(shift), turn


def _acquire(
    rng: np.random.Generator, person: Anatomy, modality: str, index: int, settings: Settings
) -> Array:
    """Scan a person: signal, receive field, noise, arbitrary gain."""
    tissues = tissues_of(_stream(settings, index, TISSUE))
    image = scan(person.maps, person.textures, signal_table(modality, tissues))
    gain = math.exp(rng.uniform(math.log(300.0), math.log(1500.0)))
    shape = image.shape
    if PROTOCOLS[modality].signal is None:  # CT
        sigma = settings.noise * CT_NOISE_HU
        return image + np.float32(sigma) * rng.standard_normal(shape, dtype=np.float32)
    weight = person.maps[..., INDEX["grey_matter"]] + person.maps[..., INDEX["white_matter"]]
    image /= float((image * weight).sum() / weight.sum())  # the brain's mean is 1
    image *= np.exp(np.float32(settings.bias / 2) * smooth_field(rng, person.grid, 80.0))
    # Rician: the magnitude of a complex signal with noise in both channels
    real = image + np.float32(settings.noise) * rng.standard_normal(shape, dtype=np.float32)
    imaginary = np.float32(settings.noise) * rng.standard_normal(shape, dtype=np.float32)
    return np.asarray(gain * np.hypot(real, imaginary), dtype=np.float32)


def write_cohort(
    out: Path,
    *,
    subjects: int = 12,
    modalities: Sequence[str] = ("T1", "T2"),
    seed: int = 0,
    spacing_mm: float = 2.0,
    lesions: int = 0,
    misregistration_mm: float = 0.0,
    noise: float = 0.02,
    bias: float = 0.2,
    report: Reporter = SILENT,
) -> list[Path]:
    """Write virtual subjects to a folder, or finish a folder that was begun.

    Args:
        out: a folder that is new, empty, or a cohort with the same parameters.
        subjects: how many; subject i is the same whatever their number.
        modalities: some of `PROTOCOLS`; the first is the one that misregistration leaves alone.
        seed, spacing_mm, lesions, misregistration_mm, noise, bias: see `Settings`.
        report: told of each subject.

    Returns:
        The subjects' folders, in order.

    Raises:
        OptionError: a value that makes no sense, or a folder that holds something else or that
            another process writes to.
    """
    out = Path(out)
    settings = Settings(seed, spacing_mm, lesions, misregistration_mm, noise, bias)
    _check(subjects, modalities, settings)
    bytes_each = 4 * math.prod(view(settings.spacing_mm).shape)
    check_folder(out, bytes_each * subjects * (len(modalities) + 1))  # and the labels
    parameters = {"subjects": subjects, "modalities": list(modalities), **asdict(settings)}
    names = [subject_name(index) for index in range(1, subjects + 1)]
    rows = "".join(f"{name}\t{settings.seed}\n" for name in names)
    table = "".join(f"{i}\t{tissue.name}\n" for i, tissue in enumerate(TISSUES))
    with only_writer(out):
        claim_folder(out, parameters)
        write_text(out / "participants.tsv", "participant_id\tseed\n" + rows)
        write_text(out / "derivatives" / "labels" / "dseg.tsv", "index\tname\n" + table)
        for index, name in enumerate(names, start=1):
            if not is_whole(scan_paths(out, name, modalities)):
                _write(_make(index, modalities, settings), out)
            report.progress(index, subjects)
    return [out / name for name in names]


def is_whole(paths: Mapping[str, Path]) -> bool:
    """Whether a subject's files are there; half-written ones are removed where they are not."""
    if all(path.exists() for path in paths.values()):
        return True
    for path in paths.values():
        clear_leftovers(path.parent)
    return False


def _write(subject: Subject, out: Path) -> None:
    images: dict[str, NDArray[Any]] = {**subject.scans, "dseg": subject.labels}
    for kind, path in scan_paths(out, subject.name, list(subject.scans)).items():
        values = images[kind].astype(np.float32)
        formats.write(Volume(values, subject.affine), path, description=DESCRIPTION)


def scan_paths(out: Path, name: str, modalities: Sequence[str]) -> dict[str, Path]:
    """Modality or "dseg" → file of a subject; the labels come last."""
    paths = {
        m: out / name / "anat" / f"{name}_{PROTOCOLS[m].bids_suffix}.nii.gz" for m in modalities
    }
    paths["dseg"] = out / "derivatives" / "labels" / name / "anat" / f"{name}_dseg.nii.gz"
    return paths


def subject_name(index: int) -> str:
    return f"sub-{index:03d}"


def claim_folder(out: Path, parameters: dict[str, Any]) -> None:
    """Write the description of a new cohort, or check that the present one is the same."""
    path = out / "dataset_description.json"
    remedy = "choose another folder, or delete this one"
    if path.exists():
        try:
            found = read_json(path, "description of a data set").get("SyndiffPhantom")
        except (UserError, AttributeError):
            found = None
        if not isinstance(found, dict):
            raise OptionError(f"{out} holds another data set", "a new folder", remedy)
        different = [k for k, v in parameters.items() if found.get(k) != v]
        if different:
            what = ", ".join(f"{k} {found.get(k)}" for k in different)
            wanted = ", ".join(f"{k} {parameters[k]}" for k in different)
            raise OptionError(f"{out} holds a cohort with {what}", wanted, remedy)
        return
    if in_use(out):
        raise OptionError(f"{out} is not empty and holds no cohort", "a new folder", remedy)
    content = {
        "Name": DATASET_NAME,
        "BIDSVersion": "1.10.0",
        "DatasetType": "raw",
        "License": "CC0",
        "SyndiffPhantom": parameters,
    }
    write_json(path, content)


def _check(subjects: int, modalities: Sequence[str], settings: Settings) -> None:
    """Raise OptionError for values that make no sense."""
    if isinstance(modalities, str) or not modalities:
        raise OptionError(f"modalities {modalities!r}", f"some of {', '.join(PROTOCOLS)}")
    for modality in modalities:
        if modality not in PROTOCOLS:
            raise OptionError(f"unknown modality {modality!r}", f"one of {', '.join(PROTOCOLS)}")
    check_numbers(
        modalities,
        subjects=(subjects, 1, 999),
        seed=(settings.seed, 0, 2**63),
        spacing=(settings.spacing_mm, 1, 8),
        lesions=(settings.lesions, 0, 200),
        misregistration=(settings.misregistration_mm, 0, 20),
        noise=(settings.noise, 0, 1),
        bias=(settings.bias, 0, 1),
    )


def check_numbers(modalities: Sequence[str], **ranges: tuple[float, float, float]) -> None:
    """Refuse a modality that is named twice, and numbers out of their ranges.

    Args:
        modalities: of a cohort.
        ranges: name → value, the least and the most that it may be.

    Raises:
        OptionError: the first that does not fit.
    """
    if len(set(modalities)) < len(modalities):
        raise OptionError(f"modalities {','.join(modalities)}", "each one once")
    for name, (value, low, high) in ranges.items():
        if not low <= value <= high:  # NaN fails too
            raise OptionError(f"{name} {value}", f"a value from {low} to {high}")
