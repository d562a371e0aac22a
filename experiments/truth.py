"""Virtual subjects with lesions, and what a translation is worth where the truth is known.

python -m experiments.truth OUT MODEL     scores a T1 → T2 translator of 64×64 pixels of 3.5 mm
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.anatomy.offset import median_offset
from syndiff.evaluation.metrics import psnr, ssim
from syndiff.evaluation.profiles import get_profile
from syndiff.io import formats
from syndiff.io.volume import to_slices
from syndiff.phantom import write_cohort
from syndiff.phantom.signal import INDEX
from syndiff.preparation.manifest import Manifest, Scan, read_manifest
from syndiff.preparation.recipe import prepare

EVERY = 3  # slices: a third of the test slices are scored
TISSUES = ("csf", "grey_matter", "white_matter")
SCORES = ("psnr_db", "ssim", "offset_px", "dice", *(f"dice_{t}" for t in TISSUES), "lesion")


def data(out: Path) -> Manifest:
    """The cohort, prepared: 16 subjects to train on, 4 to test on, five lesions each."""
    if not (out / "data" / "manifest.json").exists():
        write_cohort(out / "raw", subjects=20, modalities=("T1", "T2"), seed=2000, lesions=5)
        prepare(
            out / "raw",
            out / "data",
            modalities=("T1", "T2"),
            split={"train": 16, "test": 4},
            size=64,
            spacing_mm=3.5,
            register=False,
            register_training=False,
        )
    return read_manifest(out / "data")


class Truth:
    """Test subjects with their labels on the training grid, and a classifier of tissues.

    Tissues are found in an image by its intensity alone, inside the known brain: the most probable
    tissue by histograms of the training subjects' acquired T2. So Dice measures where the
    synthetic image shows which tissue.
    """

    def __init__(self, manifest: Manifest, out: Path) -> None:
        self.out = out
        self.sources = [s.load()[::EVERY] for s in manifest.scans("test", "T1")]
        self.targets = [s.load()[::EVERY] for s in manifest.scans("test", "T2")]
        cache = out / "labels.npz"
        if not cache.exists():
            training = manifest.scans("train", "T2")
            images = np.concatenate([s.load().ravel() for s in training])
            labels = np.concatenate([self.labels_of(s).ravel() for s in training])
            tests = {s.subject: self.labels_of(s) for s in manifest.scans("test", "T2")}
            np.savez(cache, classifier=self.fit(images, labels), **tests)
        with np.load(cache) as stored:
            self.classifier = stored["classifier"]
            self.labels = [stored[s.subject][::EVERY] for s in manifest.scans("test", "T2")]

    def labels_of(self, scan: Scan) -> NDArray[np.int64]:
        """(n, h, w) index of the tissue that fills most of each pixel of the training grid."""
        name = scan.subject if scan.subject.startswith("sub-") else f"sub-{scan.subject}"
        path = self.out / f"raw/derivatives/labels/{name}/anat/{name}_dseg.nii.gz"
        labels = to_slices(formats.read(path))[list(scan.slice_indices)]
        shares = [scan.grid.forward((labels == i).astype(np.float32)) for i in range(len(INDEX))]
        shares[0] += 1e-3  # outside the field of view
        return np.argmax(np.stack(shares), axis=0)

    @staticmethod
    def fit(images: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
        """(64,) most probable of `TISSUES` for each interval of intensity."""
        counts = np.stack(
            [np.histogram(images[labels == INDEX[t]], 64, (0, 1))[0] for t in TISSUES]
        )
        smooth = np.apply_along_axis(np.convolve, 1, counts, np.ones(5) / 5, mode="same")
        return np.argmax(smooth, axis=0)

    def tissues(self, image: NDArray[Any]) -> NDArray[np.int64]:
        return self.classifier[np.minimum((image * 64).astype(int), 63)]

    def scores(self, made: list[NDArray[np.float32]]) -> dict[str, float]:
        profile = get_profile("paper")
        pairs = list(zip(np.concatenate(made), np.concatenate(self.targets), strict=True))
        result = {
            "psnr_db": float(np.mean([psnr(a, b, profile) for a, b in pairs])),
            "ssim": float(np.mean([ssim(a, b, profile) for a, b in pairs])),
            "offset_px": float(
                np.mean([median_offset(a, b) for a, b in zip(made, self.targets, strict=True)])
            ),
        }
        found, labels = (
            np.concatenate([self.tissues(m) for m in made]),
            np.concatenate(self.labels),
        )
        brain = np.isin(labels, [INDEX[t] for t in TISSUES])
        for number, tissue in enumerate(TISSUES):
            a, b = (found == number) & brain, labels == INDEX[tissue]
            result[f"dice_{tissue}"] = float(2 * (a & b).sum() / (a.sum() + b.sum()))
        result["dice"] = float(np.mean([result[f"dice_{t}"] for t in TISSUES]))
        result["lesion"] = self.lesion_contrast(made) / self.lesion_contrast(self.targets)
        return result

    def lesion_contrast(self, images: list[NDArray[np.float32]]) -> float:
        """Mean of lesions minus mean of white matter, over all test subjects."""
        values, labels = np.concatenate(images), np.concatenate(self.labels)
        return float(
            values[labels == INDEX["lesion"]].mean()
            - values[labels == INDEX["white_matter"]].mean()
        )


def picture(path: Path, *stacks: NDArray[Any]) -> None:
    """Rows source, synthetic, reference; five heights."""
    from PIL import Image

    rows = [np.concatenate(list(s[np.linspace(2, len(s) - 3, 5).astype(int)]), 1) for s in stacks]
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (np.clip(np.concatenate(rows)[::-1], 0, 1) * 255).astype(np.uint8)
    Image.fromarray(pixels).resize((960, 576)).save(path)


def main(out: Path, model: str) -> None:
    from syndiff.inference import TranslationOptions, translate_slices
    from syndiff.translators import load_translator

    truth, translator = Truth(data(out), out), load_translator(model)
    made = [
        translate_slices(translator, s.copy(), TranslationOptions(device="cpu"))
        for s in truth.sources
    ]
    for name, value in truth.scores(made).items():
        print(f"{name:18} {value:.3f}")
    picture(out / "pictures" / "model.png", truth.sources[0], made[0], truth.targets[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
