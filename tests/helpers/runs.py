"""Runs of a few steps with SynDiff's smallest networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from syndiff.training.presets import TrainSettings, preset
from syndiff.training.run import train
from tests.helpers.tiny import TINY

# As the official code trains, but for the size of the networks.
TINY_GITHUB = replace(preset("github"), objective=replace(TINY, structure=0.0))


def settings(**changes: object) -> TrainSettings:
    base = TrainSettings(
        objective=TINY, max_steps=4, batch_size=2, validate_every=2, generator_lr=1e-3
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def run_of(data: Path, folder: Path, **options: object) -> Path:
    chosen = options.pop("settings", settings())
    train(data, folder, source="T1", target="T2", settings=chosen, **options)  # type: ignore[arg-type]
    return folder
