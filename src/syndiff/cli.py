"""The command line: one function per command, each importing its room only when it runs.

Errors that the user can mend end in one line and exit code 2; Ctrl-C in exit code 130.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from syndiff import __version__
from syndiff.console import progress_bar, training_progress, warn
from syndiff.errors import OptionError, UserError

app = typer.Typer(
    name="syndiff",
    help="Translate a medical image of one modality into another, trained on unpaired scans.",
    epilog="Synthetic images are not for diagnosis. Documentation: docs/index.md",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Modalities = Annotated[
    str, typer.Option(help="Modalities, separated by commas; the first is the reference grid.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every random number.")]
Device = Annotated[str, typer.Option(help="auto (the GPU if there is one), cpu, cuda, cuda:1 …")]
BatchSize = Annotated[int, typer.Option(min=1, help="Slices at a time; bounds the memory.")]


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.")
    ] = False,
) -> None:
    if version:
        typer.echo(f"syndiff {__version__}")
        raise typer.Exit


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder for the cohort (BIDS-like NIfTI).")],
    subjects: Annotated[int, typer.Option(min=1, help="Number of virtual subjects.")] = 12,
    modalities: Annotated[str, typer.Option(help="Any of T1,T2,PD,FLAIR,CT.")] = "T1,T2",
    seed: Seed = 0,
    spacing_mm: Annotated[float, typer.Option(help="Voxel size in mm.")] = 2.0,
    lesions: Annotated[int, typer.Option(min=0, help="White-matter lesions per subject.")] = 0,
    misregistration_mm: Annotated[
        float, typer.Option(min=0, help="Random displacement between modalities in mm.")
    ] = 0.0,
    noise: Annotated[
        float, typer.Option(min=0, help="Noise, as a fraction of the brightest tissue.")
    ] = 0.02,
    bias: Annotated[
        float, typer.Option(min=0, help="Depth of the coil's shading, 0 is none.")
    ] = 0.2,
) -> None:
    """Make virtual subjects with exact ground truth: images, tissue labels."""
    from syndiff.phantom import write_cohort

    with progress_bar("virtual subjects") as bar:
        write_cohort(
            out,
            subjects=subjects,
            modalities=_listed(modalities),
            seed=seed,
            spacing_mm=spacing_mm,
            lesions=lesions,
            misregistration_mm=misregistration_mm,
            noise=noise,
            bias=bias,
            progress=bar,
        )
    typer.echo(f"{subjects} virtual subjects in {out}")


@app.command()
def prepare(
    raw: Annotated[Path, typer.Argument(help="Folder of scans: BIDS, subject/T1.nii.gz or T1/….")],
    out: Annotated[Path, typer.Argument(help="Folder for slices and manifest.json.")],
    modalities: Modalities = "T1,T2",
    split: Annotated[
        str, typer.Option(help="Subjects per split, in the order of their names.")
    ] = "",
    split_file: Annotated[
        Path | None, typer.Option(help="Table with the columns subject and split, instead.")
    ] = None,
    size: Annotated[
        int, typer.Option(min=16, help="In-plane size of the slices in pixels.")
    ] = 256,
    spacing_mm: Annotated[
        str,
        typer.Option(help="In-plane pixel size in mm; auto: the finest that holds every head."),
    ] = "auto",
    intensity: Annotated[
        str, typer.Option(help="MR intensities: robust (99.9th percentile) or paper (maximum).")
    ] = "robust",
    register: Annotated[
        bool, typer.Option(help="Register validation and test subjects onto the first modality.")
    ] = True,
    register_training: Annotated[
        bool, typer.Option(help="Register training subjects that have several modalities, too.")
    ] = True,
    max_slices: Annotated[
        int, typer.Option(min=0, help="At most this many slices per volume (paper: 100); 0: all.")
    ] = 0,
) -> None:
    """Turn a folder of raw scans into slices for training, and record how."""
    from syndiff.preparation.recipe import parse_split
    from syndiff.preparation.recipe import prepare as run

    if not split and split_file is None:
        raise OptionError(
            "neither --split nor --split-file", "one", "e.g. --split train=8,val=2,test=2"
        )
    with progress_bar("preparing") as bar:
        manifest = run(
            raw,
            out,
            modalities=_listed(modalities),
            split=parse_split(split) if split else None,
            split_file=split_file,
            size=size,
            spacing_mm=None if spacing_mm == "auto" else _number("--spacing-mm", spacing_mm),
            intensity=intensity,
            register=register,
            register_training=register_training,
            max_slices=max_slices or None,
            progress=bar,
            warn=warn,
        )
    h, w = manifest.size
    for part in ("train", "val", "test"):
        counts = ", ".join(
            f"{m} {sum(s.count for s in scans)} slices of {len(scans)} subjects"
            for m in manifest.modalities
            if (scans := manifest.scans(part, m))
        )
        typer.echo(f"{part}: {counts or 'nothing'}")
    typer.echo(f"slices of {h}×{w} pixels of {manifest.spacing_mm:.3g} mm in {out}")


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="Folder made by 'syndiff prepare'.")],
    run: Annotated[Path, typer.Argument(help="Folder for the run; new, unless --resume.")],
    source: Annotated[str, typer.Option(help="Modality to translate from.")] = "T1",
    target: Annotated[
        str, typer.Option(help="Modality to make; both directions are trained.")
    ] = "T2",
    preset: Annotated[
        str, typer.Option(help="default, small (two CPU cores), paper or github.")
    ] = "default",
    networks: Annotated[
        str, typer.Option(help="small or full networks with any preset; empty: the preset's.")
    ] = "",
    max_steps: Annotated[
        int, typer.Option(min=0, help="Batches in all; 0: the preset's number of epochs.")
    ] = 0,
    max_minutes: Annotated[
        float, typer.Option(min=0, help="Stop after this many minutes of this call; 0: no limit.")
    ] = 0.0,
    batch_size: Annotated[
        int, typer.Option(min=0, help="Slices of each modality per step; 0: the preset's.")
    ] = 0,
    structure: Annotated[
        float, typer.Option(help="Weight of the structure term; negative: the preset's.")
    ] = -1.0,
    validate_every: Annotated[
        int, typer.Option(min=0, help="Steps between validations; 0: the preset's.")
    ] = 0,
    seed: Seed = 0,
    precision: Annotated[str, typer.Option(help="32 or bf16 (mixed).")] = "32",
    devices: Annotated[str, typer.Option(help="auto, cpu, cuda, or a number of GPUs.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in RUN.")] = False,
) -> None:
    """Train translators between two modalities from unpaired slices."""
    from syndiff.training.presets import choose
    from syndiff.training.run import train as fit

    settings = choose(
        preset,
        networks=networks,
        max_steps=max_steps or None,
        batch_size=batch_size or None,
        structure=structure if structure >= 0 else None,
        validate_every=validate_every or None,
        seed=seed,
    )
    with training_progress() as report:
        outcome = fit(
            data,
            run,
            source=source,
            target=target,
            settings=settings,
            preset=preset,
            max_minutes=max_minutes or None,
            precision=precision,
            devices=devices,
            resume=resume,
            report=report,
            warn=warn,
        )
    if outcome.reason:
        typer.echo(f"{outcome.reason} at step {outcome.step}; saved: continue with --resume")
    for path in outcome.translators:
        typer.echo(f"translator: {path}")
    if outcome.interrupted:
        raise typer.Exit(130)


@app.command()
def translate(
    model: Annotated[
        Path, typer.Argument(help="Translator folder, or 'demo' for the shipped one.")
    ],
    image: Annotated[Path, typer.Argument(metavar="INPUT", help="Volume of the source modality.")],
    output: Annotated[Path, typer.Argument(help="Result, .nii.gz or .nii.")],
    seed: Seed = 0,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    shared_noise: Annotated[
        bool, typer.Option(help="One noise for all slices: coherent along z.")
    ] = True,
) -> None:
    """Translate a volume; the result lies on the grid of INPUT, in the target's units."""
    from syndiff.inference import translate_file

    with progress_bar("slices") as bar:
        translate_file(
            model,
            image,
            output,
            seed=seed,
            batch_size=batch_size,
            device=device,
            shared_noise=shared_noise,
            progress=bar,
            warn=warn,
        )
    typer.echo(f"{output} (synthetic, not for diagnosis)")


@app.command()
def evaluate(
    data: Annotated[Path, typer.Argument(help="Folder made by 'syndiff prepare'.")],
    out: Annotated[
        Path, typer.Argument(help="Folder for metrics.json, metrics.csv, report.html.")
    ],
    model: Annotated[
        list[str] | None, typer.Option(help="NAME=PATH of a translator; repeat for several.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="Subjects to evaluate on: test, val or train.")
    ] = "test",
    source: Annotated[str, typer.Option(help="Source modality; empty: the models'.")] = "",
    target: Annotated[str, typer.Option(help="Target modality; empty: the models'.")] = "",
    profile: Annotated[
        str,
        typer.Option(
            help="How to compare: paper, selfrdb or fixed; empty: fixed for CT, else paper."
        ),
    ] = "",
    seed: Seed = 0,
    batch_size: BatchSize = 8,
    device: Device = "auto",
) -> None:
    """Compare translators with each other and with two baselines; write a report."""
    from syndiff.evaluation.evaluate import evaluate as run

    models: dict[str, Path] = {}
    for item in model or []:
        name, mark, path = item.partition("=")
        if not (mark and name and path):
            raise OptionError(
                f"--model {item}", "NAME=PATH", "e.g. --model mine=run/translators/T1_to_T2"
            )
        if name in models:
            raise OptionError(f"two models named {name!r}", "different names")
        models[name] = Path(path)
    with progress_bar("evaluating") as bar:
        results = run(
            data,
            out,
            models=models,
            split=split,
            source=source or None,
            target=target or None,
            seed=seed,
            profile=profile or None,
            batch_size=batch_size,
            device=device,
            progress=bar,
        )
    for name, values in results["models"].items():
        offset = values.get("offset_px")
        typer.echo(
            f"{name:12} PSNR {values['psnr_db']:6.2f} dB   SSIM {100 * values['ssim']:5.1f} %   "
            f"offset {'unknown' if offset is None else f'{offset:.2f} px'}"
        )
    for message in results["warnings"]:
        warn(message)
    typer.echo(f"report: {out / 'report.html'}")


@app.command()
def info(
    model: Annotated[
        Path, typer.Argument(help="Translator folder, or 'demo' for the shipped one.")
    ],
) -> None:
    """Say what a translator does and where it comes from."""
    from syndiff.inference import describe

    for name, value in describe(model):
        typer.echo(f"{name:18} {value}")


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder for everything the demonstration makes.")],
    minutes: Annotated[float, typer.Option(min=0.1, help="Minutes of training.")] = 4.0,
    subjects: Annotated[int, typer.Option(min=4, help="Virtual subjects.")] = 12,
    seed: Seed = 0,
) -> None:
    """Virtual cohort → prepare → train → translate → evaluate → report, in one command."""
    from syndiff.demo import run

    run(out, minutes=minutes, subjects=subjects, seed=seed, say=typer.echo)


def main() -> None:
    """Entry point: every mendable error is one line and exit code 2."""
    try:
        app()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)


def _listed(text: str) -> list[str]:
    """ "T1, T2" → ["T1", "T2"]."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise OptionError(f"{option} {text}", "a number in mm, or auto") from error
