"""In-plane grids: resampling from a scan's own pixels to the training grid and back.

Slices are (n, y, x). Along each axis a native index j and a training index i are related by
j = ratio * i + offset. Where the spacings agree the ratio is exactly 1 and the offset an integer,
so values are copied; elsewhere the centres of both fields of view coincide and values are
interpolated by a cubic kernel that is widened when the grid gets coarser (anti-aliasing).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import GeometryError

Bounds = tuple[float, float]
SAME_SPACING_PX = 0.02  # spacings are equal if this is all that the grids drift over an axis


@dataclass(frozen=True)
class SliceGrid:
    """A native in-plane grid, the training grid, and the resampling between the two.

    Attributes:
        native_shape: (y, x) pixels of a native slice.
        native_spacing_mm: (y, x) native pixel size in mm.
        shape: (h, w) pixels of the training grid.
        spacing_mm: pixel size of the training grid, the same along both axes.
        shift: (y, x) whole training pixels by which the content is moved from the centred
            position, so that an off-centre head is not cut.
    """

    native_shape: tuple[int, int]
    native_spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    spacing_mm: float
    shift: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        sizes = (*self.native_shape, *self.shape)
        spacings = (*self.native_spacing_mm, self.spacing_mm)
        if min(sizes) < 1 or not all(math.isfinite(s) and s > 0 for s in spacings):
            raise GeometryError(
                f"an in-plane grid of {sizes} pixels with spacings {spacings} mm",
                "positive sizes and spacings",
            )

    @property
    def resamples(self) -> bool:
        """Whether values are interpolated; otherwise they are copied."""
        return any(self._ratio(axis) != 1.0 for axis in (0, 1))

    @property
    def coarsens(self) -> bool:
        """Whether the training grid is coarser than the native one, so that detail is lost."""
        return any(self._ratio(axis) > 1.0 for axis in (0, 1))

    def forward(
        self, slices: NDArray[Any], fill: float = 0.0, bounds: Bounds | None = None
    ) -> NDArray[np.float32]:
        """Resample native slices onto the training grid.

        Args:
            slices: (n, y, x).
            fill: value of training pixels outside the native field of view.
            bounds: least and greatest value; by default those of `slices` and `fill`, so that the
                result of a slice depends on the other slices.

        Returns:
            (n, h, w) float32 within the bounds.
        """
        self._check(slices, self.native_shape)
        return self._move(slices, self.shape, fill, bounds, back=False)

    def inverse(
        self, slices: NDArray[Any], fill: float = 0.0, bounds: Bounds | None = None
    ) -> NDArray[np.float32]:
        """Resample slices from the training grid back onto the native grid.

        Args:
            slices: (n, h, w).
            fill: value of native pixels that the training grid does not reach.
            bounds: see `forward`.

        Returns:
            (n, y, x) float32 within the bounds.
        """
        self._check(slices, self.shape)
        return self._move(slices, self.native_shape, fill, bounds, back=True)

    def native_index(self, axis: int, index: float) -> float:
        """Native index (may lie between or outside pixels) of a training index along an axis."""
        ratio = self._ratio(axis)
        return ratio * index + self._offset(axis, ratio)

    def training_index(self, axis: int, index: float) -> float:
        """Training index of a native index along an axis; inverse of `native_index`."""
        ratio = self._ratio(axis)
        return (index - self._offset(axis, ratio)) / ratio

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> SliceGrid:
        """Inverse of `to_dict`; lists become tuples again."""
        pairs = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
        return cls(**pairs)  # type: ignore[arg-type]

    def _ratio(self, axis: int) -> float:
        ratio = self.spacing_mm / self.native_spacing_mm[axis]
        longest = max(self.native_shape[axis], self.shape[axis])
        return 1.0 if abs(ratio - 1.0) * longest <= SAME_SPACING_PX else ratio

    def _offset(self, axis: int, ratio: float) -> float:
        native, size, shift = self.native_shape[axis], self.shape[axis], self.shift[axis]
        if ratio == 1.0:  # whole pixels: values are copied
            return float(-((size - native) // 2) - shift)
        return (native - 1) / 2 - ratio * ((size - 1) / 2 + shift)

    def _move(
        self,
        slices: NDArray[Any],
        shape: tuple[int, int],
        fill: float,
        bounds: Bounds | None,
        back: bool,
    ) -> NDArray[np.float32]:
        moved = np.asarray(slices, dtype=np.float32)  # n y x
        for axis in (0, 1):
            ratio = self._ratio(axis)
            offset = self._offset(axis, ratio)
            if back:
                ratio, offset = 1.0 / ratio, -offset / ratio
            if ratio == 1.0:
                moved = _copy_axis(moved, axis + 1, shape[axis], round(offset), fill)
            else:
                # Clip the overshoot of the cubic kernel at edges.
                low_high = bounds or (
                    float(moved.min(initial=fill)),
                    float(moved.max(initial=fill)),
                )
                moved = _resample_axis(moved, axis + 1, shape[axis], ratio, offset, fill)
                moved = np.clip(moved, *low_high)
        return np.ascontiguousarray(moved)

    @staticmethod
    def _check(slices: NDArray[Any], shape: tuple[int, int]) -> None:
        if slices.ndim != 3 or slices.shape[1:] != tuple(shape):
            raise GeometryError(f"slices of shape {slices.shape}", f"(n, {shape[0]}, {shape[1]})")


def _copy_axis(
    array: NDArray[np.float32], axis: int, size: int, offset: int, fill: float
) -> NDArray[np.float32]:
    """Output index i takes input index i + offset; `fill` where there is none."""
    length = array.shape[axis]
    if offset == 0 and size == length:
        return array.copy()
    shape = list(array.shape)
    shape[axis] = size
    moved = np.full(shape, fill, dtype=np.float32)
    first, last = max(0, -offset), min(size, length - offset)
    if last > first:
        to, of = [slice(None)] * 3, [slice(None)] * 3
        to[axis], of[axis] = slice(first, last), slice(first + offset, last + offset)
        moved[tuple(to)] = array[tuple(of)]
    return moved


def _resample_axis(
    array: NDArray[np.float32], axis: int, size: int, ratio: float, offset: float, fill: float
) -> NDArray[np.float32]:
    """Output index i interpolates the input at ratio * i + offset; `fill` outside the input."""
    weights, inside = _weights(array.shape[axis], size, ratio, offset)
    if axis == 1:
        moved = weights @ array  # (size, y) @ (n, y, x) -> n size x
        moved[:, ~inside] = fill
    else:
        moved = array @ weights.T  # (n, h, x) @ (x, size) -> n h size
        moved[:, :, ~inside] = fill
    return moved


def _weights(
    length: int, size: int, ratio: float, offset: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Interpolation weights (size, length), and which outputs lie in the input's field of view.

    The field of view reaches half a pixel beyond the outer pixels' centres; there the outer
    pixels' values continue.
    """
    positions = ratio * np.arange(size) + offset  # in input pixels
    width = max(ratio, 1.0)  # wider than a pixel when coarsening: averages what would alias
    reach = math.ceil(2 * width) + 1
    taps = np.floor(positions)[:, None].astype(int) + np.arange(-reach, reach + 1)  # size taps
    values = _cubic((taps - positions[:, None]) / width)
    values /= values.sum(axis=1, keepdims=True)
    weights = np.zeros((size, length))
    rows = np.broadcast_to(np.arange(size)[:, None], taps.shape)
    np.add.at(weights, (rows, np.clip(taps, 0, length - 1)), values)
    inside = (positions >= -0.5 - 1e-6) & (positions <= length - 0.5 + 1e-6)
    return weights.astype(np.float32), inside


def _cubic(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel (a = -1/2, Catmull-Rom), support |t| < 2."""
    t = np.abs(t)
    near = (1.5 * t - 2.5) * t * t + 1.0
    far = ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0
    return np.where(t < 1.0, near, np.where(t < 2.0, far, 0.0))
