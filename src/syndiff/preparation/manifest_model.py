"""The pydantic models of manifest.json; translators use some of them, too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator

from syndiff.errors import DataError
from syndiff.io.checked import (
    LONGEST_TEXT,
    Checked,
    Count,
    FileName,
    ModalityName,
    Positive,
    RelativePath,
    Text,
    checked,
)

LARGEST_SIDE = 65_536  # pixels
LARGEST_SIZE = 4096  # pixels of a training slice
FINEST_MM, COARSEST_MM = 0.01, 100.0  # pixel sizes that `prepare` takes

Pixels = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
TrainingPixels = Annotated[int, Field(ge=1, le=LARGEST_SIZE)]
SpacingMm = Annotated[float, Field(ge=FINEST_MM, le=COARSEST_MM)]
Size = Annotated[list[TrainingPixels], Field(min_length=2, max_length=2)]
Quantiles = Annotated[list[float], Field(min_length=5, max_length=5)]
Shape = Annotated[list[Pixels], Field(min_length=2, max_length=8)]
Row = Annotated[list[float], Field(min_length=4, max_length=4)]
Affine = Annotated[list[Row], Field(min_length=4, max_length=4)]
Pair = Annotated[list[Positive], Field(min_length=2, max_length=2)]


# Names of other people's files may hold line breaks; they are shown, and never opened.
Name = Annotated[str, Field(max_length=LONGEST_TEXT)]
MOST = 1_000_000  # of anything that is listed


class Intensity(Checked):
    """See `intensity.IntensityScale`."""

    rule: Literal["robust", "paper", "window"]
    unit: Literal["a.u.", "HU"]
    scale: Annotated[float, Field(gt=0, le=1e12)]
    training_mean: Annotated[float, Field(ge=0, le=1e12)]
    window: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None

    @model_validator(mode="after")
    def _window_fits(self) -> Intensity:
        if (self.window is None) == (self.rule == "window"):
            raise ValueError("a window with the rule window, and with no other")
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError("a window of two values, the lower first")
        return self


class Accelerated(Checked):
    """See `kspace.Acceleration`."""

    factors: Annotated[
        list[Annotated[float, Field(ge=1, le=64)]], Field(min_length=2, max_length=2)
    ]
    pattern: Literal["central", "variable"] = "central"
    seed: Count = 0


class Grid(Checked):
    """See `geometry.SliceGrid`."""

    native_shape: Annotated[list[Pixels], Field(min_length=2, max_length=2)]
    native_spacing_mm: Pair
    shape: Size
    spacing_mm: SpacingMm
    shift: Annotated[
        list[Annotated[int, Field(ge=-LARGEST_SIDE, le=LARGEST_SIDE)]],
        Field(min_length=2, max_length=2),
    ] = Field(default=[0, 0])


class Registration(Checked):
    """See `registration.Alignment.to_dict`."""

    method: Text
    reference_to_scan_world_mm: Affine
    mutual_information_before: float | None = None
    mutual_information_after: float | None = None
    moved_mm: float | None = None
    head_overlap_dice: float | None = None
    notes: Annotated[list[Name], Field(max_length=100)] = Field(default_factory=list)


class LeftFile(Checked):
    """A file that was not taken."""

    file: Name
    reason: Name


class Skipped(Checked):
    """A scan that could not be used."""

    subject: FileName
    file: Name | None = None
    reason: Name


class LeftOut(Checked):
    """See `scans.ScanFolder.left_out`; empty for other sources."""

    files: Annotated[list[LeftFile], Field(max_length=MOST)] = Field(default_factory=list)
    people_lacking_a_modality: Annotated[list[Name], Field(max_length=MOST)] = Field(
        default_factory=list
    )
    skipped: Annotated[list[Skipped], Field(max_length=MOST)] = Field(default_factory=list)
    synthetic: Annotated[list[Name], Field(max_length=MOST)] = Field(default_factory=list)


class ScanEntry(Checked):
    """One prepared volume; the optional fields record how it was made."""

    subject: FileName
    modality: ModalityName
    split: Literal["train", "val", "test"]
    slices: RelativePath
    slice_indices: Annotated[
        list[Annotated[int, Field(ge=0, le=10_000_000)]], Field(max_length=10_000_000)
    ]
    foreground_mean: Positive
    grid: Grid
    tissue_quantiles: Quantiles
    reference: ModalityName
    fingerprint: Annotated[list[float], Field(max_length=64)] | None = None

    person: FileName | None = None
    visit: Text | None = None
    count: Count | None = None
    interpolated: bool | None = None
    file: Text | None = None
    bytes: Count | None = None
    mtime_ns: int | None = None
    file_shape: Shape | None = None
    file_affine: Affine | None = None
    native_shape: Shape | None = None
    native_affine: Affine | None = None
    registration: Registration | None = None
    registered_onto: ModalityName | None = None
    unpaired_because: Text | None = None
    judged_by_cohort: bool | None = None
    slices_not_seen_by_all: Count | None = None
    area_profile_mm2: Annotated[list[float], Field(max_length=LARGEST_SIDE)] | None = None
    spacing_yx_mm: Pair | None = None
    box_yx: list[list[int]] | None = None
    reference_mean: Positive | None = None
    peak: Positive | None = None
    foreground_quantiles: Quantiles | None = None

    @model_validator(mode="after")
    def _counted(self) -> ScanEntry:
        if self.count not in (None, len(self.slice_indices)):
            raise ValueError(f"{self.count} slice_indices, as its count says")
        return self


class ManifestModel(Checked):
    """The whole file."""

    format: Literal["syndiff-manifest"]
    version: Literal[1]
    axes: Text
    modalities: Annotated[list[ModalityName], Field(min_length=1, max_length=64)]
    size: Size
    spacing_mm: SpacingMm
    intensity: dict[ModalityName, Intensity]
    scans: Annotated[list[ScanEntry], Field(max_length=MOST)]

    accelerate: dict[ModalityName, Accelerated] = Field(default_factory=dict)
    made_by: Text = ""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    unused_subjects: list[FileName] = Field(default_factory=list)
    left_out: LeftOut = LeftOut()

    @model_validator(mode="after")
    def _belong_together(self) -> ManifestModel:
        if len(set(self.modalities)) != len(self.modalities):
            raise ValueError("modalities that differ")
        if set(self.intensity) != set(self.modalities):
            raise ValueError("an intensity for each of its modalities, and for no other")
        seen = set()
        for scan in self.scans:
            place = (scan.subject, scan.modality)
            name = f"{scan.subject} {scan.modality}"
            if not {scan.modality, scan.reference} <= set(self.modalities):
                raise ValueError(f"scans of its modalities only, not {name}")
            if place in seen:
                raise ValueError(f"each scan once, not {name} twice")
            if (scan.grid.shape, scan.grid.spacing_mm) != (self.size, self.spacing_mm):
                raise ValueError(f"the size and pixel size of all for {name}, too")
            seen.add(place)
        return self


def checked_manifest(content: Any, path: Path, remedy: str) -> None:
    """Validate the content of a manifest.

    Raises:
        DataError: the content does not fit the model; the message names the first key.
    """
    checked(ManifestModel, content, path, remedy, DataError)
