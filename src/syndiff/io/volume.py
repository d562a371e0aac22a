"""Volumes: an array together with its affine.

Axes. In memory every volume is RAS+: the indices of `array[x, y, z]` grow to the patient's right,
anterior and superior, whatever the order of axes in the file. Reading permutes and flips axes
without interpolation. Writing undoes this, so a result lies on exactly the grid of its source
file. Slices for the networks are `(z, y, x)`, with z growing to superior: see `to_slices`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import GeometryError


@dataclass(frozen=True)
class Stored:
    """The grid and the header of the file that holds a volume; writing restores them.

    Attributes:
        shape: the shape of the array in the file.
        affine: (4, 4), voxel indices in the file → world coordinates in mm.
        orientation: (3, 2) as nibabel defines it: file axis → RAS+ axis and direction (±1).
        header: what the reader keeps for the writer: a nibabel header or a DICOM series; None for
            volumes made in memory.
        path: the file or folder; None for volumes made in memory.
        called: the volume's name for messages where the path's own does not do.
        notes: sentences on what the reader had to replace or resample.
        modality: "MR" or "CT" where the file says it (DICOM); else empty.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    orientation: NDArray[np.float64]
    header: Any = None
    path: Path | None = None
    called: str = ""
    notes: tuple[str, ...] = ()
    modality: str = ""


@dataclass(frozen=True)
class Volume:
    """A 3-D image in RAS+ order with the affine of that order.

    Attributes:
        array: (x, y, z) float32.
        affine: (4, 4) float64, voxel indices of `array` → world coordinates in mm (RAS+).
        stored: the file's grid and header; for volumes made in memory it is derived from `affine`.
        synthetic: the mark of a synthetic image, which is written into every file of it; empty
            for an acquired image.

    Raises:
        GeometryError: the array does not have three axes, or the affine is not (4, 4).
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
        """The file's name for messages; "volume" if the volume has no file."""
        if self.stored.called:
            return self.stored.called
        return self.stored.path.name if self.stored.path else "volume"

    def like(self, array: NDArray[Any]) -> Volume:
        """A volume with other values on the same grid.

        Args:
            array: (x, y, z) the values.

        Raises:
            GeometryError: `array` has another shape.
        """
        if array.shape != self.array.shape:
            raise GeometryError(f"values of shape {array.shape}", f"the grid {self.array.shape}")
        return replace(self, array=np.asarray(array, dtype=np.float32))


@overload
def to_slices(volume: Volume) -> NDArray[np.float32]: ...
@overload
def to_slices(volume: NDArray[Any]) -> NDArray[Any]: ...
def to_slices(volume: Volume | NDArray[Any]) -> NDArray[Any]:
    """The axial slices (z, y, x) of a volume or its array, as a view; z grows to superior."""
    array = volume.array if isinstance(volume, Volume) else volume
    return array.transpose(2, 1, 0)


def from_slices(slices: NDArray[Any]) -> NDArray[Any]:
    """The array (x, y, z) of axial slices (z, y, x), as a view; the inverse of `to_slices`."""
    return slices.transpose(2, 1, 0)


def radiological(slices: NDArray[Any]) -> NDArray[Any]:
    """Slices (…, y, x) turned for display: anterior at the top, the patient's left on the right.

    The one function that every picture goes through, so that none shows a mirrored patient.
    """
    return slices[..., ::-1, ::-1]


def same_grid(a: Volume, b: Volume, tolerance_mm: float = 1e-2) -> bool:
    """Whether two volumes have the same shape and the same position in the world.

    Args:
        a, b: the volumes.
        tolerance_mm: the largest distance allowed between corresponding corners.
    """
    if a.array.shape != b.array.shape:
        return False
    corner = np.array([*np.subtract(a.array.shape, 1), 1.0])
    corners = np.stack([[0, 0, 0, 1], corner, [corner[0], 0, 0, 1], [0, corner[1], 0, 1]], axis=1)
    return bool(np.abs((a.affine - b.affine) @ corners).max() <= tolerance_mm)
