"""stub"""
from __future__ import annotations
from dataclasses import dataclass
from typing import Any
import numpy as np
from numpy.typing import NDArray
from syndiff.volume import Volume, same_grid

@dataclass(frozen=True)
class Alignment:
    volume: Volume
    covered: NDArray[np.bool_]
    notes: tuple[str, ...]
    def to_dict(self) -> dict[str, Any]:
        return {"method": "headers"}

def align(reference, mask, moving, fill, *, search=True):
    assert same_grid(reference, moving)
    return Alignment(reference.like(moving.array), np.ones(mask.shape, bool), ())
