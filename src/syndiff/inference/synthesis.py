"""Unconditional synthesis: slices of a modality from noise alone, which show no real person."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import OptionError
from syndiff.inference.options import DEFAULTS, TranslationOptions
from syndiff.inference.requests import Model, versions
from syndiff.inference.slices import translate_slices
from syndiff.io.atomic import whole_file
from syndiff.io.marks import SYNTHETIC_MARK
from syndiff.io.outputs import check_outputs
from syndiff.io.pairs import write_pair
from syndiff.preparation.intensity import IntensityScale
from syndiff.reporting import SILENT, Reporter
from syndiff.translators import Translator

if TYPE_CHECKING:  # nibabel is needed for volumes only, not for slices
    from syndiff.io.volume import Volume

LARGEST_GRID = 64  # slices in the picture
DISPLAY_PERCENTILE = 99.9
NOT_FOR = "for research, not for diagnosis"


def sample_slices(
    translator: Translator,
    count: int,
    options: TranslationOptions = DEFAULTS,
    *,
    report: Reporter = SILENT,
) -> NDArray[np.float32]:
    """Draw slices from an unconditional translator.

    Args:
        translator: a translator without source modalities.
        count: number of slices; slice i depends only on the seed and on i.
        options: how the slices are drawn; `shared_noise` is ignored, each slice has its own noise.
        report: receives the number of finished slices.

    Returns:
        (count, h, w) in [0, 1].

    Raises:
        OptionError: the translator needs a source.
    """
    if translator.sources:
        raise OptionError(
            f"{translator.name} needs a {translator.source} image to translate",
            "a translator that was trained without a source",
            "use 'syndiff translate'",
        )
    h, w = translator.config["size"]
    nothing = np.empty((count, 0, h, w), np.float32)  # a source image has no channels
    own = replace(options, shared_noise=False)
    return translate_slices(translator, nothing, own, report=report)


def sample(
    model: str | Path,
    out: str | Path,
    options: TranslationOptions = DEFAULTS,
    *,
    count: int = 16,
    overwrite: bool = False,
    report: Reporter = SILENT,
) -> Volume:
    """Write synthetic slices as OUT/synthetic_T1.nii.gz, .png and .json (for T1).

    Args:
        model: folder of an unconditional translator.
        out: folder for the files, which is made if it does not exist.
        options: how the slices are drawn.
        count: number of slices; they are stacked along z, but are unrelated to each other.
        overwrite: allow replacing files that syndiff did not make.
        report: receives the number of finished slices.

    Returns:
        The stack of slices (x, y, z), in HU for CT, else in the brightness of the training scans.

    Raises:
        UserError: the model cannot be used, or needs a source.
    """
    from syndiff.io import formats as volumes
    from syndiff.io.volume import Volume, from_slices

    loaded, started = Model.read(model), time.monotonic()
    translator = loaded.translator
    stem = Path(out) / f"synthetic_{translator.target}"
    outputs = [f"{stem}{suffix}" for suffix in (".nii.gz", ".png", ".json")]
    h, w = translator.config["size"]
    check_outputs(outputs, overwrite=overwrite, expected_bytes=4 * count * h * w)
    slices = sample_slices(translator, count, options, report=report)
    scale = IntensityScale.from_dict(translator.config["intensity"][translator.target])
    spacing_mm = translator.spacing_mm
    stack = Volume(
        np.ascontiguousarray(from_slices(scale.restore(slices))),
        np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0]),  # the spacing along z has no meaning
        synthetic=f"{SYNTHETIC_MARK}: {translator.target} of nobody",
    )
    write_picture(Path(f"{stem}.png"), slices, f"Synthetic {translator.target}: {NOT_FOR}")
    record = {
        "synthetic": True,
        "not_for": "diagnosis",
        "modality": translator.target,
        "source_modality": None,
        "slices": count,
        "slices_are": "unrelated to each other: no volume of a person",
        "unit": scale.unit,
        "translator": loaded.record(),
        **replace(options, shared_noise=False).to_dict(),
        "sampling_steps": translator.chain_steps(options.sampling.steps),
        "versions": versions(),
        "seconds": round(time.monotonic() - started, 2),
    }
    write_pair(Path(f"{stem}.nii.gz"), lambda path: volumes.write(stack, path), record)
    return stack


def write_picture(path: Path, slices: NDArray[np.float32], title: str) -> None:
    """Write a PNG of slices (n, h, w) in radiological display: the patient's left on the right."""
    from matplotlib.figure import Figure

    from syndiff.io.volume import radiological

    shown = radiological(slices[:LARGEST_GRID])
    columns = int(np.ceil(np.sqrt(len(shown))))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(1.6 * columns, 1.6 * rows + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=10)
    top = max(float(np.percentile(shown, DISPLAY_PERCENTILE)), 1e-6)
    for place, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.axis("off")
        if place < len(shown):
            axes.imshow(shown[place], cmap="gray", vmin=0, vmax=top)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Description": SYNTHETIC_MARK})
