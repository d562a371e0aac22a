"""Judge translators of heads on real patients, as `syndiff translate` runs them.

    python experiments/brain.py DATA OUT [NAME=TRANSLATOR ...] [--source T1w] [--target T2w]

DATA holds folders of patients with T1w.nii.gz, T2w.nii.gz and FLAIR.nii.gz (and lesions.nii.gz
where there is one), anywhere below it. The target is registered onto the grid of the source by
syndiff's own preparation and kept in OUT/registered. What lies outside the head, or where the
acquired target does not reach, is set to zero; each image is divided by its mean in the head, and
the peak is the acquired one's 99.9th percentile there. `psnr_db` and `ssim` are over the bounding
box, `…_head` over the head alone, `…_inner` over the brain.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from syndiff.anatomy.offset import stack_offset
from syndiff.inference import translate_volume
from syndiff.io import formats
from syndiff.io.volume import Volume
from syndiff.preparation.intensity import foreground_mask
from syndiff.preparation.registration import align
from syndiff.translators import load_translator

Array = NDArray[np.float32]
PATIENTS = ("brain_native/sub-03", "brain_native/sub-04", "brain_mni/sub-07", "brain_mni/sub-19")
T1_T2 = ("T1w", "T2w")
CURVE_FROM = "brain_native/sub-01"  # whose histograms the matching baseline learns


@dataclass
class Patient:
    """One patient's scans on the grid of the source, (x, y, z)."""

    name: str
    source: Volume
    target: Array
    contrast: str  # of the target: T1w, T2w, FLAIR
    mask: NDArray[np.bool_]
    lesions: NDArray[np.bool_] | None

    @property
    def inner(self) -> NDArray[np.bool_]:
        """The mask without scalp and skull (or without the rim of a stripped brain)."""
        rim_mm = 14 if "native" in self.name else 2
        size = self.source.spacing_mm
        depth = ndimage.distance_transform_edt(self.mask, sampling=(size[0], size[1], 1e6))
        return np.asarray(depth > rim_mm)


def load(data: Path, name: str, cache: Path, direction: tuple[str, str] = T1_T2) -> Patient:
    """A patient with the target on the source's grid."""
    source = formats.read(data / name / f"{direction[0]}.nii.gz")
    head = foreground_mask(source.array)
    kept = cache / f"{name.replace('/', '_')}_{'_'.join(direction)}.npz"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        moving = formats.read(data / name / f"{direction[1]}.nii.gz")
        found = align(source, head, moving, 0.0, search="native" in name)
        np.savez(kept, target=np.maximum(found.volume.array, 0), covered=found.covered)
    stored = np.load(kept)
    path = data / name / "lesions.nii.gz"
    lesions = formats.read(path).array > 0.5 if path.exists() else None
    mask = head & stored["covered"]
    return Patient(name, source, stored["target"], direction[1], mask, lesions)


def thinned(patient: Patient, count: int) -> Patient:
    """The same patient with some slices only, spread over the head."""
    reached = np.flatnonzero(patient.mask.any((0, 1)))
    z = reached[np.linspace(0.12 * len(reached), 0.95 * len(reached) - 1, count).astype(int)]
    source = Volume(np.ascontiguousarray(patient.source.array[:, :, z]), patient.source.affine)
    lesions = None if patient.lesions is None else patient.lesions[:, :, z]
    return replace(
        patient,
        source=source,
        target=patient.target[:, :, z],
        mask=patient.mask[:, :, z],
        lesions=lesions,
    )


def scores(patient: Patient, image: Array) -> dict[str, float]:
    """What is measured of one synthetic scan."""
    mask, inner = patient.mask, patient.inner
    made = np.maximum(image, 0) / image[mask].mean() * mask
    true = patient.target / patient.target[mask].mean() * mask
    peak = float(np.percentile(true[mask], 99.9))
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    error = float(np.mean((made - true)[box] ** 2))
    inside = float(np.mean((made - true)[mask] ** 2))
    similar = _ssim_map(made, true, peak)
    csf = [is_fluid(x, inner, patient.contrast) for x in (made, true)]
    both = (csf[0] & csf[1] & inner).sum()
    offset = stack_offset(_stack(made), _stack(patient.source.array * mask))
    result = {
        "psnr_db": 10 * math.log10(peak**2 / error),
        "ssim": float(similar[box].mean()),
        "psnr_head_db": 10 * math.log10(peak**2 / inside),
        "ssim_head": float(similar[mask].mean()),
        "psnr_inner_db": 10 * math.log10(peak**2 / float(np.mean((made - true)[inner] ** 2))),
        "csf_dice": float(2 * both / max(1, (csf[0] & inner).sum() + (csf[1] & inner).sum())),
        "offset_px": offset.magnitude,
        "fine_share": _fine_share(made, patient) / _fine_share(true, patient),
    }
    if patient.lesions is not None:
        result["lesion_contrast"] = _contrast(made, patient) / _contrast(true, patient)
    return result


def is_fluid(image: Array, inner: NDArray[np.bool_], contrast: str) -> NDArray[np.bool_]:
    """Fluid by its brightness, of the median over the brain: T2w above 1.8, the others below 0.6.

    FLAIR of a head without visible sulci and T1w differ little: 0.6 lies between fluid and grey
    matter in both.
    """
    median = np.median(image[inner])
    return np.asarray(image > 1.8 * median if contrast == "T2w" else image < 0.6 * median)


def _ssim_map(a: Array, b: Array, peak: float) -> Array:
    """SSIM of every voxel within its axial slice: 7×7 uniform window, sample covariance."""

    def mean(x: Array) -> Array:
        return ndimage.uniform_filter(x.astype(np.float64), (7, 7, 1))

    ma, mb = mean(a), mean(b)
    unbiased = 49 / 48
    va, vb = unbiased * (mean(a * a) - ma**2), unbiased * (mean(b * b) - mb**2)
    covariance = unbiased * (mean(a * b) - ma * mb)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    numerator = (2 * ma * mb + c1) * (2 * covariance + c2)
    return np.asarray(numerator / ((ma**2 + mb**2 + c1) * (va + vb + c2)))


def _stack(array: Array) -> Array:
    """Sixteen slices spread over a volume, (n, y, x)."""
    tissue = np.flatnonzero(array.any((0, 1)))
    chosen = tissue[np.linspace(0.15 * len(tissue), 0.85 * len(tissue) - 1, 16).astype(int)]
    return np.ascontiguousarray(array[:, :, chosen].transpose(2, 1, 0))


def _fine_share(image: Array, patient: Patient) -> float:
    """Share of a brain's variance that is finer than 1.5 mm (Gaussian)."""
    size = patient.source.spacing_mm
    smooth = ndimage.gaussian_filter(image, (1.5 / size[0], 1.5 / size[1], 0))
    inner = patient.inner
    return float(np.var((image - smooth)[inner]) / np.var(image[inner]))


def _contrast(image: Array, patient: Patient) -> float:
    """Lesions' mean over that of the tissue around them, less 1."""
    lesions = patient.lesions
    assert lesions is not None
    around = ndimage.binary_dilation(lesions, iterations=4) & patient.inner
    around &= ~ndimage.binary_dilation(lesions, iterations=1)
    if patient.contrast == "T2w":
        around &= patient.target < 1.6 * np.median(patient.target[patient.inner])
    else:
        around &= ~is_fluid(patient.target, patient.inner, patient.contrast)
    return float(image[lesions].mean() / image[around].mean() - 1)


def curve(patient: Patient) -> tuple[Array, Array]:
    """The monotone curve from source to target, each in multiples of its mean in the head."""
    levels = np.linspace(0, 1, 1001)
    ends = []
    for image in (patient.source.array, patient.target):
        inside = image[patient.mask]
        ends.append(np.quantile(inside / inside.mean(), levels))
    return ends[0], ends[1]


def picture(patient: Patient, made: Array, path: Path) -> None:
    """Source, synthetic, acquired and error of three slices."""
    from matplotlib.figure import Figure

    mask = patient.mask
    a, b, c = (
        x / x[mask].mean() * mask
        for x in (patient.source.array, np.maximum(made, 0), patient.target)
    )
    tissue = np.flatnonzero(mask.any((0, 1)))
    chosen = tissue[(np.array([0.38, 0.54, 0.7]) * len(tissue)).astype(int)]
    where = np.argwhere(mask.any(2))
    (x0, y0), (x1, y1) = where.min(0), where.max(0) + 1
    aspect = patient.source.spacing_mm[1] / patient.source.spacing_mm[0]
    figure = Figure(figsize=(9.6, 2.8 * len(chosen)), layout="constrained")
    for row, z in zip(figure.subplots(len(chosen), 4), chosen, strict=True):
        top = float(np.percentile(c[mask], 99.5))
        shown = ((a, np.percentile(a[mask], 99)), (b, top), (c, top), (np.abs(b - c), top / 2))
        for axes, (image, high) in zip(row, shown, strict=True):
            part = image[x0:x1, y0:y1, z].T[::-1]
            axes.imshow(part, cmap="gray", vmin=0, vmax=high, aspect=aspect)
            axes.axis("off")
    figure.savefig(path, dpi=60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("models", nargs="*", help="NAME=TRANSLATOR")
    parser.add_argument("--source", default="T1w", choices=("T1w", "T2w", "FLAIR"))
    parser.add_argument("--target", default="T2w", choices=("T1w", "T2w", "FLAIR"))
    parser.add_argument("--slices", type=int, help="judge so many only, spread over the head")
    parser.add_argument("--pictures", action="store_true")
    parser.add_argument("--patients", nargs="*", default=list(PATIENTS))
    arguments = parser.parse_args()
    cache, direction = arguments.out / "registered", (arguments.source, arguments.target)
    levels = curve(load(arguments.data, CURVE_FROM, cache, direction))
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name in arguments.patients:
        if not all((arguments.data / name / f"{c}.nii.gz").exists() for c in direction):
            print(name, "has not both")
            continue
        patient = load(arguments.data, name, cache, direction)
        if arguments.slices:
            patient = thinned(patient, arguments.slices)
        source = patient.source.array
        mean = source[patient.mask].mean()
        made = {"copy": source}
        made["histogram"] = np.interp(source / mean, *levels).astype(np.float32)
        for model in arguments.models:
            key, _, path = model.partition("=")
            made[key] = translate_volume(load_translator(path), patient.source).volume.array
            if arguments.pictures:
                picture(patient, made[key], arguments.out / f"{key}_{Path(name).name}.png")
        results[name] = {key: scores(patient, image) for key, image in made.items()}
        for key, values in results[name].items():
            print(name, f"{key:10}", *(f"{k} {v:.3f}" for k, v in values.items()), flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "brain.json").write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
