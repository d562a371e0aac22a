"""`syndiff run`: scans → report in one command, within the minutes that are given.

    OUT/run.json      what was asked for, and what was decided
    OUT/data          prepared slices
    OUT/run           the training and its translators
    OUT/report        report.html and its figures

Everything that nobody said is decided here, stated, and kept in run.json, so that the same command
continues after an interruption: the split (by person), the size of the slices, the batch, the
preset and the number of steps.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from syndiff.errors import OptionError
from syndiff.io.atomic import write_json
from syndiff.io.resumed import same_options
from syndiff.preparation.manifest import Manifest, read_manifest
from syndiff.workflow.stages import (
    Teller,
    evaluate_stage,
    prepare_stage,
    train_stage,
)

MINUTES = 12.0  # of the whole walk, unless others are given
SIZES = (256, 192, 128, 96, 64)
STEPS = 1500  # that a training should have: an outline is learned by then (docs/experiments.md)
FOR_TRAINING = 0.6  # of the minutes, when the size of the slices is chosen
FOR_REPORT = 0.15  # of the minutes, kept for evaluation
LEAST_MINUTES = 0.2  # of a training, however long preparation has taken
VALIDATIONS = 5


@dataclass(frozen=True)
class Recipe:
    """What nobody said.

    Attributes:
        preset: of the training settings.
        size: rows and columns of the slices.
        batch_size, accumulate: see `TrainSettings`.
        step_seconds: measured for such a step.
    """

    preset: str
    size: int
    batch_size: int
    accumulate: int
    step_seconds: float

    def in_words(self) -> str:
        parts = f" in {self.accumulate} parts" if self.accumulate > 1 else ""
        return (
            f"preset {self.preset}, slices of {self.size}×{self.size} pixels, batch "
            f"{self.batch_size}{parts}: a step takes {self.step_seconds:.2g} s here"
        )


def run(
    raw: Path,
    out: Path,
    *,
    source: str,
    target: str,
    minutes: float = MINUTES,
    size: int | None = None,
    preset: str | None = None,
    seed: int = 0,
    device: str = "auto",
    teller: Teller | None = None,
) -> dict[str, Any]:
    """Prepare, train, evaluate, report; what is done already is not done again.

    Args:
        raw: folder of scans, see `prepare`.
        out: folder for everything; the same call continues what is in it.
        source, target: modalities.
        minutes: for all of it. Preparation takes what it needs; training gets what is left.
        size: rows and columns of the slices; chosen by the minutes unless given.
        preset: of the training; `default` on a GPU, `small` on a CPU unless given.
        seed: of everything.
        device: "auto", "cpu", "cuda".
        teller: told what is decided and how far the work is.

    Returns:
        The content of `metrics.json`; empty where there are no test people to compare with.

    Raises:
        UserError: the scans or an option cannot be used, or OUT holds something else.
        KeyboardInterrupt: somebody stopped it; the same call continues.
    """
    raw, out, teller = Path(raw), Path(out), teller or Teller()
    if source == target:
        raise OptionError(f"source {source} and target {target}", "two modalities")
    options = {
        "raw": str(raw), "source": source, "target": target, "minutes": minutes, "size": size,
        "preset": preset, "seed": seed, "device": device,
    }  # fmt: skip
    _check_scans(raw, (source, target))
    record = same_options(out / "run.json", options, "a run")
    recipe = _recipe(record, out, minutes, device, teller)
    manifest = prepare_stage(
        teller, raw, out / "data", modalities=(source, target), size=recipe.size
    )
    model = _trained(record, out, recipe, manifest, teller)
    if not manifest.paired_subjects("test", source, target):
        teller.say(f"  no test person has {source} and {target}: there is nobody to report on")
        teller.say(f"translator: {model}")
        return {}
    results = evaluate_stage(
        teller, out / "data", out / "report", models={"mine": model}, seed=seed, device=device
    )
    _end(results, out, model, teller)
    return results


def _check_scans(raw: Path, modalities: tuple[str, str]) -> None:
    """Refuse a folder without such scans before anything slow is loaded."""
    from syndiff.preparation.discover import Choice
    from syndiff.preparation.official_mat import is_official
    from syndiff.preparation.scans import Request, found_and_split

    if is_official(raw):
        raise OptionError(f"{raw} holds the official code's .mat files", "a folder of scans",
                          "such files are prepared by hand")  # fmt: skip
    found_and_split(raw, modalities, Request(None, None, None, Choice(), False))


def _recipe(
    record: dict[str, Any], out: Path, minutes: float, device: str, teller: Teller
) -> Recipe:
    """What was decided, or is decided now."""
    if "recipe" in record:
        recipe = Recipe(**record["recipe"])
    else:
        teller.stage("timing a few steps, to choose what fits the minutes and the memory")
        with teller.listen("timing steps"):
            recipe = choose_recipe(
                minutes, size=record["size"], preset=record["preset"], device=device
            )
        record["recipe"] = asdict(recipe)
        write_json(out / "run.json", record)
    teller.say(f"  {recipe.in_words()}")
    return recipe


def choose_recipe(
    minutes: float, *, size: int | None = None, preset: str | None = None, device: str = "auto"
) -> Recipe:
    """The largest slices that leave time for enough steps, and a batch that fits into memory.

    Args:
        minutes: of the whole walk.
        size, preset: if somebody said them.
        device: to train on.

    Raises:
        OptionError: not even the smallest fits into memory.
    """
    from syndiff.inference import choose_device
    from syndiff.training.need import fitting_batch, memory_need, room_bytes
    from syndiff.training.pace import SMALLEST, measure_pace
    from syndiff.training.presets import choose

    place = choose_device(device)
    preset = preset or ("default" if place.type == "cuda" else "small")
    settings = choose(preset)
    seconds = min(20.0, max(2.0, 1.5 * minutes))
    pace = measure_pace(settings, size or SMALLEST, seconds=seconds, device=place)
    time_s, batch = 60 * FOR_TRAINING * minutes, settings.batch_size
    chosen = size or next(
        (s for s in SIZES if STEPS * pace.step_seconds(batch, s) <= time_s), SIZES[-1]
    )
    need = memory_need(settings, (chosen, chosen))
    fitting = fitting_batch(settings, need, room_bytes(place))
    return Recipe(
        preset, chosen, batch, fitting.accumulate, round(pace.step_seconds(batch, chosen), 3)
    )


def _trained(
    record: dict[str, Any], out: Path, recipe: Recipe, manifest: Manifest, teller: Teller
) -> Path:
    """The translator from source to target; trained now unless that is done."""
    source, target = record["source"], record["target"]
    model = out / "run" / "translators" / f"{source}_to_{target}"
    if record.get("trained"):
        teller.stage("training: done before")
        return model
    if "training_minutes" not in record:
        left = record["minutes"] * (1 - FOR_REPORT) - teller.seconds / 60
        record["training_minutes"] = round(max(LEAST_MINUTES, left), 2)
        if left < LEAST_MINUTES:
            teller.say(
                f"  warning: preparation has taken {teller.seconds / 60:.1f} of "
                f"{record['minutes']:g} minutes; what is trained now can only show that every "
                "part works"
            )
        record["steps"] = _steps(record["training_minutes"], recipe, manifest, (source, target))
        write_json(out / "run.json", record)
    steps, done = record["steps"], _minutes_done(out / "run")
    train_stage(
        teller,
        out / "data",
        out / "run",
        source=source,
        target=target,
        preset=recipe.preset,
        minutes=max(LEAST_MINUTES, record["training_minutes"] - done),
        changes={
            "batch_size": recipe.batch_size,
            "accumulate": recipe.accumulate if recipe.accumulate > 1 else None,
            "validate_every": max(1, steps // VALIDATIONS),
            "seed": record["seed"],
        },
        devices=record["device"],
    )
    record["trained"] = True
    write_json(out / "run.json", record)
    return model


def _steps(minutes: float, recipe: Recipe, manifest: Manifest, modalities: tuple[str, str]) -> int:
    """Steps that fit into the minutes; not more than the preset asks for."""
    from syndiff.training.pace import epoch_steps
    from syndiff.training.presets import choose

    settings = choose(recipe.preset)
    most = settings.epochs * epoch_steps(manifest, modalities, settings)
    return max(1, min(most, int(60 * minutes / max(recipe.step_seconds, 1e-3))))


def _minutes_done(run: Path) -> float:
    """Minutes of training up to the last validation of an interrupted run."""
    from syndiff.training.history import read

    rows = read(run)
    return float(rows[-1]["minutes"]) if rows else 0.0


def _end(results: dict[str, Any], out: Path, model: Path, teller: Teller) -> None:
    mine = results["models"]["mine"]
    teller.stage("done")
    if verdict := mine.get("verdict", {}).get("sentence"):
        teller.say(verdict)
    steps = mine["config"]["training"]["steps"]
    if steps < STEPS:
        teller.say(
            f"warning: trained for {steps} steps only; outlines take about {STEPS:,}: give it "
            "more minutes"
        )
    for message in results["warnings"]:
        teller.say(f"warning: {message}")
    teller.say(f"translator: {model} (synthetic images are not for diagnosis)")
    teller.say(f"report: {out / 'report' / 'report.html'}")


def a_scan(raw: Path, out: Path, source: str) -> Path:
    """A scan that the finished run can be tried on: of a test person, if there is one."""
    manifest = read_manifest(out / "data")
    scans = manifest.scans("test", source) or manifest.scans("train", source)
    return raw / scans[0].record["file"]
