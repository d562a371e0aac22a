"""What a checkpoint does not know about the slices that it was trained on."""

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
    """What a checkpoint does not know about the slices that it was trained on.

    Attributes:
        spacing_mm: pixel size.
        orientation: where rows and columns grew to, as the network saw them.
        intensity: modality → rule between acquired values and [0, 1].
        tissue_quantiles: modality → one list per training scan; empty where unknown.
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
    """What a person knows of the training slices, or what their prepared files say.

    Args:
        source, target: modalities.
        data: folder prepared from the very .mat files of the training; instead of the others.
        spacing_mm: pixel size of the training slices.
        orientation: two letters, see `preparation.orientation`.
        source_scale, target_scale: value that became 1, in multiples of a scan's mean; not for CT.
        hu_window: for CT, the HU that became 0 and 1.
        rule: the mean was taken over the whole volume ("paper") or over the head ("robust").

    Raises:
        OptionError: something is missing or makes no sense; names every missing option.
        DataError: `data` was not prepared from such files, or lacks a modality.
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
    if not is_ct(modality):  # the brightness of the training scans is unknown: their mean is 1
        return IntensityScale(rule, "a.u.", float(scale or 0), 1.0)  # type: ignore[arg-type]
    low, high = hu_window or (0.0, 0.0)
    if not low < high:
        raise OptionError(f"`hu_window` {low:g},{high:g}", "two HU, the lower first")
    return IntensityScale("window", "HU", 1.0, 0.0, (float(low), float(high)))
