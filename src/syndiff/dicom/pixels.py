"""The values of a stack of slices: stored value → image value, by stated rules.

- Stored values are signed or unsigned as Pixel Representation says; bits above Bits Stored are
  dropped (old scanners keep overlays there).
- Value = Rescale Slope · stored value + Rescale Intercept, of each slice. CT is in HU by this.
- Pixel Padding Value (or the range up to Pixel Padding Range Limit) is outside the field of view:
  -1024 in CT, 0 in MR (or the lowest other value, if that is below 0).
- CT below -1024 (scanners write -1500, -2000, -32768 outside their circle) becomes -1024.
- An MR without Rescale Slope is taken as stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.dicom.files import Source
from syndiff.dicom.frames import Frame, dataset
from syndiff.dicom.tags import Tags, quiet
from syndiff.errors import VolumeError

AIR_HU = -1024.0


def values_of(
    frames: Sequence[Frame], hu_offset: float = 0.0
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """The values of slices.

    Args:
        frames: slices of one shape, in order.
        hu_offset: a number that is added to CT values.

    Returns:
        The values (columns, rows, slices), and notes on what was replaced.

    Raises:
        VolumeError: pixels are missing, damaged, compressed in a way that needs a further package,
            or not finite, or all of them are equal.
    """
    rows, columns = frames[0].shape
    try:
        values = np.empty((columns, rows, len(frames)), dtype=np.float32)
        padded = np.zeros(values.shape, dtype=bool)
    except MemoryError as error:
        raise VolumeError(
            f"{len(frames)} slices of {columns}×{rows} do not fit into memory"
        ) from error
    held: tuple[Source | None, Any] = (None, None)
    for k, frame in enumerate(frames):
        if held[0] != frame.source:
            held = (frame.source, dataset(frame.source, pixels=True))
        stored, padding = _stored(held[1], frame)
        values[:, :, k] = (stored * frame.slope + frame.intercept).T
        padded[:, :, k] = padding.T
    _check(values, padded, frames[0].source)
    ct = frames[0].header.modality == "CT"
    values, notes = _ct(values, padded, hu_offset) if ct else _mr(values, padded)
    if values.min() == values.max():
        raise VolumeError(
            f"the series of {frames[0].source} is blank: every voxel is {values.flat[0]:g}",
            "an image",
        )
    return values, notes


def _stored(data: Any, frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A frame's stored values (rows, columns), and where they are padding."""
    stored = _integers(_decoded(data, frame), data, frame)
    if stored.shape != frame.shape:
        raise VolumeError(
            f"the pixels of {frame.source} have the shape {stored.shape}", f"{frame.shape}"
        )
    return stored.astype(np.float64), _padding(stored, data, frame)


def _decoded(data: Any, frame: Frame) -> NDArray[Any]:
    from pydicom.pixels.utils import pixel_array

    try:
        with quiet():
            index = frame.index if frame.frames_in_file > 1 else None
            return np.asarray(pixel_array(data, index=index, raw=True))
    except MemoryError as error:
        raise VolumeError(f"{frame.source} does not fit into memory") from error
    except Exception as error:  # decoders raise many types; each means "no pixels"
        if "missing dependencies" in str(error):
            raise VolumeError(
                f"the pixels of {frame.source} are compressed ({_syntax(data)})",
                "a package that unpacks them",
                "pip install 'syndiff[dicom]'",
            ) from error
        raise VolumeError(
            f"the pixels of {frame.source} are missing, damaged or cut short "
            f"({type(error).__name__})",
            "whole pixel data",
            "copy the file again",
        ) from error


def _syntax(data: Any) -> str:
    return str(getattr(data.file_meta.TransferSyntaxUID, "name", "unknown"))


def _integers(stored: NDArray[Any], data: Any, frame: Frame) -> NDArray[Any]:
    """Stored values without bits above Bits Stored, with the sign that the header states."""
    if stored.dtype.kind == "f":
        return stored
    tags = Tags([data], frame.source)
    allocated = stored.dtype.itemsize * 8
    bits = tags.whole("BitsStored", 1, allocated, default=allocated)
    high = tags.whole("HighBit", bits - 1, allocated - 1, default=bits - 1)
    signed = tags.whole("PixelRepresentation", 0, 1) == 1
    kind = np.dtype(f"{'i' if signed else 'u'}{stored.dtype.itemsize}")
    up, down = allocated - 1 - high, allocated - bits
    return np.right_shift(np.left_shift(stored.view(kind), up), down)


def _padding(stored: NDArray[Any], data: Any, frame: Frame) -> NDArray[np.bool_]:
    """Where stored values are padding: one value, or a range of values."""
    tags = Tags([data], frame.source)
    value = tags.number("PixelPaddingValue")
    if value is None or stored.dtype.kind == "f":
        return np.zeros(stored.shape, dtype=bool)
    limit = tags.number("PixelPaddingRangeLimit")
    low, high = sorted(
        _as_stored(v, stored.dtype) for v in (value, value if limit is None else limit)
    )
    return np.asarray((stored >= low) & (stored <= high))


def _as_stored(value: float, dtype: np.dtype[Any]) -> int:
    """A padding value in the type of the pixels: 63536 in a signed image means -2000."""
    bits = dtype.itemsize * 8
    whole = int(value) % (1 << bits)
    return whole - (1 << bits) if dtype.kind == "i" and whole >= 1 << (bits - 1) else whole


def _check(values: NDArray[np.float32], padded: NDArray[np.bool_], source: Source) -> None:
    if not np.isfinite(values).all():
        raise VolumeError(f"the series of {source} holds NaN or infinite values", "finite values")
    if padded.all():
        raise VolumeError(f"the series of {source} holds nothing but padding", "an image")


def _ct(
    values: NDArray[np.float32], padded: NDArray[np.bool_], hu_offset: float
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    notes = []
    if hu_offset:
        values = values + np.float32(hu_offset)
        notes.append(f"{hu_offset:g} was added to its values, as `hu_offset` asks")
    below = values < AIR_HU
    replaced = below | (padded & (values != AIR_HU))
    if replaced.any():
        notes.append(f"padding in {replaced.mean():.0%} of its voxels is taken as air, -1024 HU")
        values = np.where(replaced, np.float32(AIR_HU), values)
    return values, tuple(notes)


def _mr(
    values: NDArray[np.float32], padded: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    if not padded.any():
        return values, ()
    fill = np.float32(min(0.0, float(values[~padded].min())))
    replaced = padded & (values != fill)
    if not replaced.any():
        return values, ()
    note = f"padding in {replaced.mean():.0%} of its voxels is taken as background, {fill:g}"
    return np.where(replaced, fill, values), (note,)
