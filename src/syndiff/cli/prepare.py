"""The command prepare."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syndiff.cli import values
from syndiff.cli.app import Modalities, Seed, app, listed, number
from syndiff.cli.command import is_given
from syndiff.cli.completion import folders_of_models
from syndiff.cli.console import console_reporter
from syndiff.cli.dicom import HuOffset, RegularGrid
from syndiff.cli.outcome import Outcome, unused
from syndiff.errors import OptionError
from syndiff.tasks import Workers

if TYPE_CHECKING:
    from syndiff.preparation.settings import Settings

PreparedSeries = Annotated[
    str,
    typer.Option(
        "--series",
        help="DICOM folders with several series: number, UID or part of the description of the "
        "one to take; by modality: T1=mprage,T2=tse.",
    ),
]


@app.command()
def prepare(
    context: typer.Context,
    raw: Annotated[Path, typer.Argument(help="Folder of scans: BIDS, subject/T1.nii.gz or T1/….")],
    out: Annotated[
        Path | None,
        typer.Argument(help="Folder for slices and manifest.json.", show_default=False),
    ] = None,
    modalities: Modalities = "T1,T2",
    split: Annotated[
        str,
        typer.Option(
            help="People per split, by their names: train=8,val=2,test=2, or percents "
            "such as 80/10/10, the default. All visits of a person go together."
        ),
    ] = "",
    split_file: Annotated[
        Path | None,
        typer.Option(
            help="Table with the columns subject (or participant_id) and split, instead."
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            help="Table of scans where RAW has no known layout: columns subject, modality, file; "
            "session and split if you like."
        ),
    ] = None,
    write_table: Annotated[
        Path | None,
        typer.Option(help="Write what was found as such a table, to be corrected, and end."),
    ] = None,
    prefer: Annotated[
        str,
        typer.Option(
            help="Words of names to take first where a scan has several versions, e.g. acq-mprage."
        ),
    ] = "",
    unpaired_people: Annotated[
        bool,
        typer.Option("--unpaired-people", help="Equal names in two modalities are two people."),
    ] = False,
    across_visits: Annotated[
        bool,
        typer.Option("--across-visits", help="Two visits of a person may make a pair."),
    ] = False,
    allow_synthetic: Annotated[
        bool, typer.Option("--allow-synthetic", help="Take synthetic images for scans.")
    ] = False,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Go on without scans that cannot be used; name them."),
    ] = False,
    size: Annotated[
        int, typer.Option(min=16, help="In-plane size of the slices in pixels.")
    ] = 256,
    spacing_mm: Annotated[
        str,
        typer.Option(help="In-plane pixel size in mm; auto: the finest that holds every head."),
    ] = "auto",
    intensity: Annotated[
        values.Intensity,
        typer.Option(help="MR intensities: robust (99.9th percentile) or paper (maximum)."),
    ] = "robust",
    ct_window: Annotated[
        str,
        typer.Option(
            help="HU that CT is trained on: soft (-160 to 240), bone (-500 to 1300), full (-1024 "
            "to 3000), LO,HI, or paper (divided by its mean, as MR is in the paper)."
        ),
    ] = "full",
    units: Annotated[
        values.Units, typer.Option(help="HU: the CT scans are in HU although no air is in view.")
    ] = "auto",
    register: Annotated[
        bool, typer.Option(help="Register validation and test subjects onto the first modality.")
    ] = True,
    register_training: Annotated[
        bool, typer.Option(help="Register training subjects that have several modalities, too.")
    ] = True,
    max_slices: Annotated[
        int,
        typer.Option(
            min=0,
            help="At most this many slices per volume, the uppermost ones (paper: 100); 0: all.",
        ),
    ] = 0,
    orientation: Annotated[
        str,
        typer.Option(
            help=".mat only: where rows and columns grow to in the official code's pictures; "
            "default: PL (anterior at the top, the patient's right on the left)."
        ),
    ] = "",
    paired: Annotated[
        str,
        typer.Option(
            help=".mat only: splits whose slices of one index belong together, e.g. val,test."
        ),
    ] = "",
    accelerate: Annotated[
        list[str] | None,
        typer.Option(
            help="Undersample a modality's k-space, rows x columns: T1=4x4 keeps a quarter of "
            "each (16-fold, as in the paper). May be given several times."
        ),
    ] = None,
    undersampling: Annotated[
        values.Undersampling,
        typer.Option(
            help="With --accelerate: the centre of k-space (paper), or variable density by --seed."
        ),
    ] = "central",
    seed: Seed = 0,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Write nothing: say what was found, what would be done and left out, how long it "
            "will take.",
        ),
    ] = False,
    for_model: Annotated[
        Path | None,
        typer.Option(
            "--for",
            help="Translator, or a shipped one's name: a test set on its grid, with its "
            "intensities, without training subjects.",
            autocompletion=folders_of_models,
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="YAML of such options, e.g. examples/ixi.yaml of the paper's data sets; options "
            "go before it."
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes; each holds one person's scans at a time.")
    ] = 1,
    scheduler: Annotated[
        str, typer.Option(help="Address of a dask scheduler instead: tcp://host:8786.")
    ] = "",
    series: PreparedSeries = "",
    regular_grid: RegularGrid = False,
    hu_offset: HuOffset = 0.0,
) -> Outcome:
    """Turn a folder of raw scans into slices for training, and record how.

    RAW may also hold the official SynDiff code's data_train_T1.mat, …: they know their splits, and
    --spacing-mm is then the size of their pixels, which must be given.
    """
    if write_table is None and out is None and not dry_run:
        raise OptionError("no OUT", "a folder for slices and manifest.json")
    chosen = {
        name: context.params[name]
        for name in FIELDS
        if name != "accelerate" and is_given(context, name)
    }
    if accelerate:
        chosen["accelerate"] = (accelerate, undersampling, seed)
    elif is_given(context, "undersampling") or is_given(context, "seed"):
        raise OptionError("`undersampling` or `seed` without `accelerate`", "all of them, or none")
    settings = _settings(chosen, for_model, recipe)
    if write_table is not None:
        return _write_table(raw, write_table, settings)
    if dry_run:
        return _dry_run(raw, out, settings, workers)
    assert out is not None  # checked above
    return _prepare(raw, out, settings, for_model, Workers(workers, scheduler))


# Fields of `Settings` that an option of the same name sets, and how its text is read.
FIELDS: dict[str, Callable[[Any], Any]] = {
    "modalities": listed,
    "split": lambda text: _split(text),
    "split_file": lambda path: path,
    "table": lambda path: path,
    "prefer": listed,
    "unpaired_people": bool,
    "across_visits": bool,
    "allow_synthetic": bool,
    "skip_bad": bool,
    "size": int,
    "spacing_mm": lambda text: None if text == "auto" else number("--spacing-mm", text),
    "intensity": str,
    "ct_window": str,
    "units": str,
    "register": bool,
    "register_training": bool,
    "max_slices": lambda most: most or None,
    "orientation": lambda text: text or None,
    "paired": lambda text: listed(text) or None,
    "series": str,
    "regular_grid": bool,
    "hu_offset": float,
    "accelerate": lambda given: _accelerate(*given),
}
OF_THE_TRANSLATOR = ("modalities", "size", "spacing_mm", "intensity", "ct_window", "accelerate")


def _accelerate(items: list[str], pattern: str, seed: int) -> Any:
    from syndiff.preparation.kspace import Acceleration

    factors = values.paths_by_name("--accelerate", items, "T1=4x4")
    return {name: Acceleration.parse(f"{text}", pattern, seed) for name, text in factors.items()}


def _split(text: str) -> Any:
    from syndiff.preparation.split import parse_split

    return parse_split(text) if text else None


def _settings(chosen: Mapping[str, Any], for_model: Path | None, recipe: Path | None) -> Settings:
    """The options that somebody typed, over those of a recipe or a translator."""
    from syndiff.preparation.recipe_file import read_recipe
    from syndiff.preparation.settings import Settings

    fields = {name: FIELDS[name](value) for name, value in chosen.items()}
    if recipe is not None:
        if for_model is not None:
            raise OptionError("`recipe` with --for", "one of them", "the translator says it")
        written = read_recipe(recipe)
        if fields.get("split_file") or fields.get("table"):
            written.pop("split", None)
        return Settings(**written | fields)
    if for_model is None:
        return Settings(**{"modalities": ("T1", "T2")} | fields)
    for name in OF_THE_TRANSLATOR:
        if name in fields:
            raise OptionError(f"`{name}` with --for", "one of them", "the translator says it")
    from syndiff.translators import locate, read_config

    return Settings.for_translator(read_config(locate(for_model)), **fields)


def _prepare(
    raw: Path, out: Path, settings: Settings, for_model: Path | None, workers: Workers
) -> Outcome:
    from syndiff.preparation.official_mat import is_official
    from syndiff.preparation.recipe import prepare_with
    from syndiff.preparation.summary import summary

    with console_reporter("preparing") as report:
        manifest = prepare_with(raw, out, settings, report, workers)
    if for_model is None:
        following: list[str | Path] = ["doctor", out]
    else:
        name = "shipped" if str(for_model) == for_model.name else for_model.name
        model = ["--model", f"{name}={for_model}"]
        split = "test" if manifest.subjects("test") else "val"
        following = ["evaluate", out, unused(out.parent / "report"), *model]
        following += [] if split == "test" else ["--split", split]
    return Outcome(
        lines=summary(manifest, out, "files" if is_official(raw) else "subjects"),
        written={"data": out, "manifest": out / "manifest.json"},
        figures=_figures(manifest),
        next=following,
    )


def _dry_run(raw: Path, out: Path | None, settings: Settings, workers: int) -> Outcome:
    """What would be done; the next command is the same without --dry-run."""
    from syndiff.preparation.dry_run import forecast

    with console_reporter("looking") as report:
        found = forecast(raw, out, settings, workers, report)
    words = [word for word in sys.argv[1:] if word != "--dry-run"]
    if out is None:
        words.insert(words.index(str(raw)) + 1 if str(raw) in words else 1, "data")
    return Outcome(
        lines=[*found.lines, "nothing was written"],
        figures={
            "people": found.people,
            "scans": found.scans,
            "splits": found.splits,
            "left_out": found.left_out,
            "cannot_be_used": found.broken,
            "out": found.state,
            "seconds": found.seconds,
            "bytes": found.written_bytes,
        },
        next=words,
        code=2 if found.broken and not settings.skip_bad else 0,
    )


def _figures(manifest: Any) -> dict[str, Any]:
    """People, scans and slices by split; size and spacing of the slices."""
    scans = [s for s in manifest.all_scans() if s.split]
    return {
        "modalities": list(manifest.modalities),
        "size": list(manifest.size),
        "spacing_mm": manifest.spacing_mm,
        "splits": {
            split: {
                "people": len({s.person for s in scans if s.split == split}),
                "scans": sum(s.split == split for s in scans),
                "slices": sum(s.count for s in scans if s.split == split),
            }
            for split in dict.fromkeys(s.split for s in scans)
        },
    }


def train_command(data: Path, modalities: Sequence[str]) -> list[str | Path]:
    """The command that trains on prepared data; small networks where there is no GPU."""
    source, target = modalities[:2] if len(modalities) > 1 else ("none", modalities[0])
    words: list[str | Path] = ["train", data, unused(data.parent / "run")]
    words += ["--source", source, "--target", target]
    return words if shutil.which("nvidia-smi") else [*words, "--preset", "small"]


def _write_table(raw: Path, out: Path, settings: Settings) -> Outcome:
    """Write the scans that were found as a table; what is unclear is guessed there."""
    from syndiff.preparation.discover import find_cohort
    from syndiff.preparation.split import assign
    from syndiff.preparation.table import read_table
    from syndiff.preparation.table import write_table as write

    modalities, split_file = settings.modalities, settings.split_file
    if settings.table is not None:
        cohort = read_table(settings.table, raw, modalities)
    else:
        cohort = find_cohort(raw, modalities, settings.choice, strict=False)
    asked = settings.split is not None or split_file is not None
    write(out, cohort, assign(cohort, modalities, settings.split, split_file) if asked else {})
    scans = sum(len(of) for of in cohort.files.values())
    return Outcome(
        lines=[
            f"{scans} scans of {len(cohort.persons)} people in {out}, {len(cohort.left_out)} "
            "files left out; correct it"
        ],
        written={"table": out},
        figures={
            "scans": scans,
            "people": len(cohort.persons),
            "left_out": len(cohort.left_out),
        },
        next=["prepare", raw, unused(raw.parent / "data"), "--table", out],
    )
