"""Volumes: an array and its affine, which never part.

Axes. In memory every volume is RAS+: `array[x, y, z]` grows to the patient's right, anterior and
superior, whatever the file's own order is. Reading permutes and flips axes (exact, no
interpolation); writing undoes it, so a result lies on the very grid of the file that it came from.
Slices for the networks are `(z, y, x)`, z ascending to superior: see `to_slices`.
"""

from __future__ import annotations

import gzip
import warnings
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from syndiff.errors import GeometryError, OptionError, VolumeError
from syndiff.io.atomic import whole_file
from syndiff.io.marks import synthetic_mark

NIFTI_SUFFIXES = (".nii", ".nii.gz")
READABLE_SUFFIXES = (*NIFTI_SUFFIXES, ".mgz", ".mgh", ".hdr", ".img")
READABLE_IMAGES = (nib.Nifti1Pair, nib.Nifti2Pair, nib.MGHImage)


@dataclass(frozen=True)
class Stored:
    """How a file holds a volume: what writing needs to restore it."""

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    orientation: NDArray[np.float64]  # nibabel's (3, 2) table: file axis → RAS+ axis, flip
    header: Any = None  # nibabel header of the file, None for volumes made in memory
    path: Path | None = None


@dataclass(frozen=True)
class Volume:
    """A 3-D image in RAS+ order with the affine of that order.

    Attributes:
        array: (x, y, z) float32.
        affine: (4, 4) float64, voxel indices of `array` → world coordinates in mm (RAS+).
        stored: the file's own grid and header; made from `affine` for volumes born in memory.
        synthetic: the words that mark a synthetic image, which go wherever it is written; empty
            for an acquired one.
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    stored: Stored = field(default=None, repr=False)  # type: ignore[assignment]
    synthetic: str = ""

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise GeometryError(f"an array of shape {self.array.shape}", "three axes (x, y, z)")
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4):
            raise GeometryError(f"an affine of shape {affine.shape}", "(4, 4)")
        object.__setattr__(self, "array", np.asarray(self.array, dtype=np.float32))
        object.__setattr__(self, "affine", affine)
        if self.stored is None:
            own = np.stack([np.arange(3.0), np.ones(3)], axis=1)
            object.__setattr__(self, "stored", Stored(self.array.shape, affine, own))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along x, y, z in mm."""
        x, y, z = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(x), float(y), float(z)

    @property
    def name(self) -> str:
        """The file's name for messages, "volume" if it has none."""
        return self.stored.path.name if self.stored.path else "volume"

    def like(self, array: NDArray[Any]) -> Volume:
        """Other values on this very grid.

        Raises:
            GeometryError: `array` has another shape.
        """
        if array.shape != self.array.shape:
            raise GeometryError(f"values of shape {array.shape}", f"the grid {self.array.shape}")
        return replace(self, array=np.asarray(array, dtype=np.float32))


def to_slices(volume: Volume) -> NDArray[np.float32]:
    """The axial slices (z, y, x) of a volume, z ascending to superior; a view."""
    return volume.array.transpose(2, 1, 0)


def from_slices(slices: NDArray[Any]) -> NDArray[Any]:
    """The array (x, y, z) of axial slices (z, y, x); a view. Inverse of `to_slices`."""
    return slices.transpose(2, 1, 0)


def suffix_of(path: str | Path) -> str:
    """The image suffix of a file name in lower case (".nii.gz" counts as one), else ""."""
    name = Path(path).name.lower()
    return next((s for s in (".nii.gz", *READABLE_SUFFIXES) if name.endswith(s)), "")


def read(path: str | Path) -> Volume:
    """Read a NIfTI-1, NIfTI-2 or MGH volume into RAS+ order, float32.

    Raises:
        VolumeError: the file is missing, damaged, no 3-D scalar image, holds NaN or infinite
            values, is blank, or does not say how it lies in space.
    """
    path = Path(path)
    image = _load(path)
    array = _values(image, path)
    affine = _affine(image, path)
    orientation = io_orientation(affine)
    ras = np.ascontiguousarray(apply_orientation(array, orientation))
    stored = Stored(array.shape, affine, orientation, image.header, path)
    mark = synthetic_mark(image.header, path)
    return Volume(ras, affine @ inv_ornt_aff(orientation, array.shape), stored, mark)


def write(volume: Volume, path: str | Path, description: str = "") -> None:
    """Write a volume as float32 NIfTI in the orientation, shape and affine of its own file.

    The header is kept (units, form codes) except what no longer holds: value scaling, display
    range, and fields in which scanners put names and numbers of patients. The mark of a
    synthetic volume, else `description`, goes into the header's `descrip` (79 characters) and
    into a comment.

    Raises:
        OptionError: `path` ends neither in .nii nor in .nii.gz.
        UserError: the file could not be written; nothing is left behind.
    """
    check_output_name(path)
    stored = volume.stored
    array = _to_file_order(volume)
    nifti2 = isinstance(stored.header, nib.Nifti2Header)
    image_class, header_class = (
        (nib.Nifti2Image, nib.Nifti2Header) if nifti2 else (nib.Nifti1Image, nib.Nifti1Header)
    )
    header = header_class.from_header(stored.header) if stored.header is not None else None
    image = image_class(array, stored.affine, header)
    if not isinstance(stored.header, nib.Nifti1Header):  # Nifti2Header is a Nifti1Header too
        image.set_sform(stored.affine, code="scanner")
        image.set_qform(stored.affine, code="scanner")
        image.header.set_xyzt_units("mm")
    head = image.header
    words = volume.synthetic or description
    head.set_data_dtype(np.float32)
    head.set_slope_inter(1.0, 0.0)
    head["descrip"] = words.encode("ascii", "replace")[:79]
    head["cal_min"] = head["cal_max"] = 0
    head["aux_file"] = b""
    if "db_name" in head:  # NIfTI-1 only
        head["db_name"] = b""
    head.extensions.clear()
    if words:
        head.extensions.append(nib.nifti1.Nifti1Extension("comment", words.encode()))
    with whole_file(path) as temporary:
        nib.save(image, temporary)


def check_output_name(path: str | Path) -> None:
    """Raise OptionError unless `path` can be written as NIfTI; called before any long work."""
    if suffix_of(path) not in NIFTI_SUFFIXES:
        raise OptionError(
            f"the output name {Path(path).name!r}", "a name ending in .nii.gz or .nii"
        )


def same_grid(a: Volume, b: Volume, tolerance_mm: float = 1e-2) -> bool:
    """Whether two volumes have the same shape and the same place in the world."""
    if a.array.shape != b.array.shape:
        return False
    corner = np.array([*np.subtract(a.array.shape, 1), 1.0])
    corners = np.stack([[0, 0, 0, 1], corner, [corner[0], 0, 0, 1], [0, corner[1], 0, 1]], axis=1)
    return bool(np.abs((a.affine - b.affine) @ corners).max() <= tolerance_mm)


def _to_file_order(volume: Volume) -> NDArray[np.float32]:
    """Undo the permutation and the flips that reading applied."""
    axes = volume.stored.orientation[:, 0].astype(int)
    array = volume.array
    for ras_axis, flip in zip(axes, volume.stored.orientation[:, 1], strict=True):
        if flip < 0:
            array = np.flip(array, ras_axis)
    array = np.ascontiguousarray(array.transpose(axes)).astype(np.float32, copy=False)
    return array.reshape(volume.stored.shape)


def _load(path: Path) -> Any:
    """Open an image file with nibabel, or say in one line why not."""
    if not path.exists():
        raise VolumeError(f"no file {path}", remedy="check the path")
    if path.is_dir():
        raise VolumeError(f"{path} is a folder", "one image file (.nii.gz, .nii, .mgz)")
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise VolumeError(f"{path} is empty (0 bytes)", remedy="copy or download it again")
    if head.startswith(b"version https://git-lfs"):
        raise VolumeError(
            f"{path} is a git-LFS pointer, not an image", remedy="run 'git lfs pull'"
        )
    try:
        image = nib.load(path)
    except Exception as error:  # nibabel raises many kinds; each means "not an image"
        raise VolumeError(
            f"{path} is not a readable image ({_first_line(error)})",
            "a whole NIfTI or MGH file",
            "DICOM: convert it to NIfTI first" if head[:4] == b"DICM" or _is_dicom(path) else "",
        ) from error
    if not isinstance(image, READABLE_IMAGES):
        raise VolumeError(f"{path} is a {type(image).__name__}", "a NIfTI or MGH image")
    return image


def _values(image: Any, path: Path) -> NDArray[np.float32]:
    """The image's values as a finite, non-constant float32 array with three axes."""
    dtype = image.get_data_dtype()
    if dtype.fields is not None:
        raise VolumeError(f"{path} holds colours ({dtype})", "one grey value per voxel")
    if np.issubdtype(dtype, np.complexfloating):
        raise VolumeError(f"{path} holds complex values", "real values", "store the magnitude")
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3:
        raise VolumeError(
            f"{path} has {len(shape)} axes {shape}", "3", "choose one volume of the series"
        )
    shape = shape + (1,) * (3 - len(shape))
    if min(shape) == 0:
        raise VolumeError(f"{path} holds no voxels (shape {shape})")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a bad scale factor shows as NaN below
            array = np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged"))
    except FileNotFoundError as error:
        missing = Path(error.filename).name if error.filename else "its image"
        raise VolumeError(
            f"{path} is a header without its image", f"{missing} beside it", "copy both files"
        ) from error
    except (OSError, EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise VolumeError(
            f"{path} is damaged or cut short ({_first_line(error)})", remedy="copy it again"
        ) from error
    except MemoryError as error:
        raise VolumeError(f"{path} with shape {shape} does not fit into memory") from error
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise VolumeError(
            f"{path} holds {bad} NaN or infinite values of {array.size}",
            "finite values",
            "replace them (for a masked scan: by 0)",
        )
    if array.min() == array.max():
        raise VolumeError(f"{path} is blank: every voxel is {array.flat[0]:g}", "an image")
    return array.reshape(shape)


def _affine(image: Any, path: Path) -> NDArray[np.float64]:
    """The image's affine in mm; refused where the file does not determine it."""
    header = image.header
    scale = 1.0
    if isinstance(header, nib.Nifti1Header):
        if header["sform_code"] == 0 and header["qform_code"] == 0:
            raise VolumeError(
                f"{path} does not say how it lies in space (sform and qform codes are 0), so left "
                "and right are unknown",
                "an sform or a qform",
                "set the orientation, e.g. with nibabel or fslorient",
            )
        scale = {"meter": 1000.0, "micron": 1e-3}.get(header.get_xyzt_units()[0], 1.0)
    if scale != 1.0:
        raise VolumeError(f"{path} measures space in {header.get_xyzt_units()[0]}", "mm")
    affine = np.asarray(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all():
        raise VolumeError(f"the affine of {path} is not finite", "a 4×4 affine in mm")
    lengths = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if lengths.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise VolumeError(
            f"the affine of {path} is singular",
            "three independent axes of non-zero spacing",
            "repair the header's sform and qform",
        )
    return affine


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM" or path.suffix.lower() == ".dcm"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
