"""Virtual subjects in memory, and cohorts of virtual subjects on disk in the BIDS layout.

A subject depends only on (seed, index). Each scan has its own stream of random numbers, so it
depends neither on the number of subjects nor on the other modalities.
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
CT_NOISE_HU = 300.0  # the HU that `noise` is relative to in CT


@dataclass(frozen=True)
class Settings:
    """The parameters of a cohort, which its dataset_description.json records.

    Attributes:
        seed: seed of all random draws.
        spacing_mm: voxel size along all axes in mm.
        lesions: number of white-matter lesions per subject.
        misregistration_mm: length of the random shift of each modality except the first, in mm;
            the random rotation has the same number of degrees.
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
        name: the subject's BIDS name, e.g. "sub-001".
        scans: modality → (x, y, z) float32; MR in arbitrary units, CT in HU.
        labels: (x, y, z) indices into `signal.TISSUES`, aligned with the first modality.
        affine: (4, 4) affine of the scans and the labels, RAS+, in mm.
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
    """Make one virtual subject.

    Args:
        index: the subject's number, from 1.
        modalities, seed, spacing_mm, lesions, misregistration_mm, noise, bias: as in
            `write_cohort`.

    Raises:
        OptionError: a parameter is out of range, or a modality is unknown.
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
    """A shift of `length` mm and a rotation of `length` degrees, in random directions.

    The random numbers are drawn even if `length` is 0, so that later draws do not depend on it.

    Returns:
        The shift (3,) in mm and the rotation vector (3,) in radians; None if `length` is 0.
    """
    shift, axis = rng.standard_normal((2, 3))
    if length == 0:
        return None
    turn = np.deg2rad(length) * axis / np.linalg.norm(axis)
    return length * shift / np.linalg.norm(shift), turn


def _acquire(
    rng: np.random.Generator, person: Anatomy, modality: str, index: int, settings: Settings
) -> Array:
    """Simulate a scan of a person: signal, receive field, noise and arbitrary gain."""
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
    # Rician noise: the magnitude of a complex signal with noise in both channels.
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
    """Write virtual subjects to a folder, or complete a cohort that was interrupted.

    Args:
        out: a folder that is new, empty, or holds a cohort with the same parameters.
        subjects: number of subjects; subject i does not depend on this number.
        modalities: some of `PROTOCOLS`; misregistration does not move the first one.
        seed, spacing_mm, lesions, misregistration_mm, noise, bias: see `Settings`.
        report: receives the number of finished subjects.

    Returns:
        The subjects' folders, in order.

    Raises:
        OptionError: a parameter is out of range, a modality is unknown, or the folder holds
            other data or another process writes to it.
        UserError: the folder cannot be written, or the disk has too little space.
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
    """Modality → file of a subject's scan, and "dseg" → file of its labels, which comes last."""
    paths = {
        m: out / name / "anat" / f"{name}_{PROTOCOLS[m].bids_suffix}.nii.gz" for m in modalities
    }
    paths["dseg"] = out / "derivatives" / "labels" / name / "anat" / f"{name}_dseg.nii.gz"
    return paths


def subject_name(index: int) -> str:
    return f"sub-{index:03d}"


def claim_folder(out: Path, parameters: dict[str, Any]) -> None:
    """Write the description of a new cohort, or check that the existing cohort is the same.

    Args:
        out: the folder of the cohort.
        parameters: plain values that determine the cohort.

    Raises:
        OptionError: the folder holds other data, or a cohort with other parameters.
    """
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
    """Raise OptionError for parameters out of range and for unknown modalities."""
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
    """Check that no modality is given twice, and that numbers are within their ranges.

    Args:
        modalities: the modalities of a cohort.
        ranges: name → (value, smallest allowed value, largest allowed value).

    Raises:
        OptionError: a modality is given twice, or a number is out of its range.
    """
    if len(set(modalities)) < len(modalities):
        raise OptionError(f"modalities {','.join(modalities)}", "each one once")
    for name, (value, low, high) in ranges.items():
        if not low <= value <= high:  # also true for NaN
            raise OptionError(f"{name} {value}", f"a value from {low} to {high}")
