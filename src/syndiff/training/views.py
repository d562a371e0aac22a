"""Augmented views of slices, mirrored and shifted, on any device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
import torch
from torch import Tensor

from syndiff.training.slice_files import Slices


@dataclass(frozen=True)
class View:
    """A slice as one sample shows it: mirrored left and right first, then shifted.

    Attributes:
        index: index of the slice.
        mirrored: whether left and right are exchanged.
        down, right: shift in pixels; air enters from outside.
    """

    index: int
    mirrored: bool = False
    down: int = 0
    right: int = 0


class SliceStore:
    """Slices to show: read from their files, or kept on a device.

    Attributes:
        slices: all slices.
        kept: (n, c, h, w) in [0, 1], on the device given to `keep`; None before.
    """

    def __init__(self, slices: Slices) -> None:
        self.slices = slices
        self.kept: Tensor | None = None

    @property
    def bytes(self) -> int:
        """Memory that the slices take when kept, in bytes."""
        return len(self.slices) * self.slices[0].nbytes

    def keep(self, device: torch.device) -> None:
        """Read all slices once onto a device, from which they are shown from then on."""
        first = self.slices[0]
        self.kept = torch.empty((len(self.slices), *first.shape), device=device)
        for index in range(len(self.slices)):
            self.kept[index] = torch.from_numpy(self.slices[index])

    def show(self, views: Sequence[View]) -> Tensor:
        """(k, c, h, w) in [-1, 1], on the device where slices are kept, else on the host."""
        table = torch.tensor([astuple(view) for view in views])  # k 4
        if self.kept is not None:
            images = moved(self.kept, table.to(self.kept.device, non_blocking=True))
        else:
            read = torch.from_numpy(np.stack([self.slices[view.index] for view in views]))
            table[:, 0] = torch.arange(len(views))
            images = moved(read, table) if table[:, 1:].any() else read
        return images.mul(2).sub_(1)


def moved(images: Tensor, views: Tensor) -> Tensor:
    """Choose, mirror and shift in one look-up.

    Args:
        images: (n, c, h, w) in [0, 1].
        views: (k, 4) whole numbers: the fields of a `View`.

    Returns:
        (k, c, h, w) in [0, 1]; air (0) outside the slice.
    """
    _, c, h, w = images.shape
    index, mirrored, down, right = (field[:, None, None, None] for field in views.unbind(1))
    device = images.device
    y = torch.arange(h, device=device)[:, None] - down  # k 1 h 1: the row that comes to lie here
    x = torch.arange(w, device=device) - right  # k 1 1 w
    air = (y < 0) | (y >= h) | (x < 0) | (x >= w)  # k 1 h w
    x = torch.where(mirrored > 0, w - 1 - x, x)
    channel = index * c + torch.arange(c, device=device)[:, None, None]  # k c 1 1
    rows = (channel * h + y.clamp(0, h - 1)) * w  # k c h 1
    return images.take(rows + x.clamp(0, w - 1)).masked_fill_(air, 0.0)
