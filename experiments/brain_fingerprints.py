"""Fingerprints of virtual heads for the cards of translators of real heads.

    python experiments/brain_fingerprints.py TISSUES OUT.json      of virtual heads: minutes
    python experiments/brain_fingerprints.py --store OUT.json TRANSLATOR…   into config.json
    python experiments/brain_fingerprints.py --judge OUT.json SCAN…         what is said of scans

TISSUES is a folder of brain_tissues.py. Each head is rendered whole and stripped, in each
contrast, with the random signals, voxel sizes, noise, shading and fields of view of sources: two
kinds of each contrast, since a cohort of both would have the spread of both.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from fingerprints import written
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.inference.likeness import STRIPPED, Likeness, modality_of, nearest
from syndiff.io import formats
from syndiff.io.atomic import read_json, write_json
from syndiff.phantom.head_contrast import CONTRASTS, SOURCES, blackened, lesion_signal
from syndiff.phantom.head_slices import IS_KEPT
from syndiff.phantom.label_maps import INDEX
from syndiff.preparation.fingerprint import NAMES, fingerprint
from syndiff.preparation.intensity import foreground_mask

THICKNESSES_MM = (2, 2, 3, 4)
BRAINWEB = "subject"  # their maps are finer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=Path)
    parser.add_argument("others", type=Path, nargs="+")
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--judge", action="store_true")
    arguments = parser.parse_args()
    if arguments.store:
        for folder in arguments.others:
            path = folder / "config.json"
            card, rows = read_json(path, "card"), read_json(arguments.first, "fingerprints")
            scans = {kind: rows[kind] for kind in rows if modality_of(kind) in card["sources"]}
            card["fingerprints"] = {"names": list(NAMES), "scans": scans, "of_any_scanner": True}
            path.write_text(written(card), encoding="utf-8")
    elif arguments.judge:
        judge(read_json(arguments.first, "fingerprints"), arguments.others)
    else:
        write_json(arguments.others[0], cohort(sorted(arguments.first.glob("*.npy"))))


def cohort(paths: list[Path]) -> dict[str, list[list[float]]]:
    """Kind of scan → one fingerprint for each head."""
    found: dict[str, list[list[float]]] = {}
    for seed, path in enumerate(paths):
        rng = np.random.default_rng(seed)
        step = 4 if path.name.startswith(BRAINWEB) else 2  # voxels of 2 mm
        tissues = np.load(path)[:: step // 2, ::step, ::step]  # slices of 1 mm
        for contrast in CONTRASTS:
            for stripped in (False, True):
                row = scanned(rng, tissues, contrast, stripped)
                found.setdefault(contrast + STRIPPED * stripped, []).append(row)
        print(path.name, flush=True)
    return found


def scanned(
    rng: np.random.Generator, tissues: NDArray[np.uint8], contrast: str, stripped: bool
) -> list[float]:
    """The fingerprint of a scan of (z, y, x) tissues, 1 mm by 2 mm by 2 mm."""
    signal = SOURCES[contrast](rng, rng.uniform(0.5, 3), rng.uniform(0, 0.6))
    signal[INDEX["lesion"]] = lesion_signal(contrast, signal, rng.uniform(0, 1), is_source=True)
    if rng.random() < (0.65 if stripped else 0.3):
        signal = blackened(rng, contrast, signal)
    if stripped:
        signal = signal * IS_KEPT
        tissues = _box(tissues, IS_KEPT[tissues])
    brain = np.flatnonzero(IS_KEPT[tissues].sum((1, 2)) > 100)
    lowest = max(0, int(brain[0]) - int(rng.choice([0, 10, 30, 60])))
    thickness = int(rng.choice(THICKNESSES_MM))
    image = signal[tissues[lowest:]]
    image = image[: len(image) // thickness * thickness]
    image = image.reshape(-1, thickness, *image.shape[1:]).mean(1).transpose(2, 1, 0)
    air = image < 0.02
    field = ndimage.zoom(rng.standard_normal((3, 3, 3)), [n / 3 for n in image.shape], order=1)
    image = image * np.exp(rng.uniform(0, 0.25) * field[tuple(map(slice, image.shape))])
    noise = rng.standard_normal((2, *image.shape)) * rng.uniform(0.005, 0.05)
    image = np.hypot(image + noise[0], noise[1])
    if stripped or rng.random() < 0.3:
        image = np.where(air, 0, image)
    image = np.rint(300 * image).astype(np.float32)
    return fingerprint(image, foreground_mask(image), (2.0, 2.0, float(thickness)), "a.u.")


def _box(tissues: NDArray[np.uint8], kept: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """What the tissue to keep reaches, with some air around it."""
    inside = ndimage.find_objects(kept.astype(np.uint8))[0]
    wide = tuple(slice(max(0, part.start - 8), part.stop + 8) for part in inside)
    return np.where(kept, tissues, 0)[wide]


def judge(rows: dict[str, Any], scans: list[Path]) -> None:
    """Print each scan's distances to every kind, and those of the virtual heads themselves."""
    known = {
        kind: Likeness.of_card({"scans": {kind: found}})[kind] for kind, found in rows.items()
    }
    for kind, found in rows.items():
        print(
            f"{kind:15} limit {known[kind].limit:.2f}",
            dict(Counter(nearest(known, r) for r in found)),
        )
    for path in scans:
        scan = formats.read(path)
        row = fingerprint(scan.array, foreground_mask(scan.array), scan.spacing_mm, "a.u.")
        far = {kind: round(like.distance(row), 2) for kind, like in known.items()}
        print("/".join(path.parts[-3:]), far, known[nearest(known, row)].differs(row))


if __name__ == "__main__":
    main()
