"""The smallest networks that have every part, and the smallest prepared data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from syndiff.networks.ncsnpp import NCSNppSettings
from syndiff.networks.patchgan import PatchSettings
from syndiff.networks.resnet import ResNetSettings
from syndiff.networks.step_discriminator import StepDiscriminatorSettings
from syndiff.objectives.syndiff import SynDiffSettings
from syndiff.preparation.geometry import SliceGrid
from syndiff.preparation.intensity import IntensityScale
from syndiff.preparation.manifest import slices_name, write_manifest

TINY = SynDiffSettings(
    generator=NCSNppSettings(
        channels=8,
        multipliers=(1, 2),
        blocks=1,
        attention_levels=(1,),
        time_dim=8,
        latent_dim=4,
        latent_embedding=8,
        latent_layers=2,
    ),
    one_shot=ResNetSettings(channels=4, blocks=1, upsampling="resize"),
    step_discriminator=StepDiscriminatorSettings(stem=4, widths=(8, 8), time_dim=8),
    patch_discriminator=PatchSettings(channels=4, halvings=2),
    cycle_one_shot=5.0,
    cycle_diffusive=5.0,
    structure=1.0,
    gradient_penalty_interval=2,
)

COUNT, SIZE = 5, 16  # slices of a scan, pixels of a slice


def write_prepared(
    folder: Path, subjects: Mapping[str, str], modalities: tuple[str, ...] = ("T1", "PD", "T2")
) -> Path:
    """A prepared folder without scans behind it.

    Args:
        folder: to make.
        subjects: name → modalities: "T1 T2" on one grid, "T1|T2" each on its own. The name begins
            with the split: "train1", "val1".
        modalities: of the folder.
    """
    grid = SliceGrid((SIZE, SIZE), (4.0, 4.0), (SIZE, SIZE), 4.0)
    entries = []
    for number, (subject, held) in enumerate(subjects.items()):
        split = subject.rstrip("0123456789")
        for group in held.split("|"):
            for modality in group.split():
                path = folder / slices_name(split, modality, subject)
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, scan_slices(number, modality))
                entries.append(
                    {
                        "subject": subject,
                        "modality": modality,
                        "split": split,
                        "slices": slices_name(split, modality, subject),
                        "slice_indices": list(range(COUNT)),
                        "foreground_mean": 100.0,
                        "grid": grid.to_dict(),
                        "tissue_quantiles": [0.1, 0.2, 0.3, 0.4, 0.5],
                        "reference": group.split()[0],
                    }
                )
    scale = IntensityScale("robust", "a.u.", 2.0, 100.0)
    content = {
        "modalities": list(modalities),
        "size": [SIZE, SIZE],
        "spacing_mm": 4.0,
        "intensity": {m: scale.to_dict() for m in modalities},
        "scans": entries,
    }
    write_manifest(folder, json.loads(json.dumps(content)))
    return folder


def scan_slices(number: int, modality: str) -> NDArray[np.float32]:
    """(n, h, w): a head whose tissue T1 and PD tell apart together; pixel (0, 0) says which."""
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    rng = np.random.default_rng(number)
    slices = np.zeros((COUNT, SIZE, SIZE), np.float32)
    for i in range(COUNT):
        a, b = rng.uniform(-0.4, 0.4, 2)
        left, right = x < a, y < b
        t1, pd = 0.3 + 0.4 * left, 0.3 + 0.4 * right
        image = {"T1": t1, "PD": pd, "T2": 0.9 - 0.5 * (t1 + pd - 0.6) / 0.8}[modality]
        slices[i] = np.where(x**2 + y**2 < 0.8, image, 0)
        slices[i, 0, 0] = (number * COUNT + i) / 1000
    return slices
