"""Translate slices and volumes: the result lies on the source's own grid.

    volume → slices → the translator's spacing → network → back to the volume's grid → units

Memory is bounded by the batch: only the volume itself and its result are held whole.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from syndiff import __version__
from syndiff.acquired import Acquired, in_order
from syndiff.anatomy.check import AnatomyCheck, SpreadSlices, check_anatomy
from syndiff.errors import GeometryError, OptionError
from syndiff.files import write_json
from syndiff.preparation.geometry import covering_grid
from syndiff.preparation.intensity import IntensityScale
from syndiff.translators import (
    SliceNoise,
    Translator,
    load_translator,
    locate,
    other_direction,
)

if TYPE_CHECKING:  # nibabel is needed for volumes only, not for slices
    from syndiff.volume import Volume

Progress = Callable[[int, int], None]
Warn = Callable[[str], None]
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is the GPU if there is one.

    Raises:
        OptionError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise OptionError(
            f"the device {name!r} is not available here", "auto, cpu or cuda", "use --device cpu"
        ) from error


def translate_slices(
    translator: Translator,
    slices: NDArray[Any],
    *,
    seed: int = 0,
    batch_size: int = 8,
    device: str = "auto",
    shared_noise: bool = True,
    indices: NDArray[Any] | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Translate normalised slices on the translator's own grid.

    Args:
        translator: what to apply.
        slices: (n, h, w), or (n, c, h, w) for several source modalities, in [0, 1].
        seed: of the noise.
        batch_size: slices at a time; bounds the memory, does not change the result.
        device: "auto", "cpu", "cuda", …
        shared_noise: one noise for all slices, so that a volume is coherent along z.
        indices: (n,) each slice's index in its volume, 0 … n - 1 if not given.
        progress: called with (slices done, slices in all).

    Returns:
        (n, h, w) float32 in [0, 1].
    """
    if batch_size < 1:
        raise OptionError(f"a batch size of {batch_size}", "1 or more")
    target_device = choose_device(device)
    translator = translator.to(target_device).eval()
    slices = slices[:, None] if slices.ndim == 3 else slices
    n, _, h, w = slices.shape
    places = np.arange(n) if indices is None else np.asarray(indices)
    result = np.empty((n, h, w), np.float32)
    for start in range(0, n, batch_size):
        part = slice(start, min(start + batch_size, n))
        noise = SliceNoise(seed, places[part].tolist(), shared_noise, target_device)
        batch = torch.from_numpy(np.ascontiguousarray(slices[part], dtype=np.float32))
        result[part] = _translate_batch(translator, batch.to(target_device), noise)
        if progress:
            progress(part.stop, n)
    return result


@torch.inference_mode()
def _translate_batch(
    translator: Translator, batch: torch.Tensor, noise: SliceNoise
) -> NDArray[np.float32]:
    """(b, c, h, w) in [0, 1] → (b, h, w) in [0, 1], padded with air to the network's multiple."""
    h, w = batch.shape[-2:]
    multiple = translator.size_multiple
    bottom, right = -h % multiple, -w % multiple
    padded = torch.nn.functional.pad(batch * 2 - 1, (0, right, 0, bottom), value=-1.0)
    image = translator(padded, noise)[:, 0, :h, :w]
    return ((image.clamp(-1, 1) + 1) / 2).float().cpu().numpy()


def translate_volume(
    translator: Translator,
    volume: Volume,
    *,
    also: Mapping[str, Volume] | None = None,
    seed: int = 0,
    batch_size: int = 8,
    device: str = "auto",
    shared_noise: bool = True,
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
        seed, batch_size, device, shared_noise, progress: see `translate_slices`.
        warn: told, in words, what may spoil the result.
        checked: told whether the anatomy stayed where it is, on a few slices as the network saw
            them; not measured if not given.
        back: the other direction's translator, for the way back in that check.

    Returns:
        The target modality on the grid of `volume`, in output units: HU for CT, else the median
        brightness of the training scans.

    Raises:
        OptionError: the other sources are not those that the translator needs.
        GeometryError: they lie on another grid.
        VolumeError: a volume holds no tissue, or is not in HU where CT is asked for.
    """
    acquired = [
        Acquired.of(modality, scan, translator.config["intensity"][modality])
        for modality, scan in in_order(translator.sources, volume, also or {}).items()
    ]
    target_scale = IntensityScale.from_dict(translator.config["intensity"][translator.target])
    if warn:
        for a in acquired:
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
    done = 0
    for start in range(0, len(tissue), batch_size):
        chosen = tissue[start : start + batch_size]
        normal = [np.clip(grid.forward(a.normal(chosen), fill=0.0), 0, 1) for a in acquired]
        image = translate_slices(
            translator,
            np.stack(normal, axis=1),  # n ca h w
            seed=seed,
            batch_size=batch_size,
            device=device,
            shared_noise=shared_noise,
            indices=chosen,
        )
        kept.see(chosen, normal[0], image)
        output[chosen] = target_scale.restore(np.clip(grid.inverse(image, fill=0.0), 0, 1))
        done += len(chosen)
        if progress:
            progress(done, len(tissue))
    if not np.isfinite(output).all():
        raise GeometryError("the translator made values that are not finite", remedy="retrain it")
    if checked:
        checked(_check(translator, kept, back, seed=seed, batch_size=batch_size, device=device))
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


def tissue_quantiles(normal: NDArray[Any], mask: NDArray[np.bool_]) -> list[float]:
    """The 5, 25, 50, 75 and 95 % quantiles of normalised tissue: a scan's fingerprint."""
    return [round(float(q), 4) for q in np.quantile(normal[mask], QUANTILES)]


def doubts(
    translator: Translator,
    volume: Volume,
    mask: NDArray[np.bool_],
    mean: float,
    modality: str = "",
) -> list[str]:
    """Reasons to think that the volume is unlike the translator's training data, in words.

    `modality` says which source it is where there are several.
    """
    config, name, modality = translator.config, volume.name, modality or translator.source
    found = []
    x, y, _ = volume.spacing_mm
    if min(x, y) < 0.9 * translator.spacing_mm:
        found.append(
            f"{name} has pixels of {y:.2f}×{x:.2f} mm, finer than the {translator.spacing_mm:.2f} "
            "mm of the translator's training data: the result has their coarser detail"
        )
    elif max(x, y) > 1.5 * translator.spacing_mm:
        found.append(
            f"{name} has pixels of {y:.2f}×{x:.2f} mm, coarser than the "
            f"{translator.spacing_mm:.2f} mm of the training data: expect a blurred result"
        )
    if volume.array.shape[2] == 1:
        found.append(f"{name} is a single slice: is it axial?")
    extent = np.ptp(np.argwhere(mask.any(axis=2)), axis=0) * (x, y)
    if extent.min() < 40 or extent.max() > 600:
        found.append(
            f"the tissue in {name} measures {extent[0]:.0f}×{extent[1]:.0f} mm: is it a head?"
        )
    statistics = config.get("tissue_quantiles")
    if statistics:
        scale = IntensityScale.from_dict(config["intensity"][modality])
        found += _modality_doubts(
            tissue_quantiles(scale.normalise(volume.array, mean), mask),
            statistics,
            modality,
            name,
        )
    return found


def _modality_doubts(
    quantiles: list[float], statistics: dict[str, Any], modality: str, name: str
) -> list[str]:
    """Compare a scan's quantiles with those of the training subjects of every modality."""

    def distance(other: str) -> float:
        subjects = np.asarray(statistics[other])
        return float(np.abs(subjects - quantiles).mean(axis=1).min())

    subjects = np.asarray(statistics[modality])
    spread = float(np.abs(subjects - np.median(subjects, axis=0)).mean(axis=1).max())
    if distance(modality) <= max(3 * spread, 0.06):
        return []
    nearest = min(statistics, key=distance)
    if nearest != modality:
        return [f"the intensities of {name} look like {nearest}, not {modality}"]
    return [
        f"the intensities of {name} are unlike the {modality} scans that the translator "
        "was trained on: is it the right modality?"
    ]


def translate_file(
    model: str | Path,
    image: str | Path,
    output: str | Path,
    *,
    also: Mapping[str, str | Path] | None = None,
    check: bool = True,
    warn: Warn = lambda message: None,
    **options: Any,
) -> Volume:
    """Translate a file; `output` and its side-car JSON are written whole or not at all.

    Args:
        model: translator folder, or "demo".
        image: volume of the source modality, see `volume.read`; of several the first.
        also: files of the other sources by modality, on the same grid.
        output: .nii.gz or .nii; the provenance goes beside it into the same name with .json.
        check: measure whether the anatomy stays where it is, for the side-car; on the way back
            with the other direction's translator if it lies beside `model`.
        warn: told, in words, what may spoil the result.
        options: see `translate_volume`.

    Raises:
        UserError: the model, the image or the output name cannot be used.
    """
    from syndiff import volume as volumes

    volumes.check_output_name(output)
    files = {"": image} | dict(also or {})
    if Path(output).resolve() in [Path(file).resolve() for file in files.values()]:
        raise OptionError(f"the output {output} is the input", "another name")
    translator = load_translator(model)
    source, *others = (volumes.read(file) for file in files.values())
    sources = dict(zip(also or {}, others, strict=True))
    doubts_found: list[str] = []

    def hear(message: str) -> None:
        doubts_found.append(message)
        warn(message)

    started = time.monotonic()
    found: list[AnatomyCheck] = []
    if check:
        options |= {"checked": found.append, "back": other_direction(model, translator)}
    result = translate_volume(translator, source, also=sources, warn=hear, **options)
    for message in found[0].warnings("the result") if found else []:
        hear(message)
    mark = f"{volumes.SYNTHETIC_MARK}: {translator.target} from {translator.source}"
    volumes.write(result, output, mark)
    record = {
        "synthetic": True,
        "not_for": "diagnosis",
        "modality": translator.target,
        "source_modality": translator.source,
        "source_file": ", ".join(Path(file).name for file in files.values()),
        "unit": translator.config["intensity"][translator.target]["unit"],
        "translator": {
            "name": translator.name,
            "method": translator.config.get("method"),
            "weights_sha256": digest(locate(model) / translator.weights),
            "training": translator.config.get("training", {}),
        },
        "seed": options.get("seed", 0),
        "shared_noise": options.get("shared_noise", True),
        "anatomy": found[0].to_dict() if found else None,
        "warnings": doubts_found,
        "versions": {"syndiff": __version__, "torch": torch.__version__, "numpy": np.__version__},
        "seconds": round(time.monotonic() - started, 2),
    }
    write_json(sidecar(output), record)
    return result


def sidecar(output: str | Path) -> Path:
    """The JSON beside a volume: scan.nii.gz → scan.json."""
    path = Path(output)
    stem = path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.stem
    return path.with_name(f"{stem}.json")


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(model: str | Path) -> list[tuple[str, str]]:
    """What a translator does and where it comes from, as (name, value) lines."""
    translator = load_translator(model)
    config = translator.config
    h, w = config["size"]
    training = config.get("training", {})
    target = IntensityScale.from_dict(config["intensity"][translator.target])
    top = float(target.restore(np.ones(1))[0])
    return [
        ("translates", f"{' and '.join(translator.sources)} → {translator.target}"),
        ("method", f"{config.get('method')} ({config['kind']})"),
        ("parameters", f"{translator.parameter_count / 1e6:.2f} M"),
        ("noise", "yes: --seed changes the result" if translator.stochastic else "none"),
        ("trained at", f"{translator.spacing_mm:g} mm pixels, {h}×{w}; others are resampled"),
        ("axes", str(config.get("axes", ""))),
        ("output", f"0 to {top:.4g} {target.unit}" if target.unit != "HU" else "HU"),
        ("training", ", ".join(f"{k} {v}" for k, v in training.items())),
        ("written by", f"syndiff {config.get('syndiff_version')}"),
        ("weights SHA-256", digest(locate(model) / translator.weights)),
    ]
