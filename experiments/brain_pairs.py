"""Write a real patient's registered slices for train_brain.py.

    python experiments/brain_pairs.py DATA CACHE OUT.npy [--source T1 --targets T2]

Only patients that no figure is measured on may be named here.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import brain
import numpy as np

from syndiff.phantom.head_contrast import CONTRASTS, TARGET_PEAKS
from syndiff.phantom.head_slices import BRIGHTNESS
from syndiff.preparation.geometry import SliceGrid
from syndiff.preparation.intensity import foreground_mask

WHITE_MATTER = {"T1": 1.2, "T2": 0.87, "FLAIR": 1.4}  # of sub-01, multiples of the head's mean
SCANS = {"T1": "T1w", "T2": "T2w", "FLAIR": "FLAIR"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--source", choices=CONTRASTS, default="T1")
    parser.add_argument("--targets", nargs="+", choices=CONTRASTS, default=["T2"])
    arguments = parser.parse_args()
    patients = [
        brain.load(
            arguments.data,
            brain.CURVE_FROM,
            arguments.cache,
            (SCANS[arguments.source], SCANS[target]),
        )
        for target in arguments.targets
    ]
    source = patients[0].source.array
    images = [source / source[foreground_mask(source)].mean() / BRIGHTNESS]
    for patient, name in zip(patients, arguments.targets, strict=True):
        target = patient.target / patient.target[patient.mask].mean()
        images.append(target / WHITE_MATTER[name] / TARGET_PEAKS[name])
    mask = np.all([patient.mask for patient in patients], axis=0)
    reached = np.flatnonzero(mask.any((0, 1)))
    x, y, _ = patients[0].source.spacing_mm
    stacks = [np.clip(image[:, :, reached].transpose(2, 1, 0), 0, 1) for image in images]
    shape = stacks[0].shape[1:]
    sides = [n * mm for n, mm in zip(shape, (y, x), strict=True)]  # pixels of 1 mm
    h, w = (max(192, 32 * math.ceil(side / 32 - 1e-6)) for side in sides)
    grid = SliceGrid(shape, (y, x), (h, w), 1.0)
    pairs = np.stack([np.clip(grid.forward(s, fill=0.0), 0, 1) for s in stacks], axis=1)
    np.save(arguments.out, pairs.astype(np.float32))
    print(pairs.shape)


if __name__ == "__main__":
    main()
