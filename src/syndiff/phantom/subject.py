"""A virtual subject: one head scanned with several modalities, with its exact truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import OptionError
from syndiff.phantom.anatomy import (
    Anatomy,
    look_up,
    make_anatomy,
    random_stream,
    rigid_displacement,
    scan_grid,
    tissue_fractions,
)
from syndiff.phantom.fields import Array, Grid, smooth_field
from syndiff.phantom.signal import (
    LABEL,
    MODALITIES,
    Tissue,
    personal_tissues,
    rician,
    signal_image,
)

CT_NOISE_HU = 250.0  # HU per unit of `noise`: 5 HU at the default 0.02
BRAIN = [LABEL[n] for n in ("cerebrospinal_fluid", "grey_matter", "white_matter", "lesion")]


@dataclass(frozen=True)
class Options:
    """How a cohort is scanned; two cohorts of equal options and seed are equal.

    Attributes:
        spacing_mm: isotropic voxel size.
        lesions: how many lesions each subject has in the white matter.
        misregistration_mm: rms displacement of the head between the first modality and each
            other one; the affines do not tell of it.
        noise: MR: standard deviation over the brain's mean signal; CT: times 250 HU.
        bias: largest relative deviation of the MR receive field within the head.
    """

    spacing_mm: float = 2.0
    lesions: int = 0
    misregistration_mm: float = 0.0
    noise: float = 0.02
    bias: float = 0.2

    def __post_init__(self) -> None:
        limits = {
            "spacing_mm": (0.8, 8.0),
            "lesions": (0, 100),
            "misregistration_mm": (0.0, 30.0),
            "noise": (0.0, 1.0),
            "bias": (0.0, 0.9),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:  # also catches NaN
                option = "--" + name.replace("_", "-")
                raise OptionError(f"{option} {value}", f"a value from {low} to {high}")


@dataclass(frozen=True)
class Subject:
    """One virtual subject in memory; every array is (x, y, z), RAS+, on the grid of `affine`.

    Attributes:
        name: "sub-001".
        scans: modality → float32 image, MR in arbitrary units, CT in HU.
        labels: uint8 tissue of the largest fraction; values are positions in `signal.TISSUES`.
        fractions: (k, x, y, z) the exact tissue fractions behind `labels`.
        affine: (4, 4) voxel indices → mm.
        motions: modality → (4, 4) rigid displacement of the head in that scan, mm; the identity
            for the first modality, to which labels and fractions belong.
    """

    name: str
    scans: dict[str, Array]
    labels: NDArray[np.uint8]
    fractions: Array = field(repr=False)
    affine: NDArray[np.float64] = field(repr=False)
    motions: dict[str, NDArray[np.float64]] = field(repr=False)


def check_modalities(modalities: Sequence[str]) -> tuple[str, ...]:
    """The modalities as a tuple, or OptionError if one is unknown, double or none is given."""
    for name in modalities:
        if name not in MODALITIES:
            raise OptionError(
                f"no modality {name!r}", f"some of {', '.join(MODALITIES)}", "mind the capitals"
            )
    if not modalities or len(set(modalities)) != len(modalities):
        raise OptionError(
            f"--modalities {','.join(modalities) or '(none)'}",
            f"each once, some of {', '.join(MODALITIES)}",
        )
    return tuple(modalities)


def make_subject(
    index: int, modalities: Sequence[str], seed: int, options: Options | None = None
) -> Subject:
    """Make subject `index` (from 1) of the cohort of `seed`.

    The head depends on seed and index alone, a scan also on its modality and the options; with
    misregistration, on whether it is the first modality, which never moves.

    Raises:
        OptionError: an unknown modality, an index below 1 or a negative seed.
    """
    options = options or Options()
    modalities = check_modalities(modalities)
    if index < 1 or seed < 0:
        raise OptionError(f"subject {index} of seed {seed}", "an index from 1 and a seed from 0")
    grid = scan_grid(options.spacing_mm)
    anatomy = make_anatomy(index, seed, options.spacing_mm, options.lesions)
    tissues = personal_tissues(random_stream(seed, index, "tissues"))
    still = _see(anatomy, grid, np.eye(4))
    scans, motions = {}, {}
    for modality in modalities:
        fractions, texture = still
        motions[modality] = np.eye(4)
        if options.misregistration_mm > 0 and modality != modalities[0]:
            draw = random_stream(seed, index, "motion", modality)
            motions[modality] = rigid_displacement(draw, options.misregistration_mm)
            fractions, texture = _see(anatomy, grid, motions[modality])
        rng = random_stream(seed, index, "scan", modality)
        scans[modality] = _scan(modality, fractions, texture, tissues, grid, options, rng)
    labels = still[0].argmax(axis=0).astype(np.uint8)
    return Subject(f"sub-{index:03d}", scans, labels, still[0], grid.affine, motions)


def _see(anatomy: Anatomy, grid: Grid, motion: NDArray[np.float64]) -> tuple[Array, Array]:
    """Tissue fractions (k, x, y, z) and texture (x, y, z) of a head that has moved."""
    channels = look_up(anatomy, grid, motion)
    texture = channels[..., -2]
    return tissue_fractions(channels, grid.spacing_mm), np.ascontiguousarray(texture)


def _scan(
    modality: str,
    fractions: Array,
    texture: Array,
    tissues: tuple[Tissue, ...],
    grid: Grid,
    options: Options,
    rng: np.random.Generator,
) -> Array:
    """Scan a head: signal, receive field, gain and noise."""
    signal = signal_image(fractions, texture, tissues, modality)
    if modality == "CT":
        return signal + np.float32(options.noise * CT_NOISE_HU) * rng.standard_normal(
            grid.shape, dtype=np.float32
        )
    gain = np.float32(1.0 / _brain_mean(signal, fractions))
    gain *= np.float32(rng.uniform(500.0, 1500.0))  # scanners' units are arbitrary
    field = smooth_field(rng, grid, 90.0)
    field *= np.float32(np.log1p(options.bias)) / np.abs(field).max()
    mean = gain * np.float32(_brain_mean(signal, fractions))
    return rician(signal * gain * np.exp(field), float(mean) * options.noise, rng)


def _brain_mean(signal: Array, fractions: Array) -> float:
    """Mean signal over the inside of the skull."""
    weight = fractions[BRAIN].sum(axis=0)
    return float((signal * weight).sum() / weight.sum())
