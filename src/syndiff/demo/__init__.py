"""The demonstration behind `make demo`: from nothing to a report, on virtual subjects.

    OUT/raw          virtual cohort
    OUT/data         prepared slices
    OUT/run          a short training
    OUT/report.html  the shipped and the newly trained translator compared with the baselines

The shipped translator (`T1_to_T2/` in this folder) was trained for longer on other virtual
subjects: docs/experiments.md says how.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from syndiff.errors import OptionError
from syndiff.io.atomic import read_json, write_json

SIZE, SPACING_MM = 64, 3.5
SOURCE, TARGET = "T1", "T2"


def run(
    out: Path,
    *,
    minutes: float = 4.0,
    subjects: int = 12,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Make a cohort, prepare, train, translate and evaluate. Finished parts are not repeated.

    Args:
        out: folder for all output.
        minutes: duration of training.
        subjects: number of virtual subjects; a sixth each, at least one, are for validation and
            for the test.
        seed: seed of cohort and training.
        say: receives a line as each part starts.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: the folder holds another demonstration or cannot be written to.
    """
    out = Path(out)
    options = {"minutes": minutes, "subjects": subjects, "seed": seed}
    _same_options(out / "demo.json", options)
    started = time.monotonic()

    def part(text: str) -> None:
        say(f"[{time.monotonic() - started:4.0f} s] {text}")

    held_out = max(1, subjects // 6)
    split = {"train": subjects - 2 * held_out, "val": held_out, "test": held_out}
    part(f"making {subjects} virtual subjects")
    from syndiff.phantom import write_cohort

    write_cohort(out / "raw", subjects=subjects, modalities=(SOURCE, TARGET), seed=seed)

    part("preparing: registering, normalising, slicing")
    from syndiff.preparation.recipe import prepare

    prepare(
        out / "raw",
        out / "data",
        modalities=(SOURCE, TARGET),
        split=split,
        size=SIZE,
        spacing_mm=SPACING_MM,
        register_training=False,  # unpaired training does not need it
        report=_Lines(say),
    )
    trained = out / "run" / "translators" / f"{SOURCE}_to_{TARGET}"
    if not trained.exists():
        part(f"training for {minutes:g} minutes on this machine")
        _train(out, minutes, seed, say)

    scan = out / "raw" / f"sub-{subjects:03d}" / "anat" / f"sub-{subjects:03d}_{SOURCE}w.nii.gz"
    result = out / f"sub-{subjects:03d}_{TARGET}w_synthetic.nii.gz"
    part(f"translating {scan.name}, a subject that no training saw")
    from syndiff.inference import translate_file
    from syndiff.translators import SHIPPED

    made = translate_file(SHIPPED["demo"], scan, result)
    for warning in made.warnings:
        say(f"  warning: {warning}")

    part("evaluating on the test subjects")
    from syndiff.evaluation.candidates import How
    from syndiff.evaluation.evaluate import evaluate
    from syndiff.evaluation.report import scores_in_words

    models = {"shipped": SHIPPED["demo"], "trained": trained}
    results = evaluate(out / "data", out, models=models, profile="paper", how=How(seed=seed))
    for name, values in results["models"].items():
        say(f"  {name:10} {scores_in_words(values['slice_means'])}")
    part("done")
    say(f"report: {out / 'report.html'}")
    return results


def _train(out: Path, minutes: float, seed: int, say: Callable[[str], None]) -> None:
    """Train the preset `small` for some minutes, or resume an interrupted demonstration."""
    from syndiff.training.presets import choose
    from syndiff.training.run import train

    outcome = train(
        out / "data",
        out / "run",
        source=SOURCE,
        target=TARGET,
        settings=choose("small", validate_every=100, seed=seed),
        preset="small",
        max_minutes=minutes,
        resume=(out / "run" / "settings.json").exists(),
        report=_Lines(say),
    )
    if outcome.interrupted:
        raise KeyboardInterrupt


class _Lines:
    """A reporter that prints training progress every twenty seconds."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.last = say, time.monotonic()

    def phase(self, name: str) -> None:
        pass

    def progress(self, done: int, total: int, detail: str = "") -> None:
        if time.monotonic() - self.last >= 20:
            self.last = time.monotonic()
            self.say(f"  step {done}  {detail}")

    def warn(self, message: str) -> None:
        self.say(message)


def _same_options(path: Path, options: dict[str, Any]) -> None:
    """Make sure that a demonstration is continued with the options it was started with.

    Raises:
        OptionError: the options differ, or the folder holds something else.
    """
    if path.exists():
        before = read_json(path, "demo record")
        if before != options:
            raise OptionError(
                f"{path.parent} holds a demonstration with {before}",
                f"{options}",
                "choose another folder or delete it",
            )
    elif path.parent.exists() and any(path.parent.iterdir()):
        raise OptionError(f"{path.parent} is not empty", "a new folder")
    write_json(path, options)
