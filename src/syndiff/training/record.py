"""RUN/settings.json: what a run was asked for. A resumed run keeps to it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from syndiff.errors import OptionError
from syndiff.io.atomic import read_json
from syndiff.objectives.methods import method_named, method_of
from syndiff.training.hyperparameters import from_plain
from syndiff.training.presets import TrainSettings

SETTINGS = "settings.json"
# These may change without changing the steps already made.
FREE = {"max_steps", "epochs", "validate_every", "accumulate", "recompute"}


def record(
    settings: TrainSettings,
    sources: Sequence[str],
    target: str,
    *,
    preset: str = "",
    one_shot: Path | None = None,
    processes: int = 1,
) -> dict[str, Any]:
    """What `settings.json` holds of a run."""
    return {
        "source": "+".join(sources),
        "target": target,
        "preset": preset,
        "method": method_of(settings.objective).name,
        "one_shot": str(one_shot or ""),
        **asdict(settings),
        "processes": processes,
    }


def check_folder(run: Path, resume: bool, asked: Mapping[str, Any]) -> None:
    """Make sure that the run folder can be used.

    Args:
        run: the folder.
        resume: whether the run in it is to go on.
        asked: what `settings.json` is to hold.

    Raises:
        OptionError: the folder is in use, or its run was started with other settings.
    """
    if not resume:
        if run.exists() and (not run.is_dir() or any(run.iterdir())):
            raise OptionError(
                f"{run} already exists", "a new folder", "add `resume` to continue the run in it"
            )
        return
    known, now = read_record(run), _plain(asked)
    for values in (now, known):  # on fewer devices a run may go on with larger batches
        values["batch_size × processes"] = values.pop("batch_size") * values.pop("processes", 1)
    changed = [key for key in now if key not in FREE and now[key] != known.get(key)]
    if changed:
        raise OptionError(
            f"{run} was started with another {', '.join(changed)}",
            "the options of its settings.json",
            "repeat them, or start a new run",
        )


def read_record(run: Path) -> dict[str, Any]:
    """What the run in a folder was asked for, in today's layout.

    What an older version did not know of had the value that is the default now.

    Raises:
        UserError: there is no run, or its settings cannot be read.
    """
    before = read_json(run / SETTINGS, "run", "check the path, or start without `resume`")
    known = {**asdict(TrainSettings()), "method": "syndiff", "one_shot": "", **before}
    method = method_named(known["method"])
    known["objective"] = asdict(from_plain(before.get("objective", {}), method))
    return _plain(known)


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As a value looks after a trip through JSON: tuples are lists."""
    return json.loads(json.dumps(value))
