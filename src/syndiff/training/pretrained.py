"""Begin a run with the one-shot module of an earlier one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from syndiff.errors import ModelError, OptionError
from syndiff.io.atomic import read_json
from syndiff.objectives.base import Objective
from syndiff.objectives.syndiff import SynDiff
from syndiff.training.record import SETTINGS
from syndiff.training.stored import check_settings
from syndiff.training.watch import LAST, load_state

PREFIX = "one_shot"


def begin_one_shot(
    objective: Objective, run: str | Path | None, sources: Sequence[str], target: str
) -> None:
    """Take the one-shot module of an earlier run, if one is given.

    Raises:
        OptionError: none is given, and the one-shot module would stay untrained; or see
            `load_one_shot`.
        ModelError: see `load_one_shot`.
    """
    if run:
        load_one_shot(objective, Path(run), sources, target)
    elif isinstance(objective, SynDiff) and not (objective.supervised or objective.has_one_shot()):
        raise OptionError(
            "one_shot_epochs=0, which leaves the one-shot module untrained",
            "`one_shot`, an earlier run that trained it",
        )


def load_one_shot(objective: Objective, run: Path, sources: Sequence[str], target: str) -> None:
    """Take the averaged one-shot generators, and the discriminators, of a run's last checkpoint.

    Discriminators that the objective does not have are not taken.

    Args:
        objective: the objective whose networks are overwritten.
        run: folder of the earlier run.
        sources, target: modalities of the new run, which must be the earlier one's.

    Raises:
        OptionError: the objective or the earlier run has no one-shot module, or the modalities
            differ.
        ModelError: the folder holds no checkpoint, or networks of another size.
    """
    if not any(name.startswith(PREFIX) for name in objective.generators):
        raise OptionError("`one_shot` for a run that has no one-shot module", "none")
    if not (run / LAST).is_file():
        raise ModelError(f"no checkpoint in {run}", "the folder of an earlier run")
    earlier = read_json(run / SETTINGS, "run")
    check_settings(earlier, run / SETTINGS)
    ends = earlier["source"], earlier["target"]
    if ends != ("+".join(sources), target):
        raise OptionError(
            f"`one_shot` {run}, between {ends[0] or 'no source'} and {ends[1]}",
            f"a run with `source` {','.join(sources)} and `target` {target}",
        )
    state = load_state(run / LAST)
    for networks, weights in (
        (objective.generators, state["ema"]),
        (objective.discriminators, state["discriminators"]),
    ):
        for name, network in networks.items():
            if name.startswith(PREFIX):
                _load(network, name, weights, run)


def _load(network: Any, name: str, weights: Mapping[str, Tensor], run: Path) -> None:
    own = {k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")}
    if not own:
        raise OptionError(f"`one_shot` {run}, which has no {name}", "a run that trained one")
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        raise ModelError(
            f"{name} of {run} has another size than this run's",
            remedy="give the `preset`, `networks` and `assignments` of that run",
        ) from error
