"""What a run's settings.json and checkpoints may hold, checked before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, JsonValue, ValidationError
from torch import Tensor

from syndiff.errors import ModelError, OptionError, UserError
from syndiff.io.checked import Checked, Count, Text, checked, in_words

REMEDY = "continue from another checkpoint, or start a new run"
Rate = Annotated[float, Field(gt=0, le=10)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Ranges(Checked):
    """Ranges of the numbers of `presets.TrainSettings`."""

    epochs: Count = 1
    max_steps: Count = 0
    batch_size: Annotated[int, Field(ge=1)] = 1
    accumulate: Annotated[int, Field(ge=1)] = 1
    recompute: bool = False
    generator_lr: Rate = 1e-4
    discriminator_lr: Rate = 1e-4
    final_lr: Annotated[float, Field(ge=0, le=10)] | None = None
    linear_decay_epochs: Count = 0
    adam_betas: Annotated[list[Share], Field(min_length=2, max_length=2)] = Field(
        default=[0.5, 0.9]
    )
    ema_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    ema_warmup: Count = 0
    shared_subjects: bool = False
    augment: bool = True
    decay_minutes: Annotated[float, Field(ge=0, le=5_000_000)] = 0.0
    pair_share: Share = 0.0
    keep_checkpoints: bool = False
    validate_every: Annotated[int, Field(ge=1)] = 1
    seed: Count = 0


class StoredSettings(Ranges):
    """See `record.Request.record`; settings that older versions did not have may be missing."""

    source: Text
    target: Text
    preset: Text = ""
    method: Text = "syndiff"
    one_shot: str = ""  # a path
    pairs_from: str = ""  # a path
    data: Text = ""
    processes: Annotated[int, Field(ge=1)] = 1
    precision: Literal["32", "bf16"] = "32"
    objective: dict[str, JsonValue] = Field(default_factory=dict)
    pairing: Literal["unpaired", "paired", "mixed", "aligned"] = "unpaired"


Weights = dict[str, InstanceOf[Tensor]]


class Average(BaseModel):
    """best.pt, and what every checkpoint holds."""

    model_config = ConfigDict(strict=True, extra="ignore")

    step: Count
    ema: Weights
    second_phase: Count | None = 0


class Parameters(BaseModel):
    """State of an optimizer: Adam's moments of each weight, and the learning rates."""

    model_config = ConfigDict(strict=True, extra="ignore")

    state: dict[int, dict[str, Any]]
    param_groups: Annotated[list[dict[str, Any]], Field(min_length=1)]


class BestOf(BaseModel):
    """See `best.Best`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    step: Count
    score: float
    by: str


class Whole(Average):
    """last.pt, from which a run goes on."""

    generators: Weights
    discriminators: Weights
    optimizers: list[Parameters]
    kept: Weights = {}
    best: dict[str, BestOf] = {}


def check_ranges(values: dict[str, Any]) -> None:
    """Refuse training settings that are out of their ranges.

    Raises:
        OptionError: names the first setting that is not valid.
    """
    try:
        Ranges.model_validate(values)
    except ValidationError as problem:
        raise OptionError(*in_words(problem)) from None


def check_settings(content: Any, path: Path) -> None:
    """Refuse a settings.json that no run has written.

    Raises:
        UserError: names the first field that is not valid.
    """
    checked(StoredSettings, content, path, "start a new run", UserError)


def check_state(content: Any, path: Path, model: type[Average]) -> None:
    """Refuse a checkpoint in which a field is missing or has the wrong type.

    Raises:
        ModelError: names the first field that is not valid.
    """
    checked(model, content, path, REMEDY, ModelError)
