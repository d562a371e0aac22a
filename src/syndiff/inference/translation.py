"""Translate volumes; the result lies on the grid of the source volume.

volume → normalised slices → the translator's pixel size → network → the volume's grid → units
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from syndiff.anatomy.check import AnatomyCheck, SpreadSlices, check_anatomy
from syndiff.errors import GeometryError, OptionError
from syndiff.inference.acquired import Acquired, in_order
from syndiff.inference.doubts import doubts
from syndiff.inference.frames import Frames, box_of
from syndiff.inference.options import DEFAULTS, TranslationOptions
from syndiff.inference.slices import translate_slices
from syndiff.inference.spread import Moments, require_noise, seeds_of
from syndiff.io.marks import SYNTHETIC_MARK, refuse_synthetic
from syndiff.preparation.body import AIR_HU, stored_hu
from syndiff.preparation.intensity import IntensityScale
from syndiff.preparation.settings import accelerations
from syndiff.reporting import SILENT, Remembering, Reporter
from syndiff.translators import Translator

if TYPE_CHECKING:  # nibabel is needed for volumes only, not for slices
    from syndiff.io.volume import Volume


@dataclass(frozen=True)
class Translation:
    """The result of a translation.

    Attributes:
        volume: the target modality on the grid of the source; in HU for CT, else scaled to the
            median brightness of the training scans.
        anatomy: the check whether the anatomy stayed in place; None if it was not run.
        warnings: sentences on what may spoil the result: first the source, then the anatomy.
        options: the options that were used.
        record: plain values for the side-car, which state the image's origin.
        beside: "mean" and "std" of the samples, where `options.samples` asks for some.
    """

    volume: Volume
    anatomy: AnatomyCheck | None
    warnings: tuple[str, ...]
    options: TranslationOptions
    record: Mapping[str, Any]
    beside: Mapping[str, Volume] = field(default_factory=dict)


def translate_volume(
    translator: Translator,
    volume: Volume,
    options: TranslationOptions = DEFAULTS,
    *,
    also: Mapping[str, Volume] | None = None,
    back: Translator | None = None,
    report: Reporter = SILENT,
) -> Translation:
    """Translate a volume of any orientation, size and spacing.

    Args:
        translator: the translator to apply.
        volume: the scan of the (first) source modality, in acquired units (HU for CT).
        options: how the volume is translated.
        also: modality → volume of the other source modalities, on the grid of `volume`.
        back: the translator of the other direction, with which the check of the anatomy
            translates the result back to the source; None to leave this part out.
        report: receives the number of finished slices, and warnings about the result.

    Raises:
        OptionError: the translator has no source or other sources than given, or does not
            support an option.
        GeometryError: the sources lie on different grids.
        VolumeError: a volume holds no tissue, is synthetic, or is a CT but not in HU.
    """
    translator.require_source()
    require_noise(translator, options.samples)
    heard = Remembering(report)
    acquired = _acquired(translator, volume, also or {}, options)
    for a in acquired:
        for note in (*a.volume.stored.notes, *a.notes):
            heard.warn(f"{a.volume.name}: {note}")
        for message in doubts(translator, a.volume, a.mask, a.mean, a.modality):
            heard.warn(message)
    heard.phase("translating")
    output, moments, kept = _translated(
        translator.for_precision(options.precision), acquired, options, heard
    )
    output = _as_stored(translator, acquired, output)
    anatomy = None
    if options.check:
        heard.phase("checking the anatomy")
        anatomy = _check(translator, kept, back, options)
        for message in anatomy.warnings("the result"):
            heard.warn(message)
    mark = f"{SYNTHETIC_MARK}: {translator.target} from {translator.source}"
    made = replace(acquired[0].volume.like(output), synthetic=mark)
    record = _record(translator, [a.volume for a in acquired], options, anatomy, heard.warnings)
    beside = {
        name: replace(acquired[0].volume.like(array), synthetic=f"{mark}; {name} of samples")
        for name, array in _statistics(translator, acquired, moments).items()
    }
    return Translation(made, anatomy, tuple(heard.warnings), options, record, beside)


def _as_stored(
    translator: Translator, acquired: Sequence[Acquired], output: NDArray[np.float32]
) -> NDArray[np.float32]:
    """An image (x, y, z) in output units as it is stored: a CT in whole HU without air's noise."""
    if scale_of(translator).unit != "HU":
        return output
    body = np.logical_or.reduce([a.mask for a in acquired])
    return stored_hu(output, body, acquired[0].volume.spacing_mm)


def _statistics(
    translator: Translator, acquired: Sequence[Acquired], moments: Moments | None
) -> dict[str, NDArray[np.float32]]:
    """Mean and standard deviation (x, y, z); 0 is the deviation of a CT outside the body."""
    from syndiff.io.volume import from_slices

    if moments is None:
        return {}
    mean, std = (np.ascontiguousarray(from_slices(a)) for a in (moments.mean, moments.std))
    mean = _as_stored(translator, acquired, mean)
    if scale_of(translator).unit == "HU":
        std = np.where(mean > AIR_HU, std, np.float32(0))
    return {"mean": mean, "std": std}


def _acquired(
    translator: Translator,
    volume: Volume,
    also: Mapping[str, Volume],
    options: TranslationOptions,
) -> list[Acquired]:
    """Measure the source volumes; the list has the order of the translator's sources."""
    sources = in_order(translator.sources, volume, also)
    for scan in sources.values():
        refuse_synthetic(scan, options.allow_synthetic)
    intensity = translator.config["intensity"]
    frame_mm = min(translator.config["size"]) * translator.spacing_mm
    made = accelerations(translator.config, translator.sources)
    if options.accelerate and not made:
        raise OptionError(
            f"`accelerate` with {translator.name}, which was trained on full scans",
            "a translator that was trained on accelerated ones",
            "leave it out",
        )
    how = made if options.accelerate else {}
    return [
        Acquired.of(m, scan, intensity[m], frame_mm, how.get(m)) for m, scan in sources.items()
    ]


def _translated(
    translator: Translator,
    acquired: Sequence[Acquired],
    options: TranslationOptions,
    report: Reporter,
) -> tuple[NDArray[np.float32], Moments | None, SpreadSlices]:
    """Translate all slices with tissue.

    Returns:
        The array (x, y, z) in output units, mean and deviation of the samples if there are any,
        and some of the network's input and output slices.
    """
    from syndiff.io.volume import from_slices, to_slices

    scale = scale_of(translator)
    volume = acquired[0].volume
    frames = _frames(translator, acquired)
    tissue = np.flatnonzero(acquired[0].mask.any(axis=(0, 1)))
    air = scale.restore(np.zeros(1))[0]
    output = np.full(to_slices(volume).shape, air, np.float32)  # z y x
    moments = Moments(output.shape, air) if options.samples else None
    kept = SpreadSlices(tissue)
    for start in range(0, len(tissue), options.batch_size):
        places = tissue[start : start + options.batch_size]
        from_top = int(tissue[-1]) - places  # noise must not depend on how far a scan reaches down
        canvas = np.stack([frames.forward(a.normal(places)) for a in acquired], axis=1)  # n ca h w
        sample = partial(_sample, translator, frames, canvas, places, from_top, options)
        image = sample(options.seed)
        kept.see(places, canvas[:, 0], image)
        output[places] = scale.restore(frames.inverse(image))
        if moments is not None:
            others = (sample(seed) for seed in seeds_of(options.seed, options.samples)[1:])
            more = [scale.restore(frames.inverse(other)) for other in others]
            moments.see(places, [output[places], *more])
        report.progress(start + len(places), len(tissue))
    if not np.isfinite(output).all():
        raise GeometryError("the translator made values that are not finite", remedy="retrain it")
    return np.ascontiguousarray(from_slices(output)), moments, kept


def _sample(
    translator: Translator,
    frames: Frames,
    canvas: NDArray[np.float32],
    places: NDArray[np.integer],
    from_top: NDArray[np.integer],
    options: TranslationOptions,
    seed: int,
) -> NDArray[np.float32]:
    """Slices (n, ca, h, w) of the canvas translated with the noise of a seed, (n, h, w)."""
    own = replace(options, seed=seed)

    def network(images: NDArray[np.float32], chosen: NDArray[np.integer]) -> NDArray[np.float32]:
        return translate_slices(translator, images, own, indices=from_top[chosen])

    return frames.translate(canvas, places, network)


def scale_of(translator: Translator) -> IntensityScale:
    """The rule of the target's intensities."""
    return IntensityScale.from_dict(translator.config["intensity"][translator.target])


def _frames(translator: Translator, acquired: Sequence[Acquired]) -> Frames:
    """Frames of the training slices' size around the tissue of all sources."""
    multiple = translator.size_multiple
    h, w = (n + -n % multiple for n in translator.config["size"])
    spacing_x, spacing_y, _ = acquired[0].volume.spacing_mm
    tissue = np.logical_or.reduce([a.mask for a in acquired])
    head = np.logical_or.reduce([a.head for a in acquired]).any(axis=2)  # x y
    return Frames.around(
        tissue.transpose(2, 1, 0), box_of(head.T), (spacing_y, spacing_x),
        translator.spacing_mm, (h, w),
    )  # fmt: skip


def _check(
    translator: Translator,
    kept: SpreadSlices,
    back: Translator | None,
    options: TranslationOptions,
) -> AnatomyCheck:
    """Compare the kept slices of a translation with their sources."""
    scale = {m: IntensityScale.from_dict(c) for m, c in translator.config["intensity"].items()}
    sources, made = kept.stacks
    way_back = replace(options, shared_noise=True, compiled=False)
    return check_anatomy(
        sources,
        made,
        source_scale=scale[translator.sources[0]],
        target_scale=scale[translator.target],
        spacing_mm=translator.spacing_mm,
        translate_back=(lambda made: translate_slices(back, made, way_back)) if back else None,
    )


def _record(
    translator: Translator,
    sources: Sequence[Volume],
    options: TranslationOptions,
    anatomy: AnatomyCheck | None,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """The content of the side-car, without the entries on the model, which `translate` adds."""
    marks = [source.synthetic for source in sources if source.synthetic]
    return {
        "synthetic": True,
        "not_for": "diagnosis",
        "modality": translator.target,
        "source_modality": translator.source,
        "source_file": ", ".join(source.name for source in sources),
        "source_synthetic": ", ".join(marks) or None,
        "unit": translator.config["intensity"][translator.target]["unit"],
        **options.to_dict(),
        **({"seeds": seeds_of(options.seed, options.samples)} if options.samples else {}),
        "sampling_steps": translator.chain_steps(options.sampling.steps),
        "anatomy": anatomy.to_dict() if anatomy else None,
        "warnings": list(warnings),
    }
