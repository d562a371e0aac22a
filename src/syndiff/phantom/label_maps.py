"""Read label maps of individual heads and convert them to one list of tissues.

Two families of label maps are supported:

BrainWeb   discrete anatomical models of twelve classes at 0.5 mm (Aubert-Broche et al., IEEE TMI
           25(11), 2006), as NIfTI or MINC
SynthSeg   FreeSurfer's numbers inside the brain, 502 to 530 outside it (Billot et al., Medical
           Image Analysis 86, 2023)
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.errors import VolumeError

TISSUES = (
    "air", "csf", "grey_matter", "white_matter", "brain_stem", "thalamus", "caudate", "putamen",
    "pallidum", "hippocampus", "lesion", "oedema", "vessel", "sinus", "muscle", "fat",
    "scalp_1", "scalp_2", "scalp_3", "scalp_4", "bone", "marrow", "eye", "orbit", "mucosa",
    "cord", "choroid", "perivascular", "falx", "ventricle",
)  # fmt: skip
INDEX = {name: code for code, name in enumerate(TISSUES)}
BRAIN = (
    "csf", "grey_matter", "white_matter", "brain_stem", "thalamus", "caudate", "putamen",
    "pallidum", "hippocampus", "lesion", "oedema", "choroid", "perivascular", "ventricle",
)  # fmt: skip
VESSELS = ("vessel", "sinus")
ORBIT_MM = 10.0  # thickness of the orbital fat around the eye
VENTRICLE_DEPTH_MM = 28.0  # fluid deeper than this below the brain's surface is ventricle
SCALP_DEPTHS_MM = (1.6, 3.2, 5.0, 8.0)  # depth of the lower border of scalp_1 … scalp_4

BRAINWEB = (
    "air", "csf", "grey_matter", "white_matter", "fat", "muscle", "scalp_1", "bone", "vessel",
    "fat", "sinus", "marrow",
)  # fmt: skip
SYNTHSEG: dict[str, tuple[int, ...]] = {
    "csf": (24,),
    "ventricle": (4, 5, 43, 44, 14, 15, 72),
    "grey_matter": (3, 42, 8, 47),
    "white_matter": (2, 41, 7, 46, 28, 60, 85),
    "brain_stem": (16,),
    "thalamus": (10, 49),
    "caudate": (11, 50, 26, 58),
    "putamen": (12, 51),
    "pallidum": (13, 52),
    "hippocampus": (17, 53, 18, 54),
    "lesion": (25, 57),
    "perivascular": (30, 62),
    "vessel": (502,),
    "sinus": (514,),
    "muscle": (507,),
    "scalp_1": (511,),
    "bone": (515,),
    "marrow": (516,),
    "eye": (506,),
    "orbit": (530, 508),
    "mucosa": (509,),
    "cord": (512,),
    "choroid": (136, 137, 163, 164, 31, 63),
}


def tissues_of_labels(labels: NDArray[np.integer], spacing_mm: float) -> NDArray[np.uint8]:
    """Convert a label map of either family to codes of `TISSUES`.

    Args:
        labels: (a, b, c), axes in any order; BrainWeb's classes or FreeSurfer's numbers.
        spacing_mm: size of the cubic voxels in mm.

    Returns:
        (a, b, c) codes of `TISSUES`.

    Raises:
        VolumeError: the labels belong to neither family.
    """
    highest = int(labels.max())
    if highest == 0 or labels.min() < 0 or highest > 600:
        raise VolumeError(
            f"labels from {int(labels.min())} to {highest}",
            "BrainWeb's 0 to 11 or FreeSurfer's numbers",
        )
    brainweb = highest < len(BRAINWEB)
    table = np.zeros(601, np.uint8)
    if brainweb:
        table[: len(BRAINWEB)] = [INDEX[name] for name in BRAINWEB]
    for name, numbers in () if brainweb else SYNTHSEG.items():
        table[list(numbers)] = INDEX[name]
    tissues = table[labels]
    if brainweb:
        _mark_ventricles(tissues, spacing_mm)
    else:
        _mark_falx(tissues, labels, spacing_mm)
    _layer_scalp(tissues, spacing_mm)
    _fill_orbits(tissues, spacing_mm)
    return tissues


def _mark_falx(tissues: NDArray[np.uint8], labels: NDArray[np.integer], spacing_mm: float) -> None:
    """Label the falx midway between the hemispheres; FreeSurfer has no number for it."""
    away = [
        ndimage.distance_transform_edt(~np.isin(labels, cortex)).astype(np.float32) * spacing_mm
        for cortex in ((2, 3), (41, 42))
    ]
    middle = (np.abs(away[0] - away[1]) < 0.6 * spacing_mm + 0.2) & (away[0] < 12)
    tissues[middle & (labels == 24)] = INDEX["falx"]


def _mark_ventricles(tissues: NDArray[np.uint8], spacing_mm: float) -> None:
    """Label fluid far below the surface of the brain as ventricle; BrainWeb has only fluid."""
    step = max(1, round(1.0 / spacing_mm))
    inside = np.isin(tissues[::step, ::step, ::step], [INDEX[n] for n in (*BRAIN, *VESSELS)])
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1, 1:-1]
    deep = _refined(depth * step * spacing_mm > VENTRICLE_DEPTH_MM, step, tissues.shape)
    tissues[deep & (tissues == INDEX["csf"])] = INDEX["ventricle"]


def _refined(coarse: NDArray[Any], step: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Repeat every value `step` times along each axis, and crop to `shape`."""
    for axis, size in enumerate(shape):
        coarse = np.repeat(coarse, step, axis).take(np.arange(size), axis)
    return coarse


def _fill_orbits(tissues: NDArray[np.uint8], spacing_mm: float) -> None:
    """Label soft tissue around the eyes as fat."""
    eyes = tissues == INDEX["eye"]
    if not eyes.any():
        return
    margin = math.ceil(ORBIT_MM / spacing_mm) + 1
    box = tuple(
        slice(max(0, part.start - margin), part.stop + margin)
        for part in ndimage.find_objects(eyes.astype(np.uint8))[0]
    )
    near = ndimage.distance_transform_edt(~eyes[box]) * spacing_mm < ORBIT_MM
    soft = np.isin(tissues[box], [INDEX[name] for name in ("muscle", "scalp_3", "scalp_4")])
    tissues[box][near & soft] = INDEX["fat"]


def _layer_scalp(tissues: NDArray[np.uint8], spacing_mm: float) -> None:
    """Divide the soft tissue below the skin into layers, so that the fat of scalps can vary."""
    step = max(1, round(1.0 / spacing_mm))  # an accuracy of 1 mm is enough for the depth
    coarse = tissues[::step, ::step, ::step] == 0
    pieces, _ = ndimage.label(np.pad(coarse, 1, constant_values=True))
    outside = (pieces == pieces[0, 0, 0])[1:-1, 1:-1, 1:-1]
    depth = ndimage.distance_transform_edt(np.pad(~outside, 2)) * step * spacing_mm
    depth = depth[2:-2, 2:-2, 2:-2].astype(np.float32) - 0.5 * step * spacing_mm
    depth = _refined(depth, step, tissues.shape)
    soft = np.isin(tissues, [INDEX["scalp_1"], INDEX["muscle"]])
    layer = np.digitize(depth, SCALP_DEPTHS_MM)
    codes = np.array(
        [INDEX[f"scalp_{n}"] for n in (1, 2, 3, 4)] + [INDEX["muscle"]], dtype=np.uint8
    )
    tissues[soft] = codes[layer[soft]]


def read_label_map(
    path: str | Path,
) -> tuple[NDArray[np.int16], float, NDArray[np.float64]]:
    """Read a label map in NIfTI, MGH or MINC format.

    Returns:
        The labels (z, y, x), RAS+; the voxel size in mm; the affine (4, 4) of (x, y, z) indices.

    Raises:
        VolumeError: the file cannot be read, or is not a label map with cubic voxels.
    """
    import nibabel as nib
    from nibabel.affines import voxel_sizes
    from nibabel.filebasedimages import ImageFileError

    try:
        image = nib.as_closest_canonical(nib.load(path))
        labels = np.asarray(image.dataobj)
    except (OSError, ValueError, EOFError, ImageFileError) as error:
        raise VolumeError(f"{path} cannot be read ({error})", "a label map") from error
    spacing = voxel_sizes(image.affine)
    if labels.ndim != 3 or np.ptp(spacing) > 0.02 * spacing.mean():
        raise VolumeError(f"{path} with voxels of {np.round(spacing, 2)} mm", "cubic voxels")
    whole = np.rint(labels)
    if not np.abs(labels - whole).max() < 0.01:  # also true for NaN
        raise VolumeError(f"{path} with values between whole numbers", "a label map")
    return whole.astype(np.int16).transpose(2, 1, 0), float(spacing.mean()), image.affine
