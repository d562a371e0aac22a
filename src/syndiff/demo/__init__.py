"""The demonstration behind `make demo`: from nothing to a report, on virtual subjects.

    OUT/raw          virtual cohort
    OUT/data         prepared slices
    OUT/run          a short training
    OUT/report.html  the shipped and the newly trained translator compared with the baselines

The shipped translator (`T1_to_T2/` in this folder) was trained for longer on other virtual
subjects: docs/experiments.md says how.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from syndiff.io.resumed import same_options
from syndiff.workflow.stages import (
    Listen,
    Teller,
    evaluate_stage,
    nobody,
    prepare_stage,
    train_stage,
)

SIZE, SPACING_MM = 64, 3.5
SOURCE, TARGET = "T1", "T2"


def run(
    out: Path,
    *,
    minutes: float = 4.0,
    subjects: int = 12,
    seed: int = 0,
    say: Callable[[str], None] = print,
    listen: Listen = nobody,
) -> dict[str, Any]:
    """Make a cohort, prepare, train, translate, evaluate; finished parts are not redone.

    Args:
        out: folder for everything.
        minutes: of training.
        subjects: virtual subjects; a sixth each are kept for validation and test, at least one.
        seed: of cohort and training.
        say: told each part as it starts.
        listen: who follows the progress of a part, see `Teller`.

    Returns:
        The content of `metrics.json`.

    Raises:
        OptionError: the folder holds something else.
    """
    out, teller = Path(out), Teller(say, listen)
    options = {"minutes": minutes, "subjects": subjects, "seed": seed}
    same_options(out / "demo.json", options, "a demonstration")
    held_out = max(1, subjects // 6)
    split = {"train": subjects - 2 * held_out, "val": held_out, "test": held_out}
    teller.stage(f"making {subjects} virtual subjects")
    from syndiff.phantom import write_cohort

    write_cohort(out / "raw", subjects=subjects, modalities=(SOURCE, TARGET), seed=seed)
    prepare_stage(
        teller,
        out / "raw",
        out / "data",
        modalities=(SOURCE, TARGET),
        split=split,
        size=SIZE,
        spacing_mm=SPACING_MM,
    )
    trained = out / "run" / "translators" / f"{SOURCE}_to_{TARGET}"
    if not trained.exists():
        train_stage(
            teller,
            out / "data",
            out / "run",
            source=SOURCE,
            target=TARGET,
            preset="small",
            minutes=minutes,
            changes={"validate_every": 100, "seed": seed},
        )
    _translate(out, f"sub-{subjects:03d}", teller)
    from syndiff.translators import SHIPPED

    models = {"shipped": SHIPPED["demo"], "trained": trained}
    results = evaluate_stage(teller, out / "data", out, models=models, seed=seed, profile="paper")
    teller.stage("done")
    say(f"report: {out / 'report.html'}")
    return results


def _translate(out: Path, subject: str, teller: Teller) -> None:
    """Translate a subject that no training saw, with the shipped translator."""
    scan = out / "raw" / subject / "anat" / f"{subject}_{SOURCE}w.nii.gz"
    result = out / f"{subject}_{TARGET}w_synthetic.nii.gz"
    teller.stage(
        f"translating {scan.name}, a subject that no training saw",
        ["syndiff", "translate", "demo", f"{scan}", f"{result}"],
    )
    from syndiff.inference import translate_file
    from syndiff.translators import SHIPPED

    for warning in translate_file(SHIPPED["demo"], scan, result).warnings:
        teller.say(f"  warning: {warning}")
