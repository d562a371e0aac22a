"""Commands that train: train, methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from syndiff.cli.app import Compile, Seed, app, listed
from syndiff.cli.training_console import training_console
from syndiff.errors import OptionError


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="Folder made by 'syndiff prepare'.")],
    run: Annotated[Path, typer.Argument(help="Folder for the run; new, unless --resume.")],
    source: Annotated[
        str,
        typer.Option(
            help="Modality to translate from; several together: T1,PD; "
            "none: learn the target alone, for 'syndiff sample'."
        ),
    ] = "T1",
    target: Annotated[
        str, typer.Option(help="Modality to make; with one source both directions are trained.")
    ] = "T2",
    pairing: Annotated[
        str,
        typer.Option(
            help="unpaired; paired: supervised, on subjects with all modalities on one grid; "
            "or mixed: on both kinds of subjects."
        ),
    ] = "unpaired",
    method: Annotated[
        str, typer.Option(help="What to train; 'syndiff methods' lists them.")
    ] = "syndiff",
    preset: Annotated[
        str, typer.Option(help="default, small (two CPU cores), paper or github (SynDiff only).")
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
    accumulate: Annotated[
        int,
        typer.Option(
            min=1, help="Parts that a batch goes through in: less memory, same gradients, slower."
        ),
    ] = 1,
    recompute: Annotated[
        bool,
        typer.Option(
            "--recompute", help="Keep fewer activations: less memory, same gradients, slower."
        ),
    ] = False,
    structure: Annotated[
        float, typer.Option(help="Weight of the structure term; negative: the preset's.")
    ] = -1.0,
    spectral_norm: Annotated[
        bool,
        typer.Option("--spectral-norm", help="Normalise the discriminators; for unstable runs."),
    ] = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="NAME=VALUE of the method's hyper-parameters; repeat for several."
        ),
    ] = None,
    one_shot: Annotated[
        Path | None,
        typer.Option(help="Earlier run whose one-shot module this one begins with."),
    ] = None,
    validate_every: Annotated[
        int, typer.Option(min=0, help="Steps between validations; 0: the preset's.")
    ] = 0,
    seed: Seed = 0,
    precision: Annotated[str, typer.Option(help="32 or bf16 (mixed).")] = "32",
    compiled: Compile = False,
    devices: Annotated[
        str, typer.Option(help="auto, cpu, cuda, or a number of GPUs (processes without GPUs).")
    ] = "auto",
    nodes: Annotated[
        int, typer.Option(min=0, help="Machines; 0: as many as torchrun or srun uses, else one.")
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in RUN.")] = False,
) -> None:
    """Train translators between modalities, from unpaired slices unless --pairing says else."""
    from syndiff.training.presets import choose
    from syndiff.training.run import train as fit

    settings = choose(
        preset,
        networks,
        method=method,
        assignments=assignments or (),
        max_steps=max_steps or None,
        batch_size=batch_size or None,
        accumulate=accumulate,
        recompute=recompute,
        structure=structure if structure >= 0 else None,
        spectral_norm=spectral_norm or None,
        pairing=pairing,
        validate_every=validate_every or None,
        seed=seed,
    )
    with training_console() as report:
        outcome = fit(
            data,
            run,
            source=_sources(source),
            target=target,
            settings=settings,
            one_shot=one_shot,
            preset=preset,
            max_minutes=max_minutes or None,
            precision=precision,
            compiled=compiled,
            devices=devices,
            nodes=nodes,
            resume=resume,
            report=report,
        )
    if outcome.reason:
        typer.echo(f"{outcome.reason} at step {outcome.step}; saved: continue with --resume")
    for path in outcome.translators:
        typer.echo(f"translator: {path}")
    if outcome.interrupted:
        raise typer.Exit(130)


def _sources(text: str) -> list[str]:
    """Of --source; "none" → []."""
    sources = listed(text)
    if not sources:
        raise OptionError("an empty `source`", "a modality, or none")
    return [] if sources == ["none"] else sources


@app.command()
def methods(
    size: Annotated[
        int, typer.Option(min=32, help="Rows and columns of the counted slice.")
    ] = 256,
) -> None:
    """List the methods: where they come from, parameters, operations per translated slice."""
    from syndiff.benchmark.method_table import describe_methods

    typer.echo(f"Networks of the paper; a slice of {size}×{size} pixels.\n")
    typer.echo(
        f"{'method':10} {'paper':50} {'trained':>9} {'used':>9} {'GFLOP':>9} {'steps':>6}  noise"
    )
    for line in describe_methods(size=size):
        typer.echo(
            f"{line.method.name:10} {line.method.paper:50} {line.parameters / 1e6:7.1f} M "
            f"{line.translator_parameters / 1e6:7.1f} M {line.gflop:9,.0f} "
            f"{line.sampling_steps or 1:6}  {'yes' if line.method.stochastic else 'no'}"
        )
    typer.echo("\ntrained: parameters of all networks; used: of those that a translation needs.")
