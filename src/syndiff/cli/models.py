"""Commands around a trained translator: translate, evaluate, info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from syndiff.cli.app import BatchSize, Device, Seed, app
from syndiff.console import progress_bar, warn
from syndiff.errors import OptionError


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
