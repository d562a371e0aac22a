"""Translate volumes: the result lies on the source's own grid.

volume → slices → the translator's spacing → network → back to the volume's grid → units
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from syndiff.anatomy.check import AnatomyCheck, SpreadSlices, check_anatomy
from syndiff.errors import GeometryError
from syndiff.inference.acquired import Acquired, in_order
from syndiff.inference.doubts import doubts
from syndiff.inference.slices import CHAIN, Progress, translate_slices
from syndiff.preparation.geometry import covering_grid
from syndiff.preparation.intensity import IntensityScale
from syndiff.translators import Translator, load_translator
from syndiff.translators.sampling import Sampling

if TYPE_CHECKING:  # nibabel is needed for volumes only, not for slices
    from syndiff.io.volume import Volume

Warn = Callable[[str], None]


def translate_volume(
    translator: Translator,
    volume: Volume,
    *,
    also: Mapping[str, Volume] | None = None,
    seed: int = 0,
    batch_size: int = 8,
    device: str = "auto",
    shared_noise: bool = True,
    sampling: Sampling = CHAIN,
    precision: str = "32",
    compiled: bool = False,
    progress: Progress | None = None,
    warn: Warn | None = None,
    checked: Callable[[AnatomyCheck], None] | None = None,
    back: Translator | None = None,
) -> Volume:
    """Translate a volume of any orientation, size and spacing.

    Args:
        translator: what to apply.
        volume: the acquired image, in acquired units (HU for CT); with several sources the first.
        also: the other sources by modality, on the grid of `volume`.
        seed, batch_size, device, shared_noise, sampling, precision, compiled, progress:
            see `translate_slices`.
        warn: told, in words, what may spoil the result.
        checked: told whether the anatomy stayed where it is, on a few slices as the network saw
            them; not measured if not given.
        back: the other direction's translator, for the way back in that check.

    Returns:
        The target modality on the grid of `volume`, in output units: HU for CT, else the median
        brightness of the training scans.

    Raises:
        OptionError: the translator takes no source, or others than are given.
        GeometryError: they lie on another grid.
        VolumeError: a volume holds no tissue, or is not in HU where CT is asked for.
    """
    translator.require_source()
    acquired = [
        Acquired.of(modality, scan, translator.config["intensity"][modality])
        for modality, scan in in_order(translator.sources, volume, also or {}).items()
    ]
    target_scale = IntensityScale.from_dict(translator.config["intensity"][translator.target])
    if warn:
        for a in acquired:
            for note in a.notes:
                warn(f"{a.volume.name}: {note}")
            for message in doubts(translator, a.volume, a.mask, a.mean, a.modality):
                warn(message)

    volume, mask = acquired[0].volume, acquired[0].mask
    slices = volume.array.transpose(2, 1, 0)  # x y z → z y x
    spacing_x, spacing_y, _ = volume.spacing_mm
    h, w = translator.config["size"]
    grid = covering_grid(
        (slices.shape[1], slices.shape[2]),
        (spacing_y, spacing_x),
        translator.spacing_mm,
        translator.size_multiple,
        (h, w),
    )
    tissue = np.flatnonzero(mask.any(axis=(0, 1)))
    output = np.full(slices.shape, target_scale.restore(np.zeros(1))[0], np.float32)
    kept = SpreadSlices(tissue)
    how: dict[str, Any] = {
        "seed": seed, "batch_size": batch_size, "device": device, "sampling": sampling,
        "precision": precision,
    }  # fmt: skip
    done = 0
    for start in range(0, len(tissue), batch_size):
        chosen = tissue[start : start + batch_size]
        normal = [np.clip(grid.forward(a.normal(chosen), fill=0.0), 0, 1) for a in acquired]
        image = translate_slices(
            translator,
            np.stack(normal, axis=1),  # n ca h w
            indices=chosen,
            shared_noise=shared_noise,
            compiled=compiled,
            **how,
        )
        kept.see(chosen, normal[0], image)
        output[chosen] = target_scale.restore(np.clip(grid.inverse(image, fill=0.0), 0, 1))
        done += len(chosen)
        if progress:
            progress(done, len(tissue))
    if not np.isfinite(output).all():
        raise GeometryError("the translator made values that are not finite", remedy="retrain it")
    if checked:
        checked(_check(translator, kept, back, **how))
    return volume.like(np.ascontiguousarray(output.transpose(2, 1, 0)))


def _check(
    translator: Translator, kept: SpreadSlices, back: Translator | None, **options: Any
) -> AnatomyCheck:
    """Compare the slices kept of a translation with their sources."""
    scale = {m: IntensityScale.from_dict(c) for m, c in translator.config["intensity"].items()}
    sources, made = kept.stacks
    return check_anatomy(
        sources,
        made,
        source_scale=scale[translator.sources[0]],
        target_scale=scale[translator.target],
        spacing_mm=translator.spacing_mm,
        translate_back=partial(translate_slices, back, **options) if back else None,
    )


class VolumeTranslator:
    """A translator to be called with a volume: `syndiff.load_translator(path)(volume)`.

    Attributes:
        translator: the networks and their configuration.
    """

    def __init__(self, translator: Translator) -> None:
        self.translator = translator

    def __call__(self, volume: Volume, **options: Any) -> Volume:
        """The translated volume on the grid of `volume`; options as in `translate_volume`."""
        return translate_volume(self.translator, volume, **options)

    def __repr__(self) -> str:
        return f"VolumeTranslator({self.translator.source} → {self.translator.target})"


def load_volume_translator(path: str | Path, device: str = "cpu") -> VolumeTranslator:
    """Load a translator folder (or "demo") to be called with volumes; see `load_translator`."""
    return VolumeTranslator(load_translator(path, device))
