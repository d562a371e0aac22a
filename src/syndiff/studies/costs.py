"""Seconds per cross-section and memory of a method, without data: Table V."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch

from syndiff.inference import TranslationOptions, choose_device, translate_slices
from syndiff.memory import freed_memory
from syndiff.objectives.methods import method_of
from syndiff.training.need import memory_need
from syndiff.training.pace import measure_pace
from syndiff.training.presets import TrainSettings
from syndiff.translators import Translator

SECONDS = 20.0  # of the timing of training steps
REPEATS = 5  # of the translation of a cross-section, unless one takes long
LONG_S = 10.0


def costs(
    settings: TrainSettings, size: int, *, tiny: bool = False, device: str = "auto"
) -> dict[str, float | None]:
    """Measure a method.

    Args:
        settings: of the training.
        size: rows and columns of a cross-section.
        tiny: one step and one translation.
        device: "auto", "cpu", "cuda".

    Returns:
        `training_s` and `inference_s`, seconds per cross-section, the latter with the whole
        chain of a diffusion; `memory_gb` in 10^9 bytes: on a GPU the most that a training step
        held, elsewhere counted from the sizes of its tensors; None where neither is possible.
    """
    place = choose_device(device)
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place)
    pace = measure_pace(settings, size, seconds=0.01 if tiny else SECONDS, device=place)
    return {
        "training_s": pace.step_seconds(1, size),
        "inference_s": _translation_s(settings, size, place, 1 if tiny else REPEATS),
        "memory_gb": _memory_gb(settings, size, place),
    }


def _memory_gb(settings: TrainSettings, size: int, place: torch.device) -> float | None:
    if place.type == "cuda":
        return float(torch.cuda.max_memory_allocated(place)) / 1e9
    need = memory_need(settings, (size, size))
    return None if need is None else need.bytes(1) / 1e9


def _translation_s(settings: TrainSettings, size: int, place: torch.device, repeats: int) -> float:
    """The median second of the translation of one cross-section, the first one not counted."""
    translator = _untrained(settings, size)
    image = np.random.default_rng(0).random((1, size, size), np.float32)
    options = TranslationOptions(device=str(place), batch_size=1)
    taken: list[float] = []
    for _ in range(1 + repeats):
        begun = time.monotonic()
        with freed_memory(kept=True):
            translate_slices(translator, image, options)
        taken.append(time.monotonic() - begun)
        if taken[-1] > LONG_S:
            break
    return statistics.median(taken[1:] or taken)


def _untrained(settings: TrainSettings, size: int) -> Translator:
    """A translator with new weights, which take as long as trained ones."""
    scale: dict[str, Any] = {
        "rule": "robust",
        "unit": "a.u.",
        "scale": 2.0,
        "training_mean": 300.0,
    }
    card = {
        "sources": ["source"],
        "target": "target",
        "spacing_mm": 1.0,
        "size": [size, size],
        "intensity": {"source": scale, "target": scale},
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        objective = method_of(settings.objective).build(settings.objective)
    made = objective.translator(objective.generators, "target", card)
    return made.eval().requires_grad_(False)
