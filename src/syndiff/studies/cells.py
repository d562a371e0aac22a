"""One cell of a study: trained, translated, scored; or measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from syndiff import __version__
from syndiff.errors import UserError, one_line
from syndiff.io.atomic import write_json
from syndiff.studies.definitions import Column, Row, tiny_networks
from syndiff.studies.plan import Options

RESULT = "cell.json"
VALIDATIONS = 5  # of a training of so many steps
LEAST_MINUTES = 0.05  # of a training that goes on after its minutes are over, to export
LONG = 10**8  # steps, which minutes end


@dataclass(frozen=True)
class Cell:
    """A row and a column with a seed.

    Attributes:
        kind: of the study.
        row, column, seed: which cell.
        options: how.
        folder: of its run and its result.
        data: prepared data; None of a study of costs.
    """

    kind: str
    row: Row
    column: Column
    seed: int
    options: Options
    folder: Path
    data: Path | None = None

    @property
    def title(self) -> str:
        task = f", {self.column.title}" if self.column.target else ""
        return f"{self.row.name}{task}, seed {self.seed}"


def run_cell(cell: Cell) -> str:
    """Compute a cell and write its result; an interrupted training goes on.

    Returns:
        Why there is no result, in one line; empty if there is one.

    Raises:
        KeyboardInterrupt: somebody stopped the training, which was saved.
    """
    begun = time.monotonic()
    try:
        values = KINDS[cell.kind](cell)
    except UserError as error:
        return one_line(str(error))
    content = {
        "row": cell.row.name,
        "column": cell.column.name,
        "seed": cell.seed,
        "method": cell.row.method,
        "set": dict(cell.row.set),
        "options": cell.options.record(),
        "syndiff_version": __version__,
        "seconds": round(time.monotonic() - begun, 2),
        **values,
    }
    write_json(cell.folder / RESULT, content)
    return ""


def settings_of(cell: Cell, steps_per_epoch: int, *, pretraining: bool = False) -> Any:
    """The training settings of a cell.

    Args:
        cell: which.
        steps_per_epoch: of its data.
        pretraining: of the earlier run, in which the one-shot module is alone.
    """
    from syndiff.training.presets import choose

    row, options, budget = cell.row, cell.options, cell.options.budget
    changes: dict[str, Any] = tiny_networks(row.method) if options.tiny else {}
    for name, value in row.set.items():
        changes[name] = value
    if options.tiny and row.set.get("steps", 0) > 100:
        changes["steps"] = 8
    if pretraining:
        changes |= {"diffusive": False, "one_shot_epochs": -1.0}
    elif row.one_shot_share:
        changes["one_shot_epochs"] = row.one_shot_share * budget.steps / steps_per_epoch
    validate = max(1, budget.steps // VALIDATIONS) if budget.steps else None
    settings = choose(
        options.preset,
        method=row.method,
        max_steps=budget.steps or LONG,
        validate_every=budget.steps if options.tiny else validate,
        seed=cell.seed,
        **changes,
    )
    return replace(settings, decay_minutes=budget.minutes)


def _trained(cell: Cell) -> tuple[Path, dict[str, Any]]:
    """The translator's folder, and what the training took."""
    from syndiff.preparation.manifest import read_manifest
    from syndiff.training.pace import epoch_steps
    from syndiff.training.presets import preset

    assert cell.data is not None
    modalities = sorted(cell.column.modalities)
    batch = preset(cell.options.preset, cell.row.method)
    epoch = epoch_steps(read_manifest(cell.data), modalities, batch)
    earlier = None
    if cell.row.pretrain:
        earlier = cell.folder / "pretrained"
        _train(cell, earlier, settings_of(cell, epoch, pretraining=True))
    run = cell.folder / "run"
    outcome = _train(cell, run, settings_of(cell, epoch), earlier)
    name = cell.column.target
    if cell.column.source:
        name = f"{cell.column.source}_to_{name}"
    return run / "translators" / name, {
        "steps": outcome.step,
        "training_minutes": _minutes_done(run),
    }


def _train(cell: Cell, run: Path, settings: Any, earlier: Path | None = None) -> Any:
    """Train, or go on: what is finished is only exported again."""
    from syndiff.training.run import train

    assert cell.data is not None
    minutes, begun = cell.options.budget.minutes, (run / "settings.json").exists()
    left = max(LEAST_MINUTES, minutes - _minutes_done(run)) if minutes else None
    if begun:
        outcome = train(cell.data, run, max_minutes=left, devices=cell.options.device, resume=True)
    else:
        outcome = train(
            cell.data,
            run,
            source=cell.column.source or (),
            target=cell.column.target,
            settings=settings,
            one_shot=earlier,
            preset=cell.options.preset,
            max_minutes=left,
            devices=cell.options.device,
        )
    if outcome.interrupted:
        raise KeyboardInterrupt
    return outcome


def _minutes_done(run: Path) -> float:
    from syndiff.training.history import read

    rows = read(run)
    return float(rows[-1]["minutes"]) if rows else 0.0


def _translation(cell: Cell) -> dict[str, Any]:
    """Train and score on the test people, beside the source itself."""
    from syndiff.evaluation.candidates import How
    from syndiff.evaluation.evaluate import measure

    model, training = _trained(cell)
    assert cell.data is not None
    found, _ = measure(
        cell.data,
        models={"it": model},
        profile=cell.options.profile,
        how=How(device=cell.options.device, sampling_steps=cell.options.sampling_steps),
    )
    return training | {
        "values": _scores(found["models"]["it"]),
        "copy": _scores(found["models"]["copy"]),
        "warnings": found["warnings"],
    }


def _scores(entry: dict[str, Any]) -> dict[str, Any]:
    means = entry["person_means"]
    kept = ("psnr_db", "psnr_db_std", "ssim", "ssim_std", "people")
    return {name: means[name] for name in kept}


def _unconditional(cell: Cell) -> dict[str, Any]:
    """Train without a source and sample; there is no FID yet."""
    from syndiff.inference.options import TranslationOptions
    from syndiff.inference.synthesis import sample
    from syndiff.translators import load_translator
    from syndiff.translators.sampling import Sampling

    model, training = _trained(cell)
    steps = cell.options.sampling_steps if load_translator(model).respaceable else 0
    begun = time.monotonic()
    sample(
        model,
        cell.folder / "samples",
        TranslationOptions(seed=cell.seed, sampling=Sampling("chain", 1, steps)),
        count=cell.options.samples,
        overwrite=True,
    )
    taken = (time.monotonic() - begun) / cell.options.samples
    return training | {"values": {"fid": None, "seconds_per_slice": round(taken, 4)}}


def _cost(cell: Cell) -> dict[str, Any]:
    from syndiff.studies.costs import costs

    options = cell.options
    settings = settings_of(cell, 1)
    return {"values": costs(settings, options.size, tiny=options.tiny, device=options.device)}


KINDS: dict[str, Callable[[Cell], dict[str, Any]]] = {
    "translation": _translation,
    "unconditional": _unconditional,
    "cost": _cost,
}
