"""Commands that make images: translate, sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syndiff.cli import values
from syndiff.cli.app import (
    BatchSize,
    Compile,
    Device,
    Model,
    Overwrite,
    Precision,
    SamplingSteps,
    Seed,
    Way,
    app,
)
from syndiff.cli.completion import folders_of_models
from syndiff.cli.console import console_reporter
from syndiff.cli.dicom import ChosenSeries, HuOffset, RegularGrid
from syndiff.cli.outcome import Outcome
from syndiff.errors import OptionError

if TYPE_CHECKING:  # torch is loaded when the command runs
    from syndiff.inference import TranslationOptions


@app.command()
def translate(
    model: Model,
    image: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="Volume of the source modality, a DICOM folder or .zip, or a folder of volumes.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(
            help="Result, .nii.gz or .nii; a folder if INPUT is one (of DICOM: for a derived "
            "series)."
        ),
    ],
    also: Annotated[
        list[str] | None,
        typer.Option(help="MODALITY=PATH of a further source on INPUT's grid, if MODEL needs it."),
    ] = None,
    seed: Seed = 0,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    shared_noise: Annotated[
        bool, typer.Option(help="One noise for all slices: coherent along z.")
    ] = True,
    sampling: Way = "chain",
    samples: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Also write mean and standard deviation of so many chains, seeds SEED, SEED + 1, "
            "…; of an expectation: its chains, 8 by default.",
        ),
    ] = None,
    sampling_steps: SamplingSteps = 0,
    precision: Precision = "32",
    compiled: Compile = False,
    check: Annotated[
        bool, typer.Option(help="Measure whether the anatomy stays where it is.")
    ] = True,
    allow_synthetic: Annotated[
        bool, typer.Option("--allow-synthetic", help="Take a synthetic image as INPUT, too.")
    ] = False,
    accelerate: Annotated[
        bool,
        typer.Option(
            "--accelerate",
            help="Undersample INPUT, a full scan, as MODEL's training scans were; default: as it "
            "is.",
        ),
    ] = False,
    overwrite: Overwrite = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes for a folder; with GPUs one per GPU.")
    ] = 1,
    scheduler: Annotated[
        str, typer.Option(help="Address of a dask scheduler for a folder: tcp://host:8786.")
    ] = "",
    pattern: Annotated[
        str, typer.Option(help="Of a folder: the files to take, e.g. '*_0000.nii.gz'.")
    ] = "",
    modality: Annotated[
        str, typer.Option(help="Of a folder: what its names call the source, e.g. mprage.")
    ] = "",
    series: ChosenSeries = "",
    regular_grid: RegularGrid = False,
    hu_offset: HuOffset = 0.0,
) -> Outcome:
    """Translate a volume, or a folder of them; each result lies on the grid of its source."""
    from syndiff.dicom.options import DicomOptions
    from syndiff.dicom.reading import is_dicom, is_one_study
    from syndiff.io.formats import check_output_name

    # DICOM of one study is one volume.
    folder = image.is_dir() and not (series or is_one_study(image))
    if not (folder or image.is_dir() or is_dicom(image)):
        check_output_name(output)
    from syndiff.inference import TranslationOptions, translate_file
    from syndiff.translators.sampling import Sampling

    options = TranslationOptions(
        seed=seed,
        batch_size=batch_size,
        device=device,
        shared_noise=shared_noise,
        sampling=Sampling(sampling, samples or 8, sampling_steps),
        precision=precision,
        compiled=compiled,
        check=check,
        allow_synthetic=allow_synthetic,
        accelerate=accelerate,
        samples=0 if sampling == "expectation" else samples or 0,
    )
    dicom = DicomOptions(series, regular_grid, hu_offset)
    if folder:
        if also:
            raise OptionError("--also with a folder", "the sources side by side in the folder")
        return translate_folder_outcome(
            model,
            image,
            output,
            options,
            workers=workers,
            scheduler=scheduler,
            pattern=pattern,
            modality=modality,
            overwrite=overwrite,
        )
    others = values.paths_by_name("--also", also, "PD=PD.nii.gz")
    with console_reporter("slices") as report:
        made = translate_file(
            model,
            image,
            output,
            options,
            also=others,
            dicom=dicom,
            overwrite=overwrite,
            report=report,
        )
    from syndiff.inference.spread import beside

    return Outcome(
        lines=[f"{output} (synthetic, not for diagnosis)"],
        written={"image": output, "sidecar": _record_of(output)}
        | (beside(output) if made.beside else {}),
        figures={
            "anatomy": made.anatomy.to_dict() if made.anatomy else None,
            "seed": seed,
        },
        next=["info", model],
    )


def _record_of(output: Path) -> Path:
    """The side-car of a result: of an image, or of a derived series in a folder."""
    from syndiff.inference import sidecar

    return output.with_name(f"{output.name}.json") if output.is_dir() else sidecar(output)


@app.command()
def sample(
    model: Annotated[
        Path,
        typer.Argument(
            help="Folder of a translator trained with --source none.",
            autocompletion=folders_of_models,
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the slices: .nii.gz, .png and .json.")],
    count: Annotated[int, typer.Option(min=1, help="Slices to make.")] = 16,
    seed: Seed = 0,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    sampling_steps: SamplingSteps = 0,
    overwrite: Overwrite = False,
) -> Outcome:
    """Make slices of a modality from noise alone (unconditional synthesis)."""
    from syndiff.inference import TranslationOptions
    from syndiff.inference import sample as run
    from syndiff.translators.sampling import Sampling

    options = TranslationOptions(
        seed=seed,
        batch_size=batch_size,
        device=device,
        sampling=Sampling(steps=sampling_steps),
    )
    with console_reporter("slices") as report:
        run(model, out, options, count=count, overwrite=overwrite, report=report)
    return Outcome(
        lines=[f"{out}: {count} slices (synthetic, not for diagnosis)"],
        written={"slices": out},
        figures={"count": count, "seed": seed},
        next=["info", model],
    )


def translate_folder_outcome(
    model: Path,
    folder: Path,
    out: Path,
    options: TranslationOptions,
    **how: Any,
) -> Outcome:
    """Exit with code 2 if a volume could not be translated; the others are."""
    from syndiff.inference.folders import translate_folder

    with console_reporter("volumes") as report:
        results = translate_folder(
            model,
            folder,
            out,
            options,
            report=report,
            **how,
        )
    failed = sum(bool(result.problem) for result in results)
    skipped = sum(result.skipped for result in results)
    made = len(results) - failed - skipped
    return Outcome(
        lines=[
            f"{made} volumes translated, {skipped} were done before, {failed} failed: {out} "
            "(synthetic, not for diagnosis)"
        ],
        written={"folder": out},
        figures={
            "translated": made,
            "done_before": skipped,
            "failed": failed,
            "problems": [result.problem for result in results if result.problem],
        },
        next=["translate", model, folder, out] if failed else ["info", model],
        code=2 if failed else 0,
    )
