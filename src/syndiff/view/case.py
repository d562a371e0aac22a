"""What is to be seen: the images of one translation, their windows, and maps to lay over them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.errors import DataError, GeometryError, UserError
from syndiff.io.atomic import read_json
from syndiff.io.formats import format_at, read
from syndiff.io.marks import sidecar
from syndiff.io.volume import Volume, same_grid
from syndiff.preparation.intensity import CT_WINDOWS, foreground_mask, foreground_mean
from syndiff.preparation.values import looks_like_hounsfield

Role = Literal["source", "synthetic", "acquired"]

# Low and high in HU, as radiology reads them: level 40 width 80 (brain), -600/1500 (lung).
HU_WINDOWS = {
    "soft tissue": CT_WINDOWS["soft"],
    "brain": (0.0, 80.0),
    "bone": CT_WINDOWS["bone"],
    "lung": (-1350.0, 150.0),
    "full": CT_WINDOWS["full"],
}
ERROR_PERCENTILE = 99.0  # of the absolute error inside the head: the end of the colour bar
LEAST_SHOWN = 0.1  # of that end; smaller errors stay transparent


@dataclass(frozen=True)
class Window:
    """A named range of values: what is black and what is white."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class Image:
    """One image of a case.

    Attributes:
        role: what it is.
        title: modality or file name.
        file: the file's name, without its folder.
        volume: the values and where they lie.
        unit: "HU" or "a.u."
        windows: the first one is shown at the beginning.
        synthetic: whether it was made by a translator.
    """

    role: Role
    title: str
    file: str
    volume: Volume
    unit: str
    windows: tuple[Window, ...]
    synthetic: bool


@dataclass(frozen=True)
class Overlay:
    """A map that is laid over an image.

    Attributes:
        key: "error" or "trust".
        title: for the list of maps.
        on: the role of the image that it is laid over.
        volume: the values and where they lie.
        unit: of the values.
        low, high: the ends of the colour bar; absolute values where `signed`.
        signed: negative values have colours of their own.
        note: how it was made.
    """

    key: str
    title: str
    on: Role
    volume: Volume
    unit: str
    low: float
    high: float
    signed: bool
    note: str = ""


@dataclass(frozen=True)
class Case:
    """What one page shows.

    Attributes:
        title: the page's name.
        images: at least one; the first one's grid is the reference.
        overlays: maps, none where nothing was acquired or given.
        notes: sentences of the readers and of the translation's side-car.
    """

    title: str
    images: tuple[Image, ...]
    overlays: tuple[Overlay, ...] = ()
    notes: tuple[str, ...] = ()


def read_case(
    source: Path,
    synthetic: Path | None = None,
    acquired: Path | None = None,
    trust: Path | None = None,
) -> Case:
    """Read the images of a translation.

    Args:
        source: the image that was translated; or any other image, alone.
        synthetic: what a translator made of it.
        acquired: the acquired image of the synthetic one's modality.
        trust: a map on the synthetic image, such as the spread of several samples.

    Raises:
        UserError: a file cannot be read.
        DataError: a map is given, but no synthetic image.
    """
    given: dict[Role, Path | None] = {
        "source": source, "synthetic": synthetic, "acquired": acquired
    }  # fmt: skip
    volumes = {role: _read(path) for role, path in given.items() if path is not None}
    records = {r: _record(p) for r, p in given.items() if p is not None}
    told = records.get("synthetic", {})
    names = {"source": told.get("source_modality"), "synthetic": told.get("modality")}
    names["acquired"] = names["synthetic"]
    images = [
        _image(role, volume, records[role], names.get(role)) for role, volume in volumes.items()
    ]
    by_role = {image.role: image for image in images}
    notes = [note for image in images for note in image.volume.stored.notes]
    notes += [str(warning) for record in records.values() for warning in _listed(record)]
    overlays = []
    if "acquired" in by_role and "synthetic" in by_role:
        overlays.append(error_map(by_role["synthetic"], by_role["acquired"]))
    if trust is not None:
        overlays.append(_trust(trust, by_role))
    title = " → ".join(dict.fromkeys(image.title for image in images))
    return Case(title, tuple(images), tuple(overlays), tuple(dict.fromkeys(notes)))


def _read(path: Path) -> Volume:
    if path.is_dir() and format_at(path) is None:
        raise DataError(
            f"{path} is a folder without DICOM files", "an image file or a DICOM series",
            "name the file in it",
        )  # fmt: skip
    return read(path)


def _record(path: Path) -> dict[str, Any]:
    """The content of a synthetic image's side-car; empty where there is none to read."""
    side = sidecar(path)
    if path.is_dir() or not side.is_file():
        return {}
    try:
        found = read_json(side, "side-car")
    except UserError:
        return {}  # of other software, or damaged: the image can be seen nevertheless
    return found if isinstance(found, dict) and found.get("synthetic") is True else {}


def _listed(record: dict[str, Any]) -> list[Any]:
    found = record.get("warnings", [])
    return found if isinstance(found, list) else []


def _image(role: Role, volume: Volume, record: dict[str, Any], modality: Any) -> Image:
    made = role == "synthetic" or bool(volume.synthetic) or bool(record)
    own = record.get("modality")
    title = str(own or modality or volume.name)
    hounsfield = record.get("unit") == "HU" or volume.stored.modality == "CT"
    unit = "HU" if hounsfield or looks_like_hounsfield(volume.array) else "a.u."
    if role == "source" and made:  # an image looked at alone
        role = "synthetic"
    return Image(role, title, volume.name, volume, unit, windows(volume.array, unit), made)


def windows(array: NDArray[np.float32], unit: str) -> tuple[Window, ...]:
    """The ranges in which an image is looked at: presets in HU for CT, percentiles for others.

    Args:
        array: (x, y, z) values.
        unit: "HU" or "a.u."
    """
    if unit == "HU":
        return tuple(Window(name, low, high) for name, (low, high) in HU_WINDOWS.items())
    inside = array[foreground_mask(array, "a.u.")]
    values = inside if inside.size else array
    least, most = float(array.min()), float(array.max())
    bottom = min(0.0, least) if least > -most / 4 else least
    ends = np.percentile(values, [2.0, 50.0, 90.0, 99.5])
    low, middle, bright, high = (float(value) for value in ends)
    found = [
        Window("whole head", bottom, high),
        Window("soft contrast", max(bottom, low), max(bright, middle)),
        Window("bright tissue", middle, most),
        Window("full range", least, most),
    ]
    return tuple(window for window in found if window.high > window.low)


def error_map(synthetic: Image, acquired: Image) -> Overlay:
    """Synthetic minus acquired inside the acquired head, on the synthetic image's grid.

    CT is compared in HU. MR has no unit: each image is divided by its own mean inside the head,
    as in `syndiff score`, and the error is a percentage of that mean.

    Raises:
        GeometryError: the two images do not overlap.
        VolumeError: there is no tissue to compare.
    """
    real, note = acquired.volume, ""
    if not same_grid(synthetic.volume, real):
        real = _onto(real, synthetic.volume)
        note = f"{acquired.file} was resampled (linear) onto the grid of {synthetic.file}"
    hounsfield = synthetic.unit == acquired.unit == "HU"
    mask = foreground_mask(real.array, "HU" if hounsfield else "a.u.")
    if not mask.any():
        raise GeometryError(
            f"{acquired.file} shows nothing where {synthetic.file} lies",
            "two images of one head on grids that overlap",
        )
    made, true = synthetic.volume.array, real.array
    if hounsfield:
        error, unit = made - true, "HU"
    else:
        error = 100 * (made / foreground_mean(made, mask) - true / foreground_mean(true, mask))
        unit = "% of the mean signal"
    high = _rounded(float(np.percentile(np.abs(error[mask]), ERROR_PERCENTILE)))
    volume = synthetic.volume.like(np.where(mask, error, 0))
    return Overlay(
        "error", "error: synthetic − acquired", "synthetic", volume, unit,
        high * LEAST_SHOWN, high, True, note,
    )  # fmt: skip


def _onto(moved: Volume, grid: Volume) -> Volume:
    """An image on another grid by the two affines, linear between voxels; outside: its least."""
    across = np.linalg.inv(moved.affine) @ grid.affine
    values = ndimage.affine_transform(
        moved.array, across[:3, :3], across[:3, 3], output_shape=grid.array.shape, order=1,
        cval=float(moved.array.min()),
    )  # fmt: skip
    return grid.like(values)


def _trust(path: Path, images: dict[Role, Image]) -> Overlay:
    volume = _read(path)
    if "synthetic" not in images:
        raise DataError(
            f"{path} is a map on a synthetic image, and none is given", "`synthetic`, too"
        )
    values = volume.array
    signed = bool(values.min() < 0)
    high = _rounded(float(np.percentile(np.abs(values[values != 0]), 99.5)))
    low = high * LEAST_SHOWN if signed else 0.0
    return Overlay(
        "trust", f"map: {volume.name}", "synthetic", volume, "units of the map", low, high, signed
    )


def _rounded(value: float) -> float:
    """The next number of one or two digits: 0.137 → 0.14, 873 → 880; 1 for 0."""
    if value <= 0:
        return 1.0
    step = 10.0 ** (np.floor(np.log10(value)) - 1)
    return float(f"{np.ceil(value / step - 1e-9) * step:.2g}")
