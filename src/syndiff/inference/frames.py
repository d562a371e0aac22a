"""Frames: crops of the training's size, placed by the patient and not by the field of view.

A network is trained on slices of one size with a head in each. At inference a frame of the same
size is centred on the tissue, so the result does not depend on the air beside the head or on the
field of view. Tissue outside this frame (shoulders below a head, a body wider than those of the
training) is covered by further frames. Neighbouring frames overlap by a quarter, and their images
are blended smoothly where they overlap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from syndiff.preparation.geometry import SliceGrid

OVERLAP = 0.25  # of neighbouring frames
Box = tuple[tuple[int, int], tuple[int, int]]  # first and last pixel along y and along x
Slices = NDArray[np.float32]
Mask = NDArray[np.bool_]


def box_of(mask: Mask) -> Box:
    """First and last row, and first and last column, of the tissue in a mask (y, x)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))


@dataclass(frozen=True)
class Axis:
    """The frames along one axis of the canvas (the grid of pixels that holds the whole tissue).

    Frames `first` to `first + count - 1` cover the head. Frames with lower and higher numbers
    cover tissue beyond the head.

    Attributes:
        size: the side of a frame in pixels.
        stride: the distance between neighbouring frames in pixels.
        first: the number of the first frame that covers the head.
        count: how many frames cover the head.
    """

    size: int
    stride: int
    first: int
    count: int

    @classmethod
    def around(cls, head_px: float, beyond_px: float, size: int) -> Axis:
        """Frames around a head.

        Args:
            head_px: the extent of the head in pixels.
            beyond_px: the largest distance of any tissue from the centre of the head, in pixels.
            size: the side of a frame in pixels.
        """
        stride = size - max(1, round(OVERLAP * size))
        count = 1 + max(0, math.ceil((head_px - size) / stride - 1e-6))
        half = (size + (count - 1) * stride) / 2
        return cls(size, stride, max(0, math.ceil((beyond_px - half) / stride - 1e-6)), count)

    @property
    def pixels(self) -> int:
        """The size of the canvas in pixels; the canvas is symmetric about the head."""
        return self.size + (self.count - 1 + 2 * self.first) * self.stride

    def needed(self, low: float, high: float) -> range:
        """Numbers of the frames that cover tissue from pixel `low` to `high` of the canvas."""
        start = self.first * self.stride
        end = start + self.size + (self.count - 1) * self.stride
        before = max(0, math.ceil((start - low) / self.stride - 1e-6))
        after = max(0, math.ceil((high - end) / self.stride - 1e-6))
        return range(
            max(0, self.first - before),
            min(self.first * 2 + self.count, self.first + self.count + after),
        )

    def weights(self) -> Slices:
        """(size,) weights of a frame's pixels: 1, falling smoothly to 0 where frames overlap."""
        overlap = self.size - self.stride
        from_edge = np.minimum(np.arange(self.size), np.arange(self.size)[::-1]) + 0.5
        ramp = np.clip(from_edge / overlap, 0, 1)
        return (np.sin(0.5 * np.pi * ramp) ** 2).astype(np.float32)


@dataclass(frozen=True)
class Frames:
    """The resampling of a volume's slices to the network's frames and back.

    Attributes:
        shape: (y, x) shape of the volume's slices.
        window: first and last pixel of the resampled window along y and x, symmetric about the
            head; the window may reach beyond the slices.
        grid: resampling between the window and the canvas, which has the training's spacing.
        axes: the frames along y and x of the canvas.
        boxes: (z, 2, 2) first and last pixel of each slice's tissue along y and x, on the canvas.
    """

    shape: tuple[int, int]
    window: Box
    grid: SliceGrid
    axes: tuple[Axis, Axis]
    boxes: NDArray[np.float64]

    @classmethod
    def around(
        cls,
        tissue: Mask,
        head: Box,
        native_spacing_mm: tuple[float, float],
        spacing_mm: float,
        size: tuple[int, int],
    ) -> Frames:
        """Place frames around the tissue.

        Args:
            tissue: (z, y, x) mask of the whole volume's tissue.
            head: the box of the head, on which the frames are centred.
            native_spacing_mm: pixel size of the volume along y and x in mm.
            spacing_mm: pixel size of the training slices in mm.
            size: (h, w) of a frame in pixels; multiples of the network's size multiple.
        """
        outer = box_of(np.asarray(tissue.any(axis=0)))
        axes, window, lengths = [], [], []
        for (low, high), (first, last), native, side in zip(
            head, outer, native_spacing_mm, size, strict=True
        ):
            scale = native / spacing_mm
            centre = (low + high) / 2
            beyond = max(centre - first, last - centre) + 0.5
            axis = Axis.around((high - low + 1) * scale, beyond * scale, side)
            margin = max(0, math.ceil((axis.pixels / scale - (high - low + 1)) / 2)) + 4
            axes.append(axis)
            window.append((low - margin, high + margin))
            lengths.append(high - low + 1 + 2 * margin)
        grid = SliceGrid(
            (lengths[0], lengths[1]),
            native_spacing_mm,
            (axes[0].pixels, axes[1].pixels),
            spacing_mm,
        )
        frames = (axes[0], axes[1])
        places = np.full((len(tissue), 2, 2), np.nan)
        for z in np.flatnonzero(tissue.any(axis=(1, 2))):
            for i, (low, high) in enumerate(box_of(tissue[z])):
                edges = (low - 0.5 - window[i][0], high + 0.5 - window[i][0])
                places[z, i] = [grid.training_index(i, edge) + 0.5 for edge in edges]
        shape = (tissue.shape[1], tissue.shape[2])
        return cls(shape, (window[0], window[1]), grid, frames, places)

    def forward(self, slices: Slices) -> Slices:
        """Normalised slices (n, y, x) → the canvas (n, h, w), with air outside the slices."""
        (top, bottom), (left, right) = self.window
        padded = np.zeros((len(slices), bottom - top + 1, right - left + 1), np.float32)
        inner, outer = self._overlap()
        padded[:, inner[0], inner[1]] = slices[:, outer[0], outer[1]]
        return self.grid.forward(padded, bounds=(0.0, 1.0))

    def inverse(self, canvas: Slices) -> Slices:
        """The canvas (n, h, w) → slices on the volume's grid (n, y, x), air beyond the canvas."""
        window = self.grid.inverse(canvas, bounds=(0.0, 1.0))
        inner, outer = self._overlap()
        slices = np.zeros((len(canvas), *self.shape), np.float32)
        slices[:, outer[0], outer[1]] = window[:, inner[0], inner[1]]
        return slices

    def translate(
        self,
        canvas: Slices,
        places: NDArray[np.integer],
        network: Callable[[Slices, NDArray[np.integer]], Slices],
    ) -> Slices:
        """Translate the canvas frame by frame, and blend the frames.

        Args:
            canvas: (n, c, h, w) in [0, 1].
            places: (n,) the indices of the slices in the volume.
            network: called with crops (m, c, frame height, frame width) and the (m,) indices of
                the crops' slices on the canvas; returns (m, frame height, frame width).

        Returns:
            (n, h, w) in [0, 1]; air outside all frames.
        """
        total = np.zeros((len(canvas), *canvas.shape[2:]), np.float32)
        weight = np.zeros_like(total)
        each = np.outer(*(axis.weights() for axis in self.axes))  # frame's h w
        for (rows, columns), chosen in self._frames(places):
            image = network(canvas[chosen][:, :, rows, columns], chosen)
            total[chosen, rows, columns] += each * image
            weight[chosen, rows, columns] += each
        return np.divide(total, weight, out=total, where=weight > 0)

    def _frames(
        self, places: NDArray[np.integer]
    ) -> Iterator[tuple[tuple[slice, slice], NDArray[np.integer]]]:
        """Rows and columns of each frame on the canvas, and the slices that need the frame."""
        needed: dict[tuple[int, int], list[int]] = {}
        for index, z in enumerate(places):
            y, x = (axis.needed(*self.boxes[z, i]) for i, axis in enumerate(self.axes))
            for frame in product(y, x):
                needed.setdefault(frame, []).append(index)
        for frame, chosen in sorted(needed.items()):
            starts = [number * axis.stride for number, axis in zip(frame, self.axes, strict=True)]
            rows, columns = (
                slice(start, start + axis.size)
                for start, axis in zip(starts, self.axes, strict=True)
            )
            yield (rows, columns), np.asarray(chosen)

    def _overlap(self) -> tuple[list[slice], list[slice]]:
        """The overlap of volume and window along y and x: in the window, and in the volume."""
        inner, outer = [], []
        for (first, last), length in zip(self.window, self.shape, strict=True):
            low, high = max(first, 0), min(last + 1, length)
            inner.append(slice(low - first, high - first))
            outer.append(slice(low, high))
        return inner, outer
