"""Turn label maps into the tissues that train_brain.py draws from: brain_tissues.py LABELS OUT.

LABELS is a folder of BrainWeb's or SynthSeg's maps. Maps finer than 0.75 mm are named `subject…`,
the others `head…`, as train_brain.py tells their voxel sizes apart.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from syndiff.phantom.heads import find_label_maps
from syndiff.phantom.label_maps import read_label_map, tissues_of_labels


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for path in find_label_maps(folder):
        labels, spacing_mm, _ = read_label_map(path)
        name = f"{'subject' if spacing_mm < 0.75 else 'head'}_{path.name.split('.')[0]}.npy"
        np.save(out / name, tissues_of_labels(labels, spacing_mm))
        print(name, flush=True)


if __name__ == "__main__":
    main()
