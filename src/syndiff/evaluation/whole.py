"""Scoring whole volumes: each test scan is translated in the same way as by `syndiff translate`.

Prepared slices are cropped, of one size and registered. A scan from a file has its own grid, field
of view and position, and the steps between file and network affect the result. Here the source
file is translated on its own grid. The result is then resampled as preparation resampled the
acquired scan: by the recorded registration, to the recorded slices and grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from syndiff.errors import DataError
from syndiff.evaluation.scoring import Slices
from syndiff.preparation.intensity import IntensityScale
from syndiff.preparation.manifest import Manifest, Scan

if TYPE_CHECKING:  # nibabel and torch are imported only where a volume is translated
    from syndiff.inference import TranslationOptions
    from syndiff.io.volume import Volume
    from syndiff.translators import Translator


def whole_volume(
    translator: Translator,
    manifest: Manifest,
    split: str,
    raw: Path,
    options: TranslationOptions,
) -> Callable[[str], Slices]:
    """The function that translates a subject's whole scan and cuts the prepared slices out.

    Args:
        translator: the translator to apply.
        manifest: the manifest of the prepared data.
        split: the split of the subjects.
        raw: folder of the scans that the data were prepared from.
        options: how the volumes are translated; `check` is ignored.

    Returns:
        A function: subject → (n, h, w) in [0, 1], at the positions of the prepared slices. It
        raises DataError if the scan's file is missing, has changed, or is not recorded.
    """
    own = IntensityScale.from_dict(translator.config["intensity"][translator.target])
    scale = manifest.scale(translator.target)
    scans = {m: {s.subject: s for s in manifest.scans(split, m)} for m in translator.sources}
    how = replace(options, check=False)

    def translated(subject: str) -> Slices:
        from syndiff.inference import translate_volume
        from syndiff.io.volume import to_slices

        first, *others = (scans[modality][subject] for modality in translator.sources)
        result = translate_volume(
            translator,
            _acquired(first, raw, manifest.content),
            how,
            also={scan.modality: _acquired(scan, raw, manifest.content) for scan in others},
        ).volume
        placed = on_reference(result, first, float(own.restore(np.zeros(1))[0]))
        chosen = to_slices(placed)[list(first.slice_indices)]
        normal = scale.normalise(chosen, own.training_mean)
        return np.clip(first.grid.forward(normal, scale.background), 0, 1).astype(np.float32)

    return translated


def _acquired(scan: Scan, raw: Path, content: Mapping[str, Any]) -> Volume:
    """The scan's file, which must be the one that was prepared."""
    from syndiff.io.dicom import reading
    from syndiff.io.digest import stamp_of
    from syndiff.io.formats import read

    name = scan.record.get("file")
    if name is None:
        raise DataError(
            f"the data do not say which file {scan.subject}'s {scan.modality} came from",
            "data prepared from scans",
            "evaluate prepared slices: leave out `whole_volumes`",
        )
    path = raw / name
    if not path.exists() or stamp_of(path)["bytes"] != scan.record.get("bytes"):
        raise DataError(
            f"{path} has gone or has changed since the data were prepared",
            "the scans that they were prepared from",
            "give their folder to `whole_volumes`, or prepare them anew",
        )
    options = content.get("options", {})
    series = (options.get("series") or {}).get(scan.modality, "")
    how = reading(series, bool(options.get("regular_grid")), options.get("hu_offset") or 0.0)
    return read(path, **how)


def on_reference(volume: Volume, scan: Scan, fill: float) -> Volume:
    """Resample a volume from the scan's grid to its reference's grid, by the registration."""
    from syndiff.io.volume import Volume, same_grid
    from syndiff.preparation.resampling import resample

    found = scan.record.get("registration")
    if found is None:
        return volume
    matrix = np.asarray(found["reference_to_scan_world_mm"], np.float64)
    shape = tuple(scan.record["native_shape"])
    blank = np.broadcast_to(np.float32(0), shape)
    reference = Volume(blank, np.asarray(scan.record["native_affine"], np.float64))
    if found["method"] == "same grid" or (
        np.array_equal(matrix, np.eye(4)) and same_grid(reference, volume)
    ):
        return volume
    return reference.like(resample(volume, reference, matrix, fill))
