"""Which checkpoint of a run is the best: each direction is judged by itself.

With pairs by PSNR and SSIM. Without pairs by what needs none: the way back, the offset to the
source, and how far the distribution of values is from that of acquired slices. A copy of the
source would be perfect in the first two, any image of the right brightness in the third.

    checkpoints/best_T1_to_T2.pt   the averaged generators at the best validation of T1 → T2
    checkpoints/step-000400.pt     those of every validation, with `keep_checkpoints`
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

OFFSET_WEIGHT = 0.2  # an offset of a pixel counts as a fifth of the mean value
LEVELS = 101  # quantiles that two distributions are compared at
PAIRED, UNPAIRED = "PSNR and SSIM", "way back, offset and distribution of values"


@dataclass(frozen=True)
class Best:
    """The best validation of one direction so far.

    Attributes:
        step: of the run.
        score: the higher the better; comparable only with the same `by`.
        by: what it is made of.
    """

    step: int
    score: float
    by: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def file_of(direction: str) -> str:
    """The checkpoint of a direction's best validation, within the run."""
    return f"checkpoints/best_{direction}.pt"


def file_of_step(step: int) -> str:
    """The checkpoint of a step, within the run."""
    return f"checkpoints/step-{step:06d}.pt"


def judged(scores: Mapping[str, float]) -> tuple[float, str] | None:
    """How good a direction's validation is, the higher the better, and by what.

    With pairs the mean of PSNR and -10 log10(1 - SSIM), both in dB. Without, minus the sum of the
    errors, all relative to the mean value; an offset that cannot be found disqualifies.

    Args:
        scores: of `validation.validate`, by name.

    Returns:
        None where nothing can be said.
    """
    psnr, ssim = scores.get("psnr_db", math.nan), scores.get("ssim", math.nan)
    if math.isfinite(psnr) and math.isfinite(ssim):
        return (psnr - 10 * math.log10(max(1 - ssim, 1e-6))) / 2, PAIRED
    if "distribution_error" not in scores:
        return None
    errors = [
        scores.get("way_back_error", 0.0),  # with several sources there is no way back
        OFFSET_WEIGHT * scores.get("source_offset_px", math.nan),
        scores["distribution_error"],
    ]
    return (-sum(errors), UNPAIRED) if all(map(math.isfinite, errors)) else None


def better(scores: Mapping[str, float], step: int, best: Best | None) -> Best | None:
    """This validation as the best of its direction; None if it is not."""
    found = judged(scores)
    if found is None or (best is not None and best.by == found[1] and found[0] <= best.score):
        return None
    return Best(step, *found)


def distribution_error(made: NDArray[np.float32], acquired: NDArray[np.float32]) -> float:
    """Mean difference of the quantiles of two sets of slices, relative to the acquired mean.

    The Wasserstein distance of the two distributions of values; the slices need not be paired.
    """
    at = np.linspace(0, 1, LEVELS)
    distance = np.abs(np.quantile(made, at) - np.quantile(acquired, at)).mean()
    mean = float(acquired.mean())
    return float(distance) / mean if mean > 0 else math.nan


def known_best(
    state: Mapping[str, Any] | None, rows: Sequence[Mapping[str, str]]
) -> dict[str, Best]:
    """The best validation of each direction that a checkpoint knows of.

    A run of an earlier version kept one for both directions; its scores are in its history.

    Args:
        state: of `last.pt`; None for a new run.
        rows: lines of `history.csv`.
    """
    if not state:
        return {}
    if "best" in state:
        return {name: Best(**values) for name, values in state["best"].items()}
    found: dict[str, Best] = {}
    for row in rows:
        if int(row["step"]) != int(state.get("best_step", 0)):
            continue
        for direction in {name.partition("/")[0] for name in row if "/" in name}:
            scores = {
                key: float(row.get(f"{direction}/{key}") or math.nan)
                for key in ("psnr_db", "ssim")
            }
            if best := better(scores, int(row["step"]), None):
                found[direction] = best
    return found


def kept(run: Path, direction: str) -> Path | None:
    """The checkpoint that a direction is exported from, if a best one was kept."""
    for name in (file_of(direction), "checkpoints/best.pt"):  # the latter of earlier versions
        if (run / name).is_file():
            return run / name
    return None
