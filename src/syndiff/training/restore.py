"""Translators of any checkpoint of a run, after the training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from syndiff.errors import ModelError, OptionError
from syndiff.io.atomic import read_json
from syndiff.io.outputs import check_folder
from syndiff.objectives.methods import method_of
from syndiff.training.best import file_of_step, kept
from syndiff.training.cards import CARDS
from syndiff.training.record import SETTINGS, kept_request
from syndiff.training.stored import Average
from syndiff.training.watch import LAST, load_state


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a training."""
    return (folder / SETTINGS).is_file() and (folder / "checkpoints").is_dir()


def export_run(run: Path, out: Path, checkpoint: str = "best") -> list[Path]:
    """Write the translators of a run's checkpoint.

    Args:
        run: folder of the run.
        out: folder to make, with one folder for each direction.
        checkpoint: "best", each direction's own; "last"; or the number of a step.

    Returns:
        The translators' folders.

    Raises:
        OptionError: there is no such checkpoint, or `out` is not empty.
        UserError: the run cannot be read.
    """
    request = kept_request(run)
    settings = request.settings
    objective = method_of(settings.objective).build(
        settings.objective, len(request.sources), settings.pairing == "paired"
    )
    cards = _cards(run)
    found = {name: _checkpoint(run, name, checkpoint) for name in cards}
    check_folder(out, 0)
    if out.exists() and any(out.iterdir()):
        raise OptionError(f"{out} is not empty", "a new folder")
    paths = []
    for name, card in cards.items():
        to = "target" if card["target"] == request.target else "source"
        state = load_state(found[name], Average)
        objective.second_phase = state.get("second_phase", 0)
        try:
            objective.generators.load_state_dict(state["ema"])
        except RuntimeError as error:
            raise ModelError(
                f"{found[name]} holds other networks than {run}'s settings"
            ) from error
        notes = {**card["training"], "steps": int(state["step"]), "checkpoint": checkpoint}
        translator = objective.translator(objective.generators, to, {**card, "training": notes})
        paths.append(translator.save(out / name))
    return paths


def _cards(run: Path) -> dict[str, Any]:
    """By name; a run of an earlier version has them in its translators only."""
    if (run / CARDS).is_file():
        return dict(read_json(run / CARDS, "cards of a run"))
    configs = sorted((run / "translators").glob("*/config.json"))
    if not configs:
        raise ModelError(
            f"{run} has no {CARDS} and no translators", remedy="`resume` the run once"
        )
    made_by_method = ("method", "settings", "network", "schedule", "diffusion", "respaceable")
    return {
        path.parent.name: {
            key: value
            for key, value in read_json(path, "translator").items()
            if key not in made_by_method
        }
        for path in configs
    }


def _checkpoint(run: Path, name: str, wanted: str) -> Path:
    """The file of a checkpoint of one direction."""
    if wanted == "best":
        return kept(run, name) or run / LAST
    if wanted == "last":
        return run / LAST
    if wanted.isdigit() and (run / file_of_step(int(wanted))).is_file():
        return run / file_of_step(int(wanted))
    steps = [int(re.sub(r"\D", "", p.stem)) for p in (run / "checkpoints").glob("step-*.pt")]
    known = ", ".join(["best", "last", *map(str, sorted(steps))])
    raise OptionError(
        f"`checkpoint` {wanted} of {run}",
        f"one of {known}",
        "a run keeps those of all its validations with `keep_checkpoints`",
    )
