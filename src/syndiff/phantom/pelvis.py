"""Cohorts of virtual pelves in MR and CT, in the BIDS layout.

A subject depends only on (seed, index), and each scan has its own stream of random numbers, as in
`cohort`. MR and CT show the same person; with `organ_motion` on another day.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from syndiff.errors import OptionError
from syndiff.io import formats
from syndiff.io.atomic import write_text
from syndiff.io.locks import only_writer
from syndiff.io.outputs import check_folder
from syndiff.io.volume import Volume
from syndiff.phantom.cohort import (
    Subject,
    check_numbers,
    claim_folder,
    is_whole,
    scan_paths,
    subject_name,
)
from syndiff.phantom.fields import Array, smooth_field
from syndiff.phantom.pelvis_body import HALF_MM, Build, a_build, painted, view
from syndiff.phantom.pelvis_organs import a_day
from syndiff.phantom.pelvis_signal import (
    ALL_SITES,
    INDEX,
    MODALITIES,
    PROTOCOLS,
    TISSUES,
    Protocol,
    equation,
    site_of,
)
from syndiff.phantom.shapes import Canvas
from syndiff.phantom.signal import table_of, tissues_of
from syndiff.reporting import SILENT, Reporter

DESCRIPTION = "virtual pelvis (syndiff phantom)"
BUILD, SHAPE, DAY, OTHER_DAY, TISSUE, SITE, SCANS = range(7)  # streams of random numbers
CT_NOISE_HU = 600.0  # the HU that `noise` is relative to in CT
MARROW_HU = 900.0  # trabeculae: HU of marrow per unit of texture
AIR_HU = -1024.0  # the least that CT stores


@dataclass(frozen=True)
class Settings:
    """The parameters of a cohort, which its dataset_description.json records.

    Attributes:
        seed: seed of all random draws.
        spacing_mm: voxel size along all axes in mm.
        protocol: one of `pelvis_signal.PROTOCOLS`, or "gold-atlas": each subject at one of them.
        organ_motion: whether bladder, rectum and bowel gas differ between MR and CT.
        noise: standard deviation of the noise relative to muscle (CT: to 600 HU).
        bias: relative deviation of the receive field (two standard deviations); none in CT.
    """

    seed: int = 0
    spacing_mm: float = 2.0
    protocol: str = ALL_SITES
    organ_motion: bool = False
    noise: float = 0.02
    bias: float = 0.2


def make_pelvis(
    index: int, modalities: Sequence[str] = ("T1", "T2", "CT"), settings: Settings | None = None
) -> Subject:
    """Make one virtual pelvis.

    Args:
        index: the subject's number, from 1.
        modalities: some of T1, T2 and CT.
        settings: see `Settings`.

    Returns:
        The subject; its labels are indices into `pelvis_signal.TISSUES` and show the day of the
        first modality.

    Raises:
        OptionError: a parameter is out of range, or a modality is unknown.
    """
    settings = settings or Settings()
    _check(index, modalities, settings)
    site = site_of(_stream(settings, index, SITE), settings.protocol)
    build = a_build(_stream(settings, index, BUILD))
    tissues = tissues_of(_stream(settings, index, TISSUE), tissues=TISSUES)
    grid = view(settings.spacing_mm)
    streams = {m: _stream(settings, index, SCANS + MODALITIES.index(m)) for m in modalities}
    tables = {m: table_of(equation(m, site, streams[m]), tissues) for m in modalities}
    if "CT" in tables:
        for marrow in ("yellow_marrow", "red_marrow"):
            tables["CT"][INDEX[marrow], 1] = MARROW_HU
    scans, labels = {}, None
    for day, group in _days(modalities, settings.organ_motion):
        chosen = {m: tables[m] for m in group}
        rng = _stream(settings, index, SHAPE)
        canvas = painted(rng, grid, build, a_day(_stream(settings, index, day)), chosen)
        labels = canvas.labels if labels is None else labels
        for modality in group:
            scans[modality] = _acquire(streams[modality], canvas, modality, site, settings)
    assert labels is not None
    return Subject(subject_name(index), {m: scans[m] for m in modalities}, labels, grid.affine)


def _stream(settings: Settings, index: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([settings.seed, index, stream])


def _days(modalities: Sequence[str], motion: bool) -> list[tuple[int, list[str]]]:
    """Which scans are made on which day, the first modality's day first."""
    if not motion:
        return [(DAY, list(modalities))]
    days = {m: OTHER_DAY if m == "CT" else DAY for m in modalities}
    return [(d, [m for m in modalities if days[m] == d]) for d in dict.fromkeys(days.values())]


def _acquire(
    rng: np.random.Generator, canvas: Canvas, modality: str, site: Protocol, settings: Settings
) -> Array:
    """Kernel, receive field, noise and arbitrary gain."""
    image, grid = canvas.images[modality], canvas.grid
    gain = math.exp(rng.uniform(math.log(300.0), math.log(1500.0)))
    noise = np.float32(settings.noise)
    if modality == "CT":
        sigma = site.kernel_mm / settings.spacing_mm
        grain = rng.standard_normal(grid.shape, dtype=np.float32)
        image = image + np.float32(CT_NOISE_HU) * noise * grain
        image = ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest")
        return np.asarray(np.maximum(np.rint(image), AIR_HU), dtype=np.float32)
    muscle = image[canvas.labels == INDEX["muscle"]]
    image = image / np.float32(muscle.mean(dtype=np.float64))
    image *= np.exp(np.float32(settings.bias / 2) * smooth_field(rng, grid, 130.0, HALF_MM))
    # Rician noise: the magnitude of a complex signal with noise in both channels.
    image += noise * rng.standard_normal(grid.shape, dtype=np.float32)
    other = noise * rng.standard_normal(grid.shape, dtype=np.float32)
    return np.asarray(gain * np.hypot(image, other), dtype=np.float32)


def write_pelves(
    out: Path,
    *,
    subjects: int = 12,
    modalities: Sequence[str] = ("T1", "T2", "CT"),
    settings: Settings | None = None,
    report: Reporter = SILENT,
) -> list[Path]:
    """Write virtual pelves to a folder, or complete a cohort that was interrupted.

    Args:
        out: a folder that is new, empty, or holds a cohort with the same parameters.
        subjects: number of subjects; subject i does not depend on this number.
        modalities: some of T1, T2 and CT.
        settings: see `Settings`.
        report: receives the number of finished subjects.

    Returns:
        The subjects' folders, in order.

    Raises:
        OptionError: a parameter is out of range, a modality is unknown, or the folder holds
            other data or another process writes to it.
        UserError: the folder cannot be written, or the disk has too little space.
    """
    settings = settings or Settings()
    _check(subjects, modalities, settings)
    bytes_each = 4 * math.prod(view(settings.spacing_mm).shape)
    check_folder(out, bytes_each * subjects * (len(modalities) + 1))
    names = [subject_name(index) for index in range(1, subjects + 1)]
    parameters = {
        "anatomy": "pelvis", "subjects": subjects, "modalities": list(modalities),
        **asdict(settings),
    }  # fmt: skip
    table = "".join(f"{i}\t{tissue.name}\n" for i, tissue in enumerate(TISSUES))
    with only_writer(out):
        claim_folder(out, parameters)
        write_text(out / "participants.tsv", _participants(names, settings))
        write_text(out / "derivatives" / "labels" / "dseg.tsv", "index\tname\n" + table)
        for index, name in enumerate(names, start=1):
            paths = scan_paths(out, name, modalities)
            if not is_whole(paths):
                person = make_pelvis(index, modalities, settings)
                for kind, path in paths.items():
                    values = person.labels if kind == "dseg" else person.scans[kind]
                    volume = Volume(values.astype(np.float32), person.affine)
                    formats.write(volume, path, description=DESCRIPTION)
            report.progress(index, subjects)
    return [out / name for name in names]


def _participants(names: list[str], settings: Settings) -> str:
    """The table of persons: sex, and the thickness of the fat at the front."""
    rows = "participant_id\tseed\tsex\tsize\tfat_front_mm\n"
    for index, name in enumerate(names, start=1):
        build: Build = a_build(_stream(settings, index, BUILD))
        sex = "F" if build.female else "M"
        rows += f"{name}\t{settings.seed}\t{sex}\t{build.size:.3f}\t{build.fat_mm[0]:.1f}\n"
    return rows


def _check(subjects: int, modalities: Sequence[str], settings: Settings) -> None:
    """Raise OptionError for parameters out of range and for unknown modalities."""
    unknown = [m for m in modalities if m not in MODALITIES]
    if isinstance(modalities, str) or not modalities or unknown:
        given = modalities if isinstance(modalities, str) else ",".join(modalities)
        raise OptionError(
            f"the modalities {given!r} of a pelvis", f"some of {','.join(MODALITIES)}"
        )
    sites = (*PROTOCOLS, ALL_SITES)
    if settings.protocol not in sites:
        raise OptionError(
            f"the `protocol` {settings.protocol!r} of a pelvis", f"one of {', '.join(sites)}"
        )
    check_numbers(
        modalities,
        subjects=(subjects, 1, 999),
        seed=(settings.seed, 0, 2**63),
        spacing=(settings.spacing_mm, 1, 8),
        noise=(settings.noise, 0, 1),
        bias=(settings.bias, 0, 1),
    )
