"""Models of the small files that `prepare` reads: tables, channels, and its own notes.

What stands in them is validated before it is used, as that of a manifest is (`manifest_model`).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, JsonValue, RootModel, TypeAdapter, ValidationError

from syndiff.io.checked import Checked, Count, FileName, ModalityName, Positive, RelativePath
from syndiff.preparation.manifest_model import Intensity, Name, Pair, Quantiles, Registration

MOST_CHANNELS, MOST_COLUMNS = 1000, 10_000
LONGEST_CELL = 65_536  # of a column that is ignored; names have their own limits

Number = Annotated[str, Field(pattern=r"^[0-9]{1,4}$")]
Names = Annotated[dict[Number, Name], Field(max_length=MOST_CHANNELS)]
Cell = Annotated[str, Field(max_length=LONGEST_CELL)]


class Cells(RootModel[Annotated[list[Cell], Field(max_length=MOST_COLUMNS)]]):
    """One row of a table."""


class Channels(Checked):
    """nnU-Net's dataset.json, of which nothing else is read."""

    model_config = ConfigDict(extra="ignore")

    channel_names: Names = Field(default_factory=dict)
    modality: Names = Field(default_factory=dict)


class WrittenEntry(Checked):
    """The manifest's entry of a file of slices, of which nothing else is read."""

    model_config = ConfigDict(extra="ignore")

    slices: RelativePath


class Written(Checked):
    """See `folder.OutFolder.write`."""

    entry: WrittenEntry
    scale: Intensity


class Begun(RootModel[dict[Name, JsonValue]]):
    """The options of an unfinished folder, compared with those of the present call."""


class Measured(Checked):
    """What is used of a cached record; see `measure`."""

    model_config = ConfigDict(extra="ignore")

    file: Name
    reference: ModalityName
    slice_indices: list[Count]
    spacing_yx_mm: Pair
    native_shape: list[Count]
    native_affine: list[list[float]]
    file_shape: list[Count]
    box_yx: list[Annotated[list[Count], Field(min_length=2, max_length=2)]]
    reference_mean: Positive
    peak: Positive
    foreground_quantiles: Quantiles
    fingerprint: list[float] | None = None
    registration: Registration | None = None
    registered_onto: ModalityName | None = None
    unpaired_because: Name | None = None
    judged_by_cohort: bool | None = None
    slices_not_seen_by_all: Count | None = None
    area_profile_mm2: list[float] | None = None


class Cached(Checked):
    """See `measure.measured`."""

    key: dict[Name, JsonValue]
    records: dict[ModalityName, Measured]


def is_name(text: str) -> bool:
    """Whether a text can be the name of a person or a visit, and so of a file."""
    try:
        TypeAdapter(FileName).validate_python(text)
    except ValidationError:
        return False
    return not text.startswith(".")
