"""Properties of the training slices that an official checkpoint does not contain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syndiff.errors import DataError, OptionError
from syndiff.preparation.intensity import RULES, IntensityScale, is_ct
from syndiff.preparation.manifest import read_manifest
from syndiff.preparation.orientation import SliceOrientation


@dataclass(frozen=True)
class TrainingData:
    """Properties of the training slices that an official checkpoint does not contain.

    Attributes:
        spacing_mm: pixel size in mm.
        orientation: directions of the rows and columns of the network's images.
        intensity: modality → intensity rule, between acquired values and [0, 1].
        tissue_quantiles: modality → one list of quantiles per training scan; empty if unknown.
    """

    spacing_mm: float
    orientation: SliceOrientation
    intensity: Mapping[str, IntensityScale]
    tissue_quantiles: Mapping[str, list[list[float]]]


def training_data(
    source: str,
    target: str,
    *,
    data: Path | None = None,
    spacing_mm: float | None = None,
    orientation: str = "",
    source_scale: float | None = None,
    target_scale: float | None = None,
    hu_window: Sequence[float] | None = None,
    rule: str = "paper",
) -> TrainingData:
    """The properties of the training slices, from the user's options or from prepared data.

    Args:
        source, target: names of the modalities.
        data: folder that was prepared from the .mat files of the training; it replaces all other
            options.
        spacing_mm: pixel size of the training slices in mm.
        orientation: two letters, see `preparation.orientation`.
        source_scale, target_scale: the value that became 1, in multiples of the scan's mean; not
            for CT.
        hu_window: for CT, the values in HU that became 0 and 1.
        rule: "paper" if the mean was taken over the whole volume, "robust" if over the head.

    Raises:
        OptionError: an option is out of range or missing; the message names all missing options.
        DataError: `data` was not prepared from .mat files, or lacks a modality.
    """
    scales = {"source_scale": (source, source_scale), "target_scale": (target, target_scale)}
    needed: dict[str, Any] = {"spacing_mm": spacing_mm, "orientation": orientation or None}
    for name, (modality, scale) in scales.items():
        needed |= {"hu_window": hu_window} if is_ct(modality) else {name: scale}
    missing = [name for name, value in needed.items() if value is None]
    if data is not None:
        if len(missing) < len(needed):
            given = ", ".join(f"`{name}`" for name in needed if name not in missing)
            raise OptionError(f"both `data` and {given}", "one of them")
        return _of_folder(data, source, target)
    if missing:
        raise OptionError(
            f"no {', '.join(f'`{name}`' for name in missing)}: a checkpoint does not know how its "
            "training slices were spaced, lay and were scaled",
            remedy="give these, or `data` with its prepared .mat files "
            "(docs/importing.md explains)",
        )
    for name, value in needed.items():
        if isinstance(value, int | float) and not 0.001 <= value <= 1000:
            raise OptionError(f"`{name}` {value:g}", "a number from 0.001 to 1000")
    if rule not in RULES:
        raise OptionError(f"the intensity rule {rule!r}", " or ".join(RULES))
    return TrainingData(
        spacing_mm=float(needed["spacing_mm"]),
        orientation=SliceOrientation(orientation),
        intensity={name: _scale(name, rule, scale, hu_window) for name, scale in scales.values()},
        tissue_quantiles={},
    )


def _of_folder(folder: Path, source: str, target: str) -> TrainingData:
    manifest = read_manifest(folder)
    made = manifest.content.get("options", {})
    if "orientation" not in made:
        raise DataError(
            f"{folder} was not prepared from the official code's .mat files",
            "the files that the checkpoint was trained on, prepared with 'syndiff prepare'",
            "else give `spacing_mm`, `orientation`, `source_scale` and `target_scale`",
        )
    return TrainingData(
        spacing_mm=float(made["spacing_mm"]),
        orientation=SliceOrientation(made["orientation"]),
        intensity={name: manifest.scale(name) for name in (source, target)},
        tissue_quantiles={
            name: [list(scan.tissue_quantiles) for scan in manifest.scans("train", name)]
            for name in (source, target)
        },
    )


def _scale(
    modality: str, rule: str, scale: float | None, hu_window: Sequence[float] | None
) -> IntensityScale:
    if not is_ct(modality):  # the training scans' brightness is unknown, so their mean is set to 1
        return IntensityScale(rule, "a.u.", float(scale or 0), 1.0)  # type: ignore[arg-type]
    low, high = hu_window or (0.0, 0.0)
    if not low < high:
        raise OptionError(f"`hu_window` {low:g},{high:g}", "two HU, the lower first")
    return IntensityScale("window", "HU", 1.0, 0.0, (float(low), float(high)))
