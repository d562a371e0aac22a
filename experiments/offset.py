"""How exactly is a planted shift found between two contrasts of one head, without a reference?

    python experiments/offset.py                      virtual subjects: the truth is exact
    python experiments/offset.py --templates FOLDER   averaged heads; see `templates`

The second contrast is moved by a known shift, as it is and also made like a network's output
(blurred by a Gaussian of 1 px, 2 % noise), and its offset to the first is estimated by all slices
at once (what `syndiff` reports), by the median over single slices, and by each slice alone.
Prints a table of errors in pixels, and what acquired pairs agree in when nothing is shifted.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from syndiff.anatomy.agreement import dice, foreground
from syndiff.anatomy.check import spread
from syndiff.anatomy.offset import median_vector, offsets_between, stack_offset
from syndiff.io import formats
from syndiff.phantom import make_subject
from syndiff.preparation.intensity import (
    HU_WINDOW,
    IntensityScale,
    foreground_mask,
    window_scale,
)

SHIFTS = ((0, 0), (0.5, -0.3), (0, 1.25), (-2.5, 1.3), (-5, 0), (4.75, -4.4))  # px along y, x
BLUR_PX, NOISE = 1.0, 0.02  # of what is made like a network's output; noise of the brightest
SLICES = 16
TEMPLATES = {
    "T1": "avg152T1.nii.gz",
    "T2": "avg152T2.nii.gz",
    "PD": "avg152PD.nii.gz",
    "FLAIR": "flair.nii.gz",
    "CT": "head_ct_cormack.nii.gz",
}
Stack = NDArray[np.float64]


@dataclass(frozen=True)
class Errors:
    """Of one pair of contrasts: pixels, by all slices at once, by their median, by single ones."""

    at_once: list[float]
    median: list[float]
    single: list[float]


def virtual(index: int, spacing_mm: float, size: int) -> dict[str, Stack]:
    """16 slices (16, size, size) in [0, 1] of a virtual subject's scans."""
    subject = make_subject(index, ("T1", "T2", "FLAIR", "CT"), spacing_mm=spacing_mm)
    mask = foreground_mask(subject.scans["T1"])
    low, high = HU_WINDOW
    scans = {
        m: (a - low) / (high - low) if m == "CT" else a / np.percentile(a[mask], 99.9)
        for m, a in subject.scans.items()
    }
    return {m: slices(a, mask, size) for m, a in scans.items()}


def templates(folder: Path) -> dict[str, Stack]:
    """16 slices of averaged heads of five contrasts on one grid of 2 mm.

    They are averages of different people and do not lie on each other to a fraction of a pixel,
    so what is judged is by how much the estimate moves when one is shifted.
    """
    scans = {m: formats.read(folder / name).array for m, name in TEMPLATES.items()}
    mask = foreground_mask(scans["T1"])
    return {m: slices(a / np.percentile(a[mask], 99.9), mask, 128) for m, a in scans.items()}


def slices(array: NDArray[np.float32], mask: NDArray[np.bool_], size: int) -> Stack:
    """Evenly spread axial slices of the head without neck and crown, padded with air."""
    z = np.flatnonzero(mask.any(axis=(0, 1)))
    z = z[(z >= np.quantile(z, 0.15)) & (z <= np.quantile(z, 0.9))]
    stack = np.clip(array, 0, 1).transpose(2, 1, 0)[z[spread(len(z), SLICES)]]
    margins = [((size - n) // 2, (size - n + 1) // 2) for n in stack.shape[1:]]
    return np.pad(stack, [(0, 0), *margins]).astype(np.float64)


def shifted(stack: Stack, dy: float, dx: float) -> Stack:
    """The content moved by (dy, dx) pixels, exactly, by its Fourier series."""
    fy, fx = (np.fft.fftfreq(n) for n in stack.shape[1:])
    phase = np.exp(-2j * np.pi * (fy[:, None] * dy + fx * dx))
    return np.fft.ifft2(np.fft.fft2(stack) * phase).real


def like_synthetic(stack: Stack, rng: np.random.Generator) -> Stack:
    """Smoother and noisier than acquired."""
    blurred = gaussian_filter(stack, (0, BLUR_PX, BLUR_PX))
    return np.clip(blurred + NOISE * rng.standard_normal(stack.shape), 0, None)


def errors(image: Stack, source: Stack, synthetic: bool, own_offset: bool) -> Errors:
    """Of all shifts; with `own_offset`, of how the estimate differs from that without a shift."""
    found = Errors([], [], [])
    rest = estimates(image, source) if own_offset else None
    for dy, dx in SHIFTS:
        moved = shifted(image, dy, dx)
        if synthetic:
            moved = like_synthetic(moved, np.random.default_rng(0))
        now = estimates(moved, source)
        for to, values, before in zip(
            (found.at_once, found.median, found.single), now, rest or (0, 0, 0), strict=True
        ):
            to += np.hypot(*(values - before - (dy, dx)).T).tolist()
    return found


def estimates(image: Stack, source: Stack) -> tuple[Stack, Stack, Stack]:
    """(1, 2) by all slices at once, (1, 2) by their median, (n, 2) by each."""
    one = offsets_between(image, source)
    at_once = stack_offset(image, source)
    return (
        np.array([(at_once.dy, at_once.dx)]),
        np.array([median_vector(one)]),
        np.array([(o.dy, o.dx) for o in one]),
    )


def rows(subjects: list[dict[str, Stack]], own_offset: bool) -> Iterator[tuple[str, bool, Errors]]:
    """Pair, whether it was made like a network's output, and its errors over all subjects."""
    for (a, b), synthetic in itertools.product(
        itertools.permutations(subjects[0], 2), (False, True)
    ):
        every = [errors(s[b], s[a], synthetic, own_offset) for s in subjects]
        joined = Errors(
            *(
                [error for e in every for error in getattr(e, name)]
                for name in ("at_once", "median", "single")
            )
        )
        yield f"{a} → {b}", synthetic, joined


def table(title: str, subjects: list[dict[str, Stack]], own_offset: bool = False) -> None:
    """Print median / 95th percentile / greatest error; without the greatest for single slices."""
    print(f"\n{title}\n")
    print("| source → image | all slices at once | median of slices | one slice |")
    print("|---|---|---|---|")
    for pair, synthetic, found in rows(subjects, own_offset):
        cells = [" / ".join(f"{q:.2f}" for q in (*_middle(v), max(v))) for v in
                 (found.at_once, found.median)]  # fmt: skip
        cells.append(" / ".join(f"{q:.2f}" for q in _middle(found.single)))
        print(f"| {pair}{', blurred, noisy' * synthetic} | {' | '.join(cells)} |", flush=True)


def agreement(title: str, subjects: list[dict[str, Stack]], ct: IntensityScale) -> None:
    """Print, unshifted, the confidence of the offset and the Dice of the heads' outlines."""
    print(f"\n{title}, unshifted\n")
    print("| pair | confidence | Dice |")
    print("|---|---|---|")
    mr = IntensityScale("robust", "a.u.", 1.0, 1.0)
    for a, b in itertools.combinations(subjects[0], 2):
        found = [stack_offset(s[b], s[a]).confidence for s in subjects]
        masks = [
            [foreground(s[m].astype(np.float32), ct if m == "CT" else mr) for m in (a, b)]
            for s in subjects
        ]
        overlap = [dice(*pair) or 0.0 for pair in masks]
        cells = [", ".join(f"{v:.2f}" for v in values) for values in (found, overlap)]
        print(f"| {a}, {b} | {' | '.join(cells)} |", flush=True)


def _middle(values: list[float]) -> tuple[float, float]:
    """Median and 95th percentile of what is known."""
    return float(np.nanmedian(values)), float(np.nanpercentile(values, 95))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--templates", type=Path, metavar="FOLDER")
    folder = parser.parse_args().templates
    if folder is not None:
        heads = [templates(folder)]
        # The CT template's units are no HU: air is 0 there, as in MR.
        agreement("Templates", heads, IntensityScale("robust", "a.u.", 1.0, 1.0))
        table("Templates, 2 mm, 128 pixels", heads, own_offset=True)
        return
    coarse, fine = [virtual(i, 3.5, 64) for i in (1, 2)], [virtual(1, 2.0, 128)]
    for title, subjects in (
        ("Virtual subjects, 3.5 mm, 64 pixels", coarse),
        ("Virtual subject, 2 mm, 128 pixels", fine),
    ):
        agreement(title, subjects, window_scale())
        table(title, subjects)


if __name__ == "__main__":
    sys.exit(main())
