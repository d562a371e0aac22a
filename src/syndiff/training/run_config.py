"""A run as a YAML file: read with `--config`, and written as RUN/run.yaml, to be used again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from syndiff.errors import OptionError, UserError
from syndiff.io.atomic import write_text
from syndiff.io.checked import Text, in_words
from syndiff.objectives.methods import method_named
from syndiff.training.hyperparameters import changed, flat
from syndiff.training.presets import TrainSettings, preset
from syndiff.training.stored import StoredSettings

CONFIG = "run.yaml"
NOT_ASKED = ("data", "processes")  # what settings.json holds besides
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")  # 1e-4 is a word to YAML 1.1


class RunConfig(StoredSettings):
    """What a run's file may hold: every option of `train` that is kept, each of them optional."""

    source: Text = ""
    target: Text = ""


def read_config(path: Path) -> dict[str, Any]:
    """What a file says, and nothing else.

    Raises:
        UserError: it cannot be read, a key is unknown, or a value does not fit.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__})") from error
    except (yaml.YAMLError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise UserError(f"{path} is no YAML{line}", remedy="write `name: value` lines") from error
    content = _with_numbers({} if content is None else content)
    try:
        model = RunConfig.model_validate(content)
    except ValidationError as problem:
        raise _refusal(problem, path) from None
    return model.model_dump(include=model.model_fields_set - set(NOT_ASKED))


def _with_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _with_numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_numbers(each) for each in value]
    return float(value) if isinstance(value, str) and NUMBER.fullmatch(value) else value


def _refusal(problem: ValidationError, path: Path) -> UserError:
    """What does not fit, in one line; an unknown key with the nearest known one."""
    first = problem.errors(include_url=False)[0]
    if first["type"] == "extra_forbidden":
        key, known = str(first["loc"][-1]), [*RunConfig.model_fields]
        close = get_close_matches(key, known, n=1)
        expected = f"perhaps {close[0]}" if close else f"some of {', '.join(known)}"
        return OptionError(f"{path}: the key {key}", expected)
    found, expected = in_words(problem)
    return OptionError(f"{path}: {found}", expected)


def settings_of(given: Mapping[str, Any], method: str = "", name: str = "") -> TrainSettings:
    """A preset, changed by what a file says.

    Args:
        given: of `read_config`.
        method, name: of method and preset, instead of the file's.

    Raises:
        OptionError: an unknown method, preset or hyper-parameter, or a value that does not fit.
    """
    of = method_named(method or given.get("method", "syndiff"))
    settings = preset(name or given.get("preset") or "default", of.name)
    objective = settings.objective
    for key, value in flat(given.get("objective", {})).items():
        objective = changed(objective, key, value, of)
    known = {field.name for field in fields(TrainSettings)} - {"objective"}
    values = {key: value for key, value in given.items() if key in known}
    if "adam_betas" in values:
        values["adam_betas"] = tuple(values["adam_betas"])
    return replace(settings, objective=objective, **values)


def write_config(run: Path, record: Mapping[str, Any]) -> None:
    """Write RUN/run.yaml.

    Args:
        run: folder of the run.
        record: what `settings.json` holds, as plain data.
    """
    asked = {key: value for key, value in record.items() if key not in NOT_ASKED}
    head = "# What this run was asked for; `syndiff train DATA NEW_RUN --config` takes it again.\n"
    write_text(run / CONFIG, head + yaml.safe_dump(asked, sort_keys=False, allow_unicode=True))
