"""Recipes: the options of `prepare` as YAML, such as those of the paper in examples/."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from syndiff.errors import OptionError, UserError
from syndiff.io.atomic import read_text
from syndiff.io.checked import Checked, Count, ModalityName, Text, checked
from syndiff.preparation.kspace import Acceleration
from syndiff.preparation.manifest_model import TrainingPixels

People = Annotated[dict[Literal["train", "val", "test"], Count], Field(min_length=1)]


class RecipeFile(Checked):
    """What may stand in a recipe; see `settings.Settings` for the meaning of each key."""

    modalities: Annotated[list[ModalityName], Field(min_length=1, max_length=64)]
    split: People | None = None
    prefer: list[Text] | None = None
    unpaired_people: bool | None = None
    across_visits: bool | None = None
    skip_bad: bool | None = None
    size: TrainingPixels | None = None
    spacing_mm: float | Literal["auto"] | None = None
    intensity: Literal["robust", "paper"] | None = None
    ct_window: Text | None = None
    units: Literal["auto", "HU"] | None = None
    register_: bool | None = Field(default=None, alias="register")
    register_training: bool | None = None
    max_slices: Annotated[int, Field(ge=1)] | None = None
    accelerate: dict[ModalityName, Text] | None = None
    undersampling: Literal["central", "variable"] = "central"
    seed: Count = 0
    series: Text | None = None
    regular_grid: bool | None = None
    hu_offset: float | None = None

    @model_validator(mode="after")
    def _differ(self) -> RecipeFile:
        if len(set(self.modalities)) != len(self.modalities):
            raise ValueError("modalities that differ")
        return self


KEYS = tuple(field.alias or name for name, field in RecipeFile.model_fields.items())


def read_recipe(path: Path) -> dict[str, Any]:
    """The fields of `Settings` that a recipe names.

    Raises:
        OptionError: the file is missing or no YAML, or holds an unknown key (the message names
            the nearest one) or a value that makes no sense.
    """
    try:
        content = yaml.safe_load(read_text(path, "recipe"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise OptionError(f"{path} is no YAML{where}", "lines such as size: 256") from error
    except UserError as error:
        raise OptionError(error.found, error.expected, error.remedy) from error
    if not isinstance(content, dict):
        raise OptionError(f"{path} holds no recipe", "lines such as size: 256")
    for key in content:
        if key not in KEYS:
            near = get_close_matches(str(key), KEYS, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else ""
            raise OptionError(f"{path}: the key {key!r} is unknown", ", ".join(KEYS), remedy)
    recipe = checked(RecipeFile, content, path, error=OptionError)
    fields = recipe.model_dump(by_alias=True, exclude_none=True)
    pattern, seed = fields.pop("undersampling"), fields.pop("seed")
    if "accelerate" in fields:
        fields["accelerate"] = {
            name: Acceleration.parse(factors, pattern, seed)
            for name, factors in fields["accelerate"].items()
        }
    if fields.get("spacing_mm") == "auto":
        fields["spacing_mm"] = None
    return fields
