"""The frames in which a network sees a volume: placed by the patient, not by the field of view.

A network is trained on frames of one size with a head in each. Here a frame of that very size is
laid around the tissue, so that air beside a head, or a wider field of view, changes nothing. What
does not fit (shoulders below a head, a body wider than the training's) is covered by further
frames that overlap by a quarter; where they do, their images are blended smoothly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from syndiff.preparation.geometry import SliceGrid

HEAD_OF_FRAME = 0.7  # height of the part that places the frame, relative to the frame's side
OVERLAP = 0.25  # of neighbouring frames
MARGIN_MM = 10.0
Box = tuple[tuple[int, int], tuple[int, int]]  # first and last pixel along y and along x
Slices = NDArray[np.float32]
Mask = NDArray[np.bool_]


def head_part(mask: Mask, spacing_mm: tuple[float, float, float], frame_mm: float) -> list[slice]:
    """The part of a volume that says where the head is and how bright: its tissue from the top.

    As high as the head in a frame, and cut close to the tissue, so that neither a neck below nor
    air around it matters.

    Args:
        mask: (x, y, z) the tissue, RAS+.
        spacing_mm: along x, y, z.
        frame_mm: the shorter side of the training's frames.

    Returns:
        One slice per axis of `mask`.
    """
    top = int(np.flatnonzero(mask.any(axis=(0, 1)))[-1])
    height = max(1, round(HEAD_OF_FRAME * frame_mm / spacing_mm[2]))
    low = max(0, top + 1 - height)
    part = []
    for axis in (0, 1):
        there = np.flatnonzero(mask[:, :, low : top + 1].any(axis=(1 - axis, 2)))
        margin = math.ceil(MARGIN_MM / spacing_mm[axis])
        last = min(mask.shape[axis], int(there[-1]) + 1 + margin)
        part.append(slice(max(0, int(there[0]) - margin), last))
    return [*part, slice(low, min(mask.shape[2], top + 1 + math.ceil(MARGIN_MM / spacing_mm[2])))]


def box_of(mask: Mask) -> Box:
    """First and last row and column of the tissue in a mask (y, x)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))


@dataclass(frozen=True)
class Axis:
    """The frames along one axis of the canvas, on which the whole tissue lies.

    Frames number `first` … `first + count - 1` hold the head; further ones, below and above these
    numbers, hold what reaches beyond them.

    Attributes:
        size: pixels of a frame.
        stride: pixels from one frame to the next.
        first: number of the first frame that holds the head.
        count: of frames that hold the head.
    """

    size: int
    stride: int
    first: int
    count: int

    @classmethod
    def around(cls, head_px: float, beyond_px: float, size: int) -> Axis:
        """Frames for a head of so many pixels and tissue so far from its centre."""
        stride = size - max(1, round(OVERLAP * size))
        count = 1 + max(0, math.ceil((head_px - size) / stride - 1e-6))
        half = (size + (count - 1) * stride) / 2
        return cls(size, stride, max(0, math.ceil((beyond_px - half) / stride - 1e-6)), count)

    @property
    def pixels(self) -> int:
        """Of the canvas, which is symmetric about the head."""
        return self.size + (self.count - 1 + 2 * self.first) * self.stride

    def needed(self, low: float, high: float) -> range:
        """Numbers of the frames for tissue between two places of the canvas, in pixels."""
        start = self.first * self.stride
        end = start + self.size + (self.count - 1) * self.stride
        before = max(0, math.ceil((start - low) / self.stride - 1e-6))
        after = max(0, math.ceil((high - end) / self.stride - 1e-6))
        return range(
            max(0, self.first - before),
            min(self.first * 2 + self.count, self.first + self.count + after),
        )

    def weights(self) -> Slices:
        """(size,) of one frame's pixels: 1, and falling smoothly where neighbours overlap it."""
        overlap = self.size - self.stride
        from_edge = np.minimum(np.arange(self.size), np.arange(self.size)[::-1]) + 0.5
        ramp = np.clip(from_edge / overlap, 0, 1)
        return (np.sin(0.5 * np.pi * ramp) ** 2).astype(np.float32)


@dataclass(frozen=True)
class Frames:
    """A volume's slices on their way to the network and back.

    Attributes:
        shape: (y, x) of the volume's slices.
        window: of the volume's slices, symmetric about the head; may reach beyond them.
        grid: from the window to the canvas, at the training's spacing.
        axes: the frames along y and x of the canvas.
        boxes: (z, 2, 2) where the tissue of each slice begins and ends, in pixels of the canvas.
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
        """Lay frames around the tissue.

        Args:
            tissue: (z, y, x) of the whole volume.
            head: what the frames are centred on.
            native_spacing_mm: of the volume along y and x.
            spacing_mm: of the training.
            size: (h, w) of a frame; multiples of what the network needs.
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
        """(n, y, x) normalised slices of the volume → (n, h, w) on the canvas, air around them."""
        (top, bottom), (left, right) = self.window
        padded = np.zeros((len(slices), bottom - top + 1, right - left + 1), np.float32)
        inner, outer = self._overlap()
        padded[:, inner[0], inner[1]] = slices[:, outer[0], outer[1]]
        return self.grid.forward(padded, bounds=(0.0, 1.0))

    def inverse(self, canvas: Slices) -> Slices:
        """(n, h, w) on the canvas → (n, y, x) on the volume's own grid, air beyond the canvas."""
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
        """Translate what lies on the canvas, frame by frame.

        Args:
            canvas: (n, c, h, w) in [0, 1].
            places: (n,) which slices of the volume they are.
            network: (m, c, height, width of a frame), (m,) which of the n → (m, height, width).

        Returns:
            (n, h, w) in [0, 1]; air where no frame lies.
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
        """Each frame's rows and columns of the canvas, and which slices it is needed for."""
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
        """Where volume and window overlap: in the window, and in the volume; along y and x."""
        inner, outer = [], []
        for (first, last), length in zip(self.window, self.shape, strict=True):
            low, high = max(first, 0), min(last + 1, length)
            inner.append(slice(low - first, high - first))
            outer.append(slice(low, high))
        return inner, outer
