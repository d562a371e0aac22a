"""Images made of a few shapes."""

from __future__ import annotations

import torch


def picture(shift: int = 0) -> torch.Tensor:
    image = torch.full((1, 1, 32, 32), -1.0)
    image[:, :, 8:24, 8 + shift : 20 + shift] = 0.4
    image[:, :, 12:18, 11 + shift : 16 + shift] = -0.2
    return image
