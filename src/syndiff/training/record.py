"""RUN/settings.json: what a run was asked for. A resumed run keeps to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from syndiff.errors import OptionError
from syndiff.io.atomic import read_json
from syndiff.io.locks import in_use
from syndiff.objectives.methods import method_named, method_of
from syndiff.training.hyperparameters import from_plain
from syndiff.training.presets import TrainSettings
from syndiff.training.stored import check_settings

SETTINGS = "settings.json"
# Values of the fields that records of older versions lack.
BEFORE = {
    "method": "syndiff",
    "preset": "",
    "one_shot": "",
    "processes": 1,
    "precision": "32",
    "shared_subjects": False,
    "pairs_from": "",
}
# Settings that a resumed run may change, because the steps already made do not depend on them.
FREE = {"max_steps", "epochs", "validate_every", "keep_checkpoints", "accumulate", "recompute"}


@dataclass(frozen=True)
class Request:
    """What a run is asked for.

    Attributes:
        sources, target: modalities.
        settings: objective and optimisation.
        preset: name of the preset.
        one_shot: earlier run whose one-shot module the run starts from; empty for none.
        precision: "32" or "bf16".
        pairs_from: prepared folder that the pairs of mixed training come from; empty: the data's.
    """

    sources: tuple[str, ...]
    target: str
    settings: TrainSettings
    preset: str = ""
    one_shot: str = ""
    precision: str = "32"
    pairs_from: str = ""

    def record(self, processes: int = 1, data: str = "") -> dict[str, Any]:
        """The content of `settings.json`.

        Args:
            processes: number of processes.
            data: identity of the data, see `data_identity`.
        """
        return {
            "source": "+".join(self.sources),
            "target": self.target,
            "preset": self.preset,
            "method": method_of(self.settings.objective).name,
            "one_shot": self.one_shot,
            "precision": self.precision,
            "pairs_from": self.pairs_from,
            **asdict(self.settings),
            "processes": processes,
            "data": data,
        }


def kept_request(run: Path) -> Request:
    """What the run in a folder was asked for.

    Raises:
        UserError: there is no run, or its settings cannot be read.
    """
    known = read_record(run)
    values = {field.name: known[field.name] for field in fields(TrainSettings)}
    method = method_named(known["method"])
    values |= {
        "objective": from_plain(known["objective"], method),
        "adam_betas": tuple(known["adam_betas"]),
    }
    sources = tuple(known["source"].split("+")) if known["source"] else ()
    settings = TrainSettings(**values)
    return Request(
        sources,
        known["target"],
        settings,
        known["preset"],
        known["one_shot"],
        known["precision"],
        known["pairs_from"],
    )


def check_folder(run: Path, resume: bool, asked: Mapping[str, Any]) -> None:
    """Make sure that the run folder can be used.

    Args:
        run: the folder.
        resume: whether the run in it is to go on.
        asked: what `settings.json` is to hold.

    Raises:
        OptionError: the folder is in use, or its run was started with other data or settings.
    """
    if not resume:
        if in_use(run):
            raise OptionError(
                f"{run} already exists", "a new folder", "add `resume` to continue the run in it"
            )
        return
    known, now = read_record(run), json_like(asked)
    before, data = known.pop("data", ""), now.pop("data", "")
    if before and data and before != data:
        raise OptionError(
            f"prepared data {data[:12]} that are not those of {run}",
            f"the data {before[:12]} that it was trained on",
            "give that folder, or start a new run",
        )
    for values in (now, known):  # on fewer devices a run may go on with larger batches
        values["batch_size × processes"] = values.pop("batch_size") * values.pop("processes", 1)
    new, old = _flat(now), _flat(known)
    changed = [key for key in new if key not in FREE and new[key] != old.get(key)]
    if changed:
        raise OptionError(
            ", ".join(f"{key} {_shown(new[key])}" for key in changed),
            f"{', '.join(f'{key} {_shown(old.get(key))}' for key in changed)}, with which "
            f"{run} was started",
            "leave it out, or start a new run",
        )


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """The objective's hyper-parameters by their dotted names, beside the rest."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, "" if key == "objective" else f"{before}{key}.")
        else:
            found[f"{before}{key}"] = value
    return found


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value) or "none"


def read_record(run: Path) -> dict[str, Any]:
    """What the run in a folder was asked for, in today's layout.

    A setting that an older version did not have gets the value that it implied.

    Raises:
        UserError: there is no run, or its settings cannot be read.
    """
    before = read_json(run / SETTINGS, "run", "check the path, or start without `resume`")
    check_settings(before, run / SETTINGS)
    known = {**asdict(TrainSettings()), **BEFORE, **before}
    method = method_named(known["method"])
    known["objective"] = asdict(from_plain(before.get("objective", {}), method))
    return json_like(known)


def json_like(value: Mapping[str, Any]) -> dict[str, Any]:
    """A value as JSON keeps it: tuples become lists."""
    return json.loads(json.dumps(value))
