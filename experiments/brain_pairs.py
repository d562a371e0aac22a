"""Write a real patient's registered slices for train_brain.py: brain_pairs.py DATA CACHE OUT.npy.

Only patients that no figure is measured on may be named here.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import brain
import numpy as np

from syndiff.phantom.head_slices import BRIGHTNESS, TARGET_PEAK
from syndiff.preparation.geometry import SliceGrid
from syndiff.preparation.intensity import foreground_mask

WHITE_MATTER = 0.87  # of T2w in sub-01, in multiples of its mean in the head


def main() -> None:
    data, cache, out = (Path(a) for a in sys.argv[1:4])
    patient = brain.load(data, brain.CURVE_FROM, cache)
    source = patient.source.array
    source = source / source[foreground_mask(source)].mean() / BRIGHTNESS
    target = patient.target / patient.target[patient.mask].mean() / WHITE_MATTER / TARGET_PEAK
    reached = np.flatnonzero(patient.mask.any((0, 1)))
    x, y, _ = patient.source.spacing_mm
    stacks = [np.clip(image[:, :, reached].transpose(2, 1, 0), 0, 1) for image in (source, target)]
    shape = stacks[0].shape[1:]
    sides = [n * mm for n, mm in zip(shape, (y, x), strict=True)]  # pixels of 1 mm
    h, w = (max(192, 32 * math.ceil(side / 32 - 1e-6)) for side in sides)
    grid = SliceGrid(shape, (y, x), (h, w), 1.0)
    pairs = np.stack([np.clip(grid.forward(s, fill=0.0), 0, 1) for s in stacks], axis=1)
    np.save(out, pairs.astype(np.float32))
    print(pairs.shape)


if __name__ == "__main__":
    main()
