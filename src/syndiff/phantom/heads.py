"""Virtual subjects from label maps of individual heads, in the BIDS layout.

Each label map gives one subject. Its scans are simulated from the tissues' signals under a named
protocol, with partial volume, coil shading and noise. The random draws of a subject depend only on
(seed, index).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.errors import DataError, OptionError
from syndiff.io import formats
from syndiff.io.atomic import write_text
from syndiff.io.locks import only_writer
from syndiff.io.volume import Volume
from syndiff.phantom import head_signal
from syndiff.phantom.cohort import (
    check_numbers,
    claim_folder,
    is_whole,
    scan_paths,
    subject_name,
)
from syndiff.phantom.head_contrast import source_signal
from syndiff.phantom.head_signal import signal_of, with_scalp
from syndiff.phantom.label_maps import INDEX, TISSUES, read_label_map, tissues_of_labels
from syndiff.phantom.signal import MODALITIES
from syndiff.reporting import SILENT, Reporter

Array = NDArray[np.float32]
ENDINGS = (".nii", ".nii.gz", ".mgz", ".mgh", ".mnc", ".mnc.gz")
DESCRIPTION = "virtual head from a label map (syndiff phantom)"


@dataclass(frozen=True)
class Protocol:
    """The acquisition of a head.

    Attributes:
        t1: name of the table of T1w signals in `head_signal`; None: random for each subject.
        slice_mm: distance between slices in mm; 0: the same as the pixel size.
        spread: relative standard deviation of each tissue's signal.
    """

    t1: str | None
    slice_mm: float
    spread: float


PROTOCOLS = {
    "ixi": Protocol("MPRAGE", 0.0, 0.02),
    "mprage": Protocol("MPRAGE", 0.0, 0.05),
    "clinical2d": Protocol("SPIN_ECHO_T1", 3.0, 0.05),
    "random": Protocol(None, 0.0, 0.05),
}
TABLES = {
    "T2": head_signal.FSE_T2, "PD": head_signal.PROTON_DENSITY, "FLAIR": head_signal.FLAIR,
    "CT": head_signal.CT_HU,
}  # fmt: skip


def write_heads(
    out: Path,
    anatomy: Path,
    *,
    subjects: int = 0,
    modalities: Sequence[str] = ("T1", "T2"),
    seed: int = 0,
    spacing_mm: float = 1.0,
    protocol: str = "ixi",
    noise: float = 0.02,
    bias: float = 0.2,
    report: Reporter = SILENT,
) -> list[Path]:
    """Write one virtual subject for each label map, or complete a cohort that was interrupted.

    Args:
        out: a folder that is new, empty, or holds a cohort with the same parameters.
        anatomy: folder of label maps in NIfTI, MGH or MINC format, with BrainWeb's classes or
            with the numbers of FreeSurfer and SynthSeg.
        subjects: number of maps to use, in the order of their names; 0: all.
        modalities: some of T1, T2, PD, FLAIR and CT.
        seed: seed of contrast, shading and noise.
        spacing_mm: pixel size in mm; a multiple of the maps' voxel size.
        protocol: one of `PROTOCOLS`.
        noise: standard deviation of the noise relative to white matter (CT: to 300 HU).
        bias: relative deviation of the receive field; none in CT.
        report: receives the number of finished subjects.

    Returns:
        The subjects' folders, in the order of the maps' names.

    Raises:
        OptionError: a parameter is out of range, the protocol or a modality is unknown, or the
            folder holds other data.
        DataError: `anatomy` holds no label maps, or fewer than `subjects`.
        VolumeError: a label map cannot be read.
    """
    maps = find_label_maps(anatomy)
    if subjects > len(maps):
        raise DataError(f"{len(maps)} label maps in {anatomy}", f"{subjects} as asked for")
    maps = maps[: subjects or len(maps)]
    if protocol not in PROTOCOLS:
        raise OptionError(f"the protocol {protocol!r}", f"one of {', '.join(PROTOCOLS)}")
    unknown = [m for m in modalities if m not in MODALITIES]
    if unknown or not modalities:
        raise OptionError(f"the modalities {', '.join(modalities)!r}", ", ".join(MODALITIES))
    check_numbers(
        modalities,
        subjects=(subjects, 0, 999),
        seed=(seed, 0, 2**63),
        spacing_mm=(spacing_mm, 0.1, 8),
        noise=(noise, 0, 1),
        bias=(bias, 0, 1),
    )
    _step(spacing_mm, read_label_map(maps[0])[1])  # an error must come before `out` is made
    settings = {
        "maps": [path.name for path in maps], "modalities": list(modalities), "seed": seed,
        "spacing_mm": spacing_mm, "protocol": protocol, "noise": noise, "bias": bias,
    }  # fmt: skip
    rows = "".join(f"{subject_name(i)}\t{path.name}\n" for i, path in enumerate(maps, start=1))
    table = "".join(f"{code}\t{name}\n" for code, name in enumerate(TISSUES))
    with only_writer(out):
        claim_folder(out, settings)
        write_text(out / "participants.tsv", "participant_id\tlabel_map\n" + rows)
        write_text(out / "derivatives" / "labels" / "dseg.tsv", "index\tname\n" + table)
        for index, path in enumerate(maps, start=1):
            paths = scan_paths(out, subject_name(index), modalities)
            if not is_whole(paths):
                made = scan_head(path, index, modalities, seed, spacing_mm, protocol, noise, bias)
                for kind, volume in made.items():
                    formats.write(volume, paths[kind], description=DESCRIPTION)
            report.progress(index, len(maps))
    return [out / subject_name(index) for index in range(1, len(maps) + 1)]


def find_label_maps(anatomy: Path) -> list[Path]:
    """The label maps of a folder, in the order of their names.

    Raises:
        DataError: the folder holds no label maps.
    """
    files = sorted(anatomy.iterdir()) if anatomy.is_dir() else []
    maps = [p for p in files if p.name.lower().endswith(ENDINGS) and p.name[0] != "."]
    if not maps:
        raise DataError(f"no label maps in {anatomy}", "files such as subject04.mnc.gz or .nii.gz")
    return maps


def _step(spacing_mm: float, own_mm: float) -> int:
    """The number of voxels of a label map along one pixel of the image.

    Raises:
        OptionError: `spacing_mm` is not a multiple of the label map's voxel size `own_mm`.
    """
    step = max(1, round(spacing_mm / own_mm))
    if abs(step * own_mm - spacing_mm) > 0.01 * spacing_mm:
        raise OptionError(f"voxels of {spacing_mm:g} mm", f"a multiple of {own_mm:g} mm")
    return step


def scan_head(
    path: Path,
    index: int,
    modalities: Sequence[str],
    seed: int,
    spacing_mm: float,
    protocol: str,
    noise: float,
    bias: float,
) -> dict[str, Volume]:
    """Simulate the scans of a head.

    Args:
        path: the label map.
        index: the subject's number, from 1.
        modalities, seed, spacing_mm, protocol, noise, bias: as in `write_heads`.

    Returns:
        Modality → scan, and "dseg" → codes of `TISSUES`; all on the same grid.

    Raises:
        OptionError: `spacing_mm` is not a multiple of the map's voxel size.
        VolumeError: the label map cannot be read.
    """
    labels, own_mm, affine = read_label_map(path)
    step = _step(spacing_mm, own_mm)
    thick = round(PROTOCOLS[protocol].slice_mm / own_mm) or step
    block = (max(thick, step), step, step)
    tissues = tissues_of_labels(labels, own_mm)
    tissues = tissues[tuple(slice(n - n % b) for n, b in zip(tissues.shape, block, strict=True))]
    contrast = np.random.default_rng([seed, index, 0])
    fat_layers, skin_fat = contrast.uniform(1, 3), contrast.uniform(0, 0.6)
    grid = affine @ np.diag([*block[::-1], 1.0])
    grid[:3, 3] = (affine @ np.array([*((b - 1) / 2 for b in block[::-1]), 1.0]))[:3]
    made = {}
    for modality in modalities:
        rng = np.random.default_rng([seed, index, 1 + MODALITIES.index(modality)])
        signal = _signal(rng, modality, PROTOCOLS[protocol], fat_layers, skin_fat)
        image = _mean_of_blocks(signal[tissues], block)
        image = _acquire(rng, image, modality == "CT", noise, bias)
        made[modality] = Volume(np.ascontiguousarray(image.transpose(2, 1, 0)), grid)
    middle = tissues[tuple(slice(b // 2, None, b) for b in block)]
    made["dseg"] = Volume(middle.transpose(2, 1, 0).astype(np.float32), grid)
    return made


def _signal(
    rng: np.random.Generator,
    modality: str,
    protocol: Protocol,
    fat_layers: float,
    skin_fat: float,
) -> Array:
    """The signal of each tissue code, (tissues,)."""
    if modality == "T1" and protocol.t1 is None:
        return source_signal(rng, fat_layers, skin_fat)
    table = getattr(head_signal, protocol.t1 or "MPRAGE") if modality == "T1" else TABLES[modality]
    signal = signal_of(table)
    if modality != "CT":
        signal = signal * np.exp(rng.normal(0, protocol.spread, len(signal)))
        signal = signal / signal[INDEX["white_matter"]]
    return with_scalp(signal.astype(np.float32), fat_layers, skin_fat)


def _mean_of_blocks(fine: Array, block: tuple[int, int, int]) -> Array:
    """Partial volume: the means of (z, y, x) over blocks; the shape is a multiple of `block`."""
    shape = [n for size, b in zip(fine.shape, block, strict=True) for n in (size // b, b)]
    return np.asarray(fine.reshape(shape).mean((1, 3, 5)), np.float32)


def _acquire(
    rng: np.random.Generator, image: Array, is_ct: bool, noise: float, bias: float
) -> Array:
    """Apply blur, coil shading, noise (Rician in MR) and gain to an image (z, y, x)."""
    image = ndimage.gaussian_filter(image, (0, 0.4, 0.4))
    if is_ct:
        return image + np.float32(300 * noise) * rng.standard_normal(image.shape, np.float32)
    coarse = rng.standard_normal((4, 4, 4))
    zoom = [n / 4 for n in image.shape]
    field = ndimage.zoom(coarse, zoom, order=3, mode="nearest", grid_mode=True).astype(np.float32)
    image = image * np.exp(np.float32(bias / 2) * field)
    real = image + np.float32(noise) * rng.standard_normal(image.shape, np.float32)
    imaginary = np.float32(noise) * rng.standard_normal(image.shape, np.float32)
    return np.asarray(np.hypot(real, imaginary) * np.float32(rng.uniform(200, 600)), np.float32)
