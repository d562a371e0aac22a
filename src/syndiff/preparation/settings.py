"""The options of `prepare`: which scans, which people, which grid, which intensities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syndiff.errors import DataError, ModelError, OptionError
from syndiff.preparation.discover import Choice
from syndiff.preparation.intensity import PAPER, RULES, IntensityScale, is_ct
from syndiff.preparation.intensity import ct_window as window_of
from syndiff.preparation.kspace import Acceleration
from syndiff.preparation.manifest import check_modality_names
from syndiff.preparation.measure import MeasureOptions
from syndiff.preparation.split import DEFAULT_SHARES, Counts, Shares

ALL_TEST: Shares = (0.0, 0.0, 100.0)


@dataclass(frozen=True)
class Settings:
    """The options of one preparation.

    Attributes:
        modalities: modalities to look for; the first one is the reference of the registration.
        split: numbers of people, {"train": 8, "val": 2, "test": 2}, or shares in percent, by
            default (80, 10, 10); people are taken in the order of their names.
        split_file: a table of subject and split, in place of `split`.
        table: a table of scans in place of a layout, see `table`.
        prefer: words in file names that are preferred if a scan has several versions.
        unpaired_people: treat equal names in two modalities as two people.
        across_visits: allow pairs of scans from two visits of a person.
        allow_synthetic: accept synthetic images as scans.
        skip_bad: leave out scans that cannot be used; the manifest names them.
        size: side of the square training slices in pixels, or their (height, width).
        spacing_mm: pixel size of the training slices in mm; None: the finest at which every head
            fits. For .mat files it is the pixel size of the files, and must be given.
        intensity: "robust" or "paper", for MR; CT has a fixed window of HU.
        ct_window: "soft", "bone", "full" or "LO,HI" in HU; "paper" normalises CT as the paper's
            Sec. IV-A normalises MR.
        units: "HU" if CT scans are in HU although no air is in view; "auto" checks the values.
        register: register the scans of each validation and test subject.
        register_training: register the scans of training subjects, too.
        max_slices: most slices per scan; the uppermost slices are kept.
        orientation: for .mat files, the orientation of the slices; see `official_mat`.
        paired: for .mat files, the splits in which slices with equal indices are pairs.
        series: of DICOM folders that hold several series, which one to read: its number, UID or
            a part of its description; or "T1=mprage,T2=tse" by modality. Empty: the only one.
        regular_grid: resample DICOM slices with gaps, uneven spacing or gantry tilt.
        hu_offset: number added to a CT from DICOM, in HU.
        accelerate: modality → how its scans are undersampled in k-space (MR only).
        scales: modality → intensity scale of a ready translator, in place of one from training
            subjects. Nobody trains then, and a head that is larger than the grid is cut.

    Raises:
        OptionError: an option is out of range.
    """

    modalities: Sequence[str]
    split: Counts | Shares | None = None
    split_file: Path | None = None
    table: Path | None = None
    prefer: Sequence[str] = ()
    unpaired_people: bool = False
    across_visits: bool = False
    allow_synthetic: bool = False
    skip_bad: bool = False
    size: int | tuple[int, int] = 256
    spacing_mm: float | None = None
    intensity: str = "robust"
    ct_window: str = "full"
    units: str = "auto"
    register: bool = True
    register_training: bool = True
    max_slices: int | None = None
    orientation: str | None = None
    paired: Sequence[str] | None = None
    series: str = ""
    regular_grid: bool = False
    hu_offset: float = 0.0
    accelerate: Mapping[str, Acceleration] = field(default_factory=dict)
    scales: Mapping[str, IntensityScale] | None = None

    def __post_init__(self) -> None:
        _check_modalities(self.modalities)
        for side in self.shape:
            if not 8 <= side <= 4096:
                raise OptionError(f"a size of {side} pixels", "8 to 4096")
        if self.spacing_mm is not None and not 0.01 <= self.spacing_mm <= 100:
            raise OptionError(f"a spacing of {self.spacing_mm} mm", "0.01 to 100, or auto")
        if self.intensity not in RULES:
            raise OptionError(f"the intensity rule {self.intensity!r}", " or ".join(RULES))
        if self.max_slices is not None and self.max_slices < 1:
            raise OptionError(f"at most {self.max_slices} slices", "1 or more")
        if self.ct_window != PAPER:
            window_of(self.ct_window)
        if self.units not in ("auto", "HU"):
            raise OptionError(f"`units` {self.units!r}", "auto or HU")
        for name in self.accelerate:
            if name not in self.modalities or is_ct(name):
                mr = [m for m in self.modalities if not is_ct(m)]
                raise OptionError(f"`accelerate` of {name}", f"MR modalities: {', '.join(mr)}")
        self.series_of()

    @classmethod
    def for_translator(cls, config: Mapping[str, Any], **others: Any) -> Settings:
        """A test set on the grid, spacing and intensity scales of a ready translator.

        Args:
            config: the content of the translator's config.json.
            others: further fields; `split` is everybody for test unless it is given.

        Raises:
            ModelError: the translator makes images from noise, or its scales follow several rules.
        """
        modalities = (*config["sources"], config["target"])
        if not config["sources"]:
            raise ModelError(
                f"a translator that makes {config['target']} from noise", "one with a source"
            )
        scales = {m: IntensityScale.from_dict(dict(config["intensity"][m])) for m in modalities}
        rules = {scale.rule for scale in scales.values() if scale.unit != "HU"}
        windows = {scale.window for scale in scales.values() if scale.unit == "HU"}
        if len(rules) > 1 or len(windows) > 1:
            raise ModelError("a translator whose modalities follow several rules", "one rule")
        window = next(iter(windows), None)
        told: dict[str, Any] = {"intensity": next(iter(rules))} if rules else {}
        if windows:
            told["ct_window"] = f"{window[0]:g},{window[1]:g}" if window else PAPER
        if others.get("split") is None and not (others.get("split_file") or others.get("table")):
            others["split"] = ALL_TEST
        return cls(
            modalities=modalities,
            size=(int(config["size"][0]), int(config["size"][1])),
            spacing_mm=float(config["spacing_mm"]),
            scales=scales,
            accelerate=accelerations(config, modalities),
            **{**told, **others},
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the slices in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def choice(self) -> Choice:
        """How to choose between ambiguous names."""
        return Choice(tuple(self.prefer), self.unpaired_people, self.across_visits)

    @property
    def measure(self) -> MeasureOptions:
        """The options of the first pass."""
        return MeasureOptions(
            modalities=tuple(self.modalities),
            intensity=self.intensity,
            register=self.register,
            register_training=self.register and self.register_training,
            max_slices=self.max_slices,
            units=self.units,
            ct_window=self.ct_window,
            series=self.series_of(),
            regular_grid=self.regular_grid,
            hu_offset=self.hu_offset,
            accelerate=dict(self.accelerate),
        )

    def series_of(self) -> dict[str, str]:
        """Modality → the DICOM series to read; none where any is as good.

        Raises:
            OptionError: it names a modality that is not prepared.
        """
        if not self.series:
            return {}
        named = [part.partition("=") for part in self.series.split(",")]
        if not all(mark for _, mark, _ in named):
            return dict.fromkeys(self.modalities, self.series)
        found = {name.strip(): series.strip() for name, _, series in named}
        if unknown := set(found) - set(self.modalities):
            raise OptionError(
                f"a `series` of {', '.join(sorted(unknown))}", f"of {', '.join(self.modalities)}"
            )
        return found

    def said(self) -> dict[str, Any]:
        """What the manifest records of them, and what an unfinished folder must agree on."""
        return {
            "modalities": list(self.modalities),
            "split": self._split_said(),
            "size": self.size if isinstance(self.size, int) else list(self.size),
            "spacing_mm": "auto" if self.spacing_mm is None else float(self.spacing_mm),
            "intensity": self.intensity,
            "ct_window": self.ct_window,
            "accelerate": {m: a.to_dict() for m, a in self.accelerate.items()} or None,
            "scales": self.scales and {m: s.to_dict() for m, s in self.scales.items()},
        }

    def _split_said(self) -> Any:
        if isinstance(self.split, Mapping):
            return dict(self.split)
        if self.split is None and (self.split_file or self.table):
            return "file" if self.split_file else "table"
        return "/".join(f"{share:g}" for share in self.split or DEFAULT_SHARES)

    def check_source(self, mat: bool) -> None:
        """Raise OptionError if an option is set that this kind of source does not use."""
        if mat:
            self._check_unset(
                "split", "split_file", "table", "max_slices", "series", "scales", "accelerate"
            )
        else:
            self._check_unset("orientation", "paired")

    def _check_unset(self, *names: str) -> None:
        for name in names:
            if getattr(self, name):
                mat = name in ("orientation", "paired")
                raise OptionError(
                    f"`{name}` with {'scans' if mat else '.mat files'}",
                    "data_train_….mat in the folder" if mat else "none: such files say it by name",
                )


def accelerations(
    content: Mapping[str, Any], modalities: Sequence[str]
) -> dict[str, Acceleration]:
    """The accelerations of some modalities in a translator's config.json or a manifest."""
    held = content.get("accelerate") or {}
    return {m: Acceleration.from_dict(held[m]) for m in modalities if m in held}


def _check_modalities(modalities: Sequence[str]) -> None:
    if isinstance(modalities, str) or not modalities:
        raise OptionError(f"the modalities {modalities!r}", "names such as T1, T2")
    try:
        check_modality_names(modalities)
    except DataError as error:
        raise OptionError(error.found, error.expected) from error
