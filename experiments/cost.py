"""What a translation costs against slices, pixels and samples, and whether that is a line.

    python -m experiments.cost OUT [MODEL]

OUT gets cost.json and cost.png; MODEL is a translator folder, or "demo" (default). Each point is
the fastest of three calls of `translate_slices` on noise, on the CPU.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from syndiff.inference import TranslationOptions, translate_slices
from syndiff.memory import keep_freed
from syndiff.translators import Translator, load_translator
from syndiff.translators.sampling import Sampling

BATCH, SIZE, SLICES = 8, 64, 32
AXES: dict[str, list[dict[str, int]]] = {
    "slices": [{"slices": n} for n in (8, 16, 32, 64, 128)],
    "pixels": [{"size": n} for n in (32, 64, 96, 128)],
    "samples": [{"samples": n, "slices": 8} for n in (1, 2, 4, 8)],
    "batch": [{"batch": n} for n in (1, 2, 4, 8, 16)],
}


def seconds(translator: Translator, slices: int, size: int, samples: int, batch: int) -> float:
    """Of the fastest of three calls."""
    images = np.random.default_rng(0).random((slices, size, size), np.float32)
    way = Sampling("expectation", samples) if samples > 1 else Sampling()
    taken = []
    for _ in range(3):
        begun = time.perf_counter()
        translate_slices(
            translator, images, TranslationOptions(device="cpu", batch_size=batch, sampling=way)
        )
        taken.append(time.perf_counter() - begun)
    return min(taken)


def line(x: list[float], y: list[float]) -> tuple[float, float, float]:
    """Slope and intercept of the line of least squares, and its share of the variance."""
    slope, intercept = np.polyfit(x, y, 1)
    rest = np.var(np.subtract(y, np.polyval([slope, intercept], x)))
    return float(slope), float(intercept), float(1 - rest / np.var(y))


def main() -> None:
    out, model = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "demo"
    out.mkdir(parents=True, exist_ok=True)
    keep_freed()
    translator = load_translator(model)
    usual = {"slices": SLICES, "size": SIZE, "samples": 1, "batch": BATCH}
    found: dict[str, Any] = {}
    for axis, points in AXES.items():
        y = [seconds(translator, **usual | point) for point in points]
        x = [float(next(iter(p.values()))) ** (2 if axis == "pixels" else 1) for p in points]
        found[axis] = {"x": x, "seconds": y}
        if axis != "batch":  # which should not matter
            found[axis] |= dict(zip(("slope", "intercept", "r2"), line(x, y), strict=True))
        print(axis, found[axis], flush=True)
    (out / "cost.json").write_text(json.dumps(found, indent=1))
    _draw(found, out / "cost.png")


def _draw(found: dict[str, Any], path: Path) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        1, len(found), figsize=(3.5 * len(found), 3), layout="constrained"
    )
    for panel, (axis, values) in zip(panels, found.items(), strict=True):
        panel.plot(values["x"], values["seconds"], "o")
        if "slope" in values:
            x = np.array([0, max(values["x"])])
            panel.plot(x, values["slope"] * x + values["intercept"], "-", lw=0.8)
        panel.set(xlabel=axis, ylabel="s", ylim=(0, None), xlim=(0, None))
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
