"""What values options may have, known before anything slow is imported.

The names stand here a second time, because torch, which their rooms import, takes seconds; a test
holds that they are the same. Everything else is checked where it is used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from syndiff.errors import DataError, ModelError, OptionError

Method = Literal["syndiff", "cyclegan", "unit", "munit", "attgan", "sagan", "ddpm", "unit_ddpm"]
Preset = Literal["default", "small", "paper", "github"]
Networks = Literal["small", "full"]
Pairing = Literal["unpaired", "paired", "mixed", "aligned"]
Precisions = Literal["32", "bf16"]
Sampling = Literal["chain", "expectation", "regression"]
Profile = Literal[
    "subject", "paper", "github", "selfrdb", "synthrad2023", "synthrad2025", "brasyn", "fixed"
]
Unit = Literal["auto", "HU", "a.u."]
StudyDevice = Literal["auto", "cpu", "cuda"]
By = Literal["subject", "slice"]
Split = Literal["test", "val", "train"]
Intensity = Literal["robust", "paper"]
Units = Literal["auto", "HU"]
Undersampling = Literal["central", "variable"]
HeadProtocol = Literal["ixi", "mprage", "clinical2d", "random"]
PelvisProtocol = Literal["gold-atlas", "gold-atlas-spin-echo", "gold-atlas-gradient-echo"]
Protocol = Literal[HeadProtocol, PelvisProtocol]
Scanned = Literal["T1", "T2", "PD", "FLAIR", "CT"]
Format = Literal["onnx", "torch"]
Part = Literal["chain", "step"]
Shipped = Literal["demo", "brain-t1-t2", "brain-t2-t1", "brain-t1-flair", "brain-t2-flair"]
What = Literal["train", "translate", "volume", "export", "all"]

DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
DEVICES = re.compile(r"auto|cpu|cuda|[1-9]\d*")


def nearest(word: str, known: list[str]) -> str:
    """ "did you mean 'T1'?", or nothing."""
    close = get_close_matches(word.lower(), [name.lower() for name in known], n=1)
    found = next((name for name in known if close and name.lower() == close[0]), "")
    return f"did you mean {found!r}?" if found else ""


def check_values(command: str, values: dict[str, Any]) -> None:
    """Refuse what cannot work, within moments.

    Args:
        command: its name.
        values: parameter → value.

    Raises:
        UserError: a device that there is not by its name, a folder that is no translator or no
            prepared data, a file that is not there.
    """
    for name, value in values.items():
        check = CHECKS.get(f"{command}.{name}", CHECKS.get(name))
        if check is not None and value is not None:
            check(name, value)
    if command == "train" and values["resume"]:
        _check_run(values["run"])
    elif command == "train" and not values["config"]:  # which may name others
        _check_modalities(values["data"], values["source"], values["target"])


def _check_device(name: str, value: str) -> None:
    pattern = DEVICES if name == "devices" else DEVICE
    if not pattern.fullmatch(value):
        expected = (
            "auto, cpu, cuda or a number" if name == "devices" else "auto, cpu, cuda, cuda:1"
        )
        raise OptionError(f"`{name}` {value}", expected)


def _check_translator(name: str, path: Path) -> None:
    """The same words as the translators' own room."""
    shipped = list(get_args(Shipped))
    if str(path) in shipped or (path / "config.json").is_file() or path.is_file():
        return
    remedy = "give a translator folder such as RUN/translators/T1_to_T2"
    if path.is_dir():
        held = sorted(p.parent for p in path.glob("translators/*/config.json"))
        if held:
            remedy = f"it is a run: give one of {', '.join(map(str, held))}"
        raise ModelError(f"no config.json in {path}", "a translator folder", remedy)
    remedy = nearest(str(path), shipped) or f"{remedy}, or {' or '.join(shipped)}"
    raise ModelError(f"no translator folder {path}", remedy=remedy)


def _check_translator_or_run(name: str, path: Path) -> None:
    if not ((path / "settings.json").is_file() and (path / "checkpoints").is_dir()):
        _check_translator(name, path)


def _check_nothing(name: str, value: Any) -> None:
    """For a name that means something else in another command."""


def paths_by_name(option: str, items: list[str] | None, example: str) -> dict[str, Path]:
    """Name and path of each NAME=PATH; the names differ."""
    found: dict[str, Path] = {}
    for item in items or []:
        name, mark, path = item.partition("=")
        if not (mark and name and path):
            raise OptionError(f"{option} {item}", "NAME=PATH", f"e.g. {option} {example}")
        if name in found:
            raise OptionError(f"two of {option} named {name!r}", "different names")
        found[name] = Path(path)
    return found


def models_by_name(items: list[str] | None) -> dict[str, Path]:
    """The translators of `evaluate --model`."""
    return paths_by_name("--model", items, "mine=run/translators/T1_to_T2")


def _check_translators(name: str, items: list[str]) -> None:
    for path in models_by_name(items).values():
        _check_translator(name, path)


def _check_each_translator(name: str, items: list[str]) -> None:
    for item in items:
        _check_translator(name, Path(item))


def _check_prepared(name: str, folder: Path) -> None:
    remedy = "prepare the data with 'syndiff prepare'"
    if not folder.is_dir():
        raise DataError(f"no folder {folder}", "a folder of prepared data", remedy)
    if not (folder / "manifest.json").is_file():
        raise DataError(f"no manifest.json in {folder}", "a folder of prepared data", remedy)


def _check_there(name: str, path: Path) -> None:
    if not path.exists():
        raise OptionError(f"`{name}` {path} does not exist", "a path that does", "check it")


def _check_image(name: str, path: Path) -> None:
    _check_there(name, path)


def _check_directory(name: str, path: Path) -> None:
    if not path.is_dir():
        raise OptionError(f"`{name}` {path} is no folder", "a folder that exists")


def _check_assignments(name: str, items: list[str]) -> None:
    for item in items:
        key, mark, value = item.partition("=")
        if not (mark and key.strip() and value.strip()):
            raise OptionError(f"--set {item}", "NAME=VALUE", "e.g. --set gradient_penalty=0.1")


def _check_what(name: str, text: str) -> None:
    for word in (part.strip() for part in text.split(",")):
        if word not in get_args(What):
            raise OptionError(f"`what` {text}", f"of {', '.join(get_args(What))}, by commas")


def _check_run(run: Path) -> None:
    if not run.is_dir():
        remedy = "check the path, or start without `resume`"
        raise OptionError(f"no run at {run}", "a folder that 'syndiff train' made", remedy)


def _check_benchmark_size(name: str, size: int) -> None:
    if size < 64 or size % 32:
        raise OptionError(f"`{name}` {size}", "a multiple of 32, 64 or more")


def _check_scanned(name: str, text: str) -> None:
    """Modalities of virtual subjects."""
    known = list(get_args(Scanned))
    for asked in (part.strip() for part in text.split(",") if part.strip()):
        if asked not in known:
            remedy = nearest(asked, known)
            raise OptionError(f"`{name}` {asked}", f"some of {', '.join(known)}", remedy)


def _check_modalities(data: Path, source: str, target: str) -> None:
    """Refuse modalities that a manifest does not have; one that is damaged is told later."""
    try:
        known = json.loads((data / "manifest.json").read_text(encoding="utf-8"))["modalities"]
        known = [str(name) for name in known]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return
    for name, text in (("source", source), ("target", target)):
        for asked in (part.strip() for part in text.split(",") if part.strip()):
            if asked not in known and (name, asked) != ("source", "none"):
                raise OptionError(
                    f"`{name}` {asked}", f"one of {', '.join(known)}", nearest(asked, known)
                )


# Parameter → its check; "command.parameter" where commands differ.
CHECKS: dict[str, Callable[[str, Any], None]] = {
    "assignments": _check_assignments,
    "benchmark.size": _check_benchmark_size,
    "checkpoint": _check_there,
    "compare": _check_there,
    "data": _check_prepared,
    "device": _check_device,
    "devices": _check_device,
    "evaluate.model": _check_translators,
    "export.checkpoint": _check_nothing,  # of a run, which says what it has
    "export.model": _check_translator_or_run,
    "image": _check_image,
    "model": _check_translator,
    "node.model": _check_each_translator,
    "phantom.modalities": _check_scanned,
    "for_model": _check_translator,
    "config": _check_there,
    "one_shot": _check_directory,
    "pairs_from": _check_prepared,
    "recipe": _check_there,
    "what": _check_what,
    "whole_volumes": _check_directory,
}
