"""The stages from scans to a report; each announces itself with the command that repeats it.

`demo` and `run` are made of them. A stage that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syndiff.preparation.manifest import Manifest
from syndiff.reporting import SILENT, Reporter

Listen = Callable[[str], AbstractContextManager[Reporter]]


def nobody(what: str) -> AbstractContextManager[Reporter]:
    """Where no one follows the progress."""
    return nullcontext(SILENT)


@dataclass(frozen=True)
class Teller:
    """What the person who waits is told.

    Attributes:
        say: told each line.
        listen: a stage's name → who follows its progress.
        started: seconds of the monotonic clock.
    """

    say: Callable[[str], None] = print
    listen: Listen = nobody
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started

    def stage(self, text: str, command: list[str] | None = None) -> None:
        """Announce a stage, and the command that does the same by itself."""
        self.say(f"[{self.seconds:4.0f} s] {text}")
        if command:
            self.say(f"  by itself: {shlex.join(command)}")


def options_of(values: dict[str, Any]) -> list[str]:
    """Options of a command line: {"max_steps": 3, "register": False} → --max-steps 3 …"""
    words: list[str] = []
    for name, value in values.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", f"{value:g}" if isinstance(value, float) else str(value)]
    return words


def prepare_stage(
    teller: Teller,
    raw: Path,
    data: Path,
    *,
    modalities: tuple[str, str],
    size: int,
    spacing_mm: float | None = None,
    split: dict[str, int] | None = None,
) -> Manifest:
    """Scans → slices. Training subjects are not registered: unpaired training has no use for it.

    Raises:
        UserError: see `prepare`.
    """
    shown: dict[str, Any] = {"modalities": ",".join(modalities), "size": size}
    if split:
        shown["split"] = ",".join(f"{name}={count}" for name, count in split.items())
    if spacing_mm:
        shown["spacing_mm"] = spacing_mm
    shown["register_training"] = False
    teller.stage(
        "preparing: reading, registering, normalising, slicing",
        ["syndiff", "prepare", f"{raw}", f"{data}", *options_of(shown)],
    )
    from syndiff.preparation.recipe import prepare
    from syndiff.preparation.summary import summary

    with teller.listen("preparing") as report:
        manifest = prepare(
            raw,
            data,
            modalities=modalities,
            split=split,
            size=size,
            spacing_mm=spacing_mm,
            register_training=False,
            report=report,
        )
    for line in summary(manifest, data):
        teller.say(f"  {line}")
    return manifest


def train_stage(
    teller: Teller,
    data: Path,
    run: Path,
    *,
    source: str,
    target: str,
    preset: str,
    minutes: float,
    changes: dict[str, Any],
    devices: str = "auto",
) -> None:
    """Slices → both translators; goes on where an interrupted training stopped.

    Args:
        teller: told.
        data, run: folders.
        source, target: modalities.
        preset: of the settings.
        minutes: for training, validation and export. Decay and phases end with them, where the run
            is one process.
        changes: of the settings; None leaves a value as the preset has it.
        devices: see `syndiff.training.run.train`.

    Raises:
        UserError: see `train`.
        KeyboardInterrupt: somebody stopped it; what was reached is saved.
    """
    known = {name: value for name, value in changes.items() if value is not None}
    begun = (run / "settings.json").exists()
    shown = {"source": source, "target": target, "preset": preset, **known}
    words = ["--resume"] if begun else options_of(shown)
    from syndiff.training.processes import is_alone

    if not begun and is_alone(devices, 0):
        words.append("--decay-with-minutes")
        known["decay_minutes"] = minutes
    teller.stage(
        f"training for at most {minutes:.1f} minutes{', continued' if begun else ''}",
        ["syndiff", "train", f"{data}", f"{run}", *words, "--max-minutes", f"{minutes:.1f}"],
    )
    from syndiff.training.presets import choose
    from syndiff.training.run import train

    with teller.listen("training") as report:
        outcome = train(
            data,
            run,
            source=source,
            target=target,
            settings=None if begun else choose(preset, **known),
            preset=preset,
            max_minutes=minutes,
            devices=devices,
            resume=begun,
            report=report,
        )
    if outcome.interrupted:
        raise KeyboardInterrupt
    teller.say(f"  {outcome.step} steps{f': {outcome.reason}' if outcome.reason else ''}")


def evaluate_stage(
    teller: Teller,
    data: Path,
    out: Path,
    *,
    models: dict[str, Path],
    seed: int,
    profile: str | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Translators → report, on the test subjects.

    Raises:
        UserError: see `evaluate`.
    """
    named = [word for name, path in models.items() for word in ("--model", f"{name}={path}")]
    more = {"seed": seed} | ({"profile": profile} if profile else {})
    teller.stage(
        "evaluating on the test subjects",
        ["syndiff", "evaluate", f"{data}", f"{out}", *named, *options_of(more)],
    )
    from syndiff.evaluation.candidates import How
    from syndiff.evaluation.evaluate import evaluate
    from syndiff.evaluation.report import scores_in_words

    with teller.listen("evaluating") as report:
        results = evaluate(
            data,
            out,
            models=models,
            profile=profile,
            how=How(seed=seed, device=device),
            report=report,
        )
    for name, values in results["models"].items():
        teller.say(f"  {name:10} {scores_in_words(values['person_means'])}")
    return results
