"""Read and write NIfTI files, and read MGH files, with nibabel."""

from __future__ import annotations

import gzip
import warnings
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from syndiff.errors import VolumeError
from syndiff.io.atomic import whole_file
from syndiff.io.dicom import is_dicom
from syndiff.io.marks import synthetic_mark
from syndiff.io.volume import Stored, Volume

IN_MM = {"meter": 1000.0, "micron": 1e-3}
HEADER_ERRORS = (  # nibabel and numpy raise these for headers with invalid values
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    ArithmeticError,
    np.linalg.LinAlgError,
    HeaderDataError,
)
READABLE_IMAGES = (nib.Nifti1Pair, nib.Nifti2Pair, nib.MGHImage)


def read(path: str | Path) -> Volume:
    """Read a NIfTI-1, NIfTI-2 or MGH volume into RAS+ order as float32.

    Raises:
        VolumeError: the file is missing or damaged, is not a 3-D scalar image, holds NaN or
            infinite values, is blank, or does not state its orientation.
    """
    path = Path(path)
    image = _load(path)
    try:
        array = _values(image, path)
        affine = _affine(image, path)
    except HEADER_ERRORS as error:  # unknown codes, impossible sizes
        raise VolumeError(
            f"the header of {path} makes no sense ({_first_line(error)})",
            "a whole NIfTI or MGH file",
            "copy it again",
        ) from error
    orientation = io_orientation(affine)
    ras = np.ascontiguousarray(apply_orientation(array, orientation))
    stored = Stored(array.shape, affine, orientation, image.header, path)
    mark = synthetic_mark(image.header, path)
    return Volume(ras, affine @ inv_ornt_aff(orientation, array.shape), stored, mark)


def mark_of(path: Path) -> str:
    """The text that marks a file as synthetic; empty if there is none or it cannot be read."""
    try:
        return synthetic_mark(nib.load(path).header, path)
    except Exception:  # the reader of the file reports the error later
        return ""


def write(volume: Volume, path: str | Path, description: str) -> None:
    """Write a volume as float32 NIfTI with the orientation, shape and affine of `volume.stored`.

    Units and form codes of the original header are kept. Value scaling, display range and all
    text fields are reset: the first two no longer hold, and scanners may put names and numbers
    of patients into text fields. The mark of a synthetic volume, or `description` for any other
    volume, goes into the header's `descrip` (cut to 79 characters) and into a comment.

    Raises:
        UserError: the file could not be written; nothing is left behind.
    """
    stored = volume.stored
    array = _to_file_order(volume)
    nifti2 = isinstance(stored.header, nib.Nifti2Header)
    image_class, header_class = (
        (nib.Nifti2Image, nib.Nifti2Header) if nifti2 else (nib.Nifti1Image, nib.Nifti1Header)
    )
    ours = isinstance(stored.header, nib.spatialimages.SpatialHeader)  # else DICOM, or none
    header = header_class.from_header(stored.header) if ours else None
    image = image_class(array, stored.affine, header)
    if not isinstance(stored.header, nib.Nifti1Header):  # Nifti2Header is a Nifti1Header too
        image.set_sform(stored.affine, code="scanner")
        image.set_qform(stored.affine, code="scanner")
        image.header.set_xyzt_units("mm")
    elif stored.header.get_xyzt_units()[0] in IN_MM:
        image.set_sform(stored.affine, code=int(stored.header["sform_code"]))
        image.set_qform(stored.affine, code=int(stored.header["qform_code"]))
        image.header.set_xyzt_units("mm")
    head = image.header
    words = volume.synthetic or description
    head.set_data_dtype(np.float32)
    head.set_slope_inter(1.0, 0.0)
    head["descrip"] = words.encode("ascii", "replace")[:79]
    head["cal_min"] = head["cal_max"] = 0
    for name in set(head.keys()) - {"magic", "descrip"}:
        if head[name].dtype.kind == "S":  # text: aux_file, intent_name, data_type, db_name
            head[name] = b""
    head.extensions.clear()
    if words:
        head.extensions.append(nib.nifti1.Nifti1Extension("comment", words.encode()))
    with whole_file(path) as temporary:
        nib.save(image, temporary)


def _to_file_order(volume: Volume) -> NDArray[np.float32]:
    """Undo the permutation and the flips of axes that `read` applied."""
    axes = volume.stored.orientation[:, 0].astype(int)
    array = volume.array
    for ras_axis, flip in zip(axes, volume.stored.orientation[:, 1], strict=True):
        if flip < 0:
            array = np.flip(array, ras_axis)
    array = np.ascontiguousarray(array.transpose(axes)).astype(np.float32, copy=False)
    return array.reshape(volume.stored.shape)


def _load(path: Path) -> Any:
    """Open an image file with nibabel.

    Raises:
        VolumeError: nibabel cannot open the file; the message says why in one line.
    """
    if not path.exists():
        raise VolumeError(f"no file {path}", remedy="check the path")
    if path.is_dir():
        raise VolumeError(
            f"{path} is a folder without DICOM files",
            "one image file (.nii.gz, .nii, .mgz), or a DICOM series",
        )
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
    except Exception as error:  # nibabel raises many types; each means "not an image"
        dicom = head[:4] == b"DICM" or is_dicom(path)
        raise VolumeError(
            f"{path} is not a readable image ({_first_line(error)})",
            "a whole NIfTI or MGH file",
            "it is DICOM: give it a name ending in .dcm" if dicom else "",
        ) from error
    if not isinstance(image, READABLE_IMAGES):
        raise VolumeError(f"{path} is a {type(image).__name__}", "a NIfTI or MGH image")
    return image


def _values(image: Any, path: Path) -> NDArray[np.float32]:
    """The image's values as a finite, non-constant float32 array with three axes.

    Raises:
        VolumeError: the image has no such values.
    """
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
            warnings.simplefilter("ignore")  # a bad scale factor gives NaN, which is refused below
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
        _check_range(image, path)
        raise VolumeError(
            f"{path} holds {bad} NaN or infinite values of {array.size}",
            "finite values",
            "replace them (for a masked scan: by 0)",
        )
    if array.min() == array.max():
        raise VolumeError(f"{path} is blank: every voxel is {array.flat[0]:g}", "an image")
    return array.reshape(shape)


def _affine(image: Any, path: Path) -> NDArray[np.float64]:
    """The image's affine in mm.

    Raises:
        VolumeError: the file does not determine the affine.
    """
    header = image.header
    affine = np.array(image.affine, dtype=np.float64)
    if isinstance(header, nib.Nifti1Header):
        _check_forms(header, path)
        affine[:3] *= IN_MM.get(header.get_xyzt_units()[0], 1.0)
    elif isinstance(header, nib.freesurfer.mghformat.MGHHeader):
        _check_good_ras(path)
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


def _check_forms(header: Any, path: Path) -> None:
    """Raise VolumeError unless the sform and the qform of a NIfTI header tell left from right."""
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if sform == 0 and qform == 0:
        raise VolumeError(
            f"{path} does not say how it lies in space (sform and qform codes are 0), so left "
            "and right are unknown",
            "an sform or a qform",
            "set the orientation, e.g. with nibabel or fslorient",
        )
    if sform == 0 or qform == 0:
        return
    hands = np.sign(np.linalg.det(header.get_sform()[:3, :3]))
    if hands * np.sign(np.linalg.det(header.get_qform()[:3, :3])) < 0:
        raise VolumeError(
            f"the sform and the qform of {path} mirror each other, so left and right are unknown",
            "two forms of one handedness",
            "find out which one is right and set the other's code to 0, e.g. with fslorient",
        )


def _check_good_ras(path: Path) -> None:
    """Raise VolumeError unless an MGH file states its orientation.

    The flag is read from the file's bytes, because nibabel fills in a default orientation.
    """
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as file:
        flag = int.from_bytes(file.read(30)[28:30], "big", signed=True)
    if flag <= 0:
        raise VolumeError(
            f"{path} does not say how it lies in space (its goodRASFlag is {flag}), so left and "
            "right are unknown",
            "an MGH file with its orientation",
            "set it, e.g. with mri_convert --in_orientation, or convert the original scan again",
        )


def _check_range(image: Any, path: Path) -> None:
    """Raise VolumeError if the values are finite, but too large for float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = np.asarray(image.get_fdata(dtype=np.float64, caching="unchanged"))
    if np.isfinite(values).all():
        raise VolumeError(
            f"{path} holds values from {values.min():.3g} to {values.max():.3g}",
            f"at most {np.finfo(np.float32).max:.3g}, what float32 can hold",
            "divide them",
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
