"""Commands that train: train, methods."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from syndiff.cli import values
from syndiff.cli.app import Compile, Precision, Seed, app, listed
from syndiff.cli.command import is_given
from syndiff.cli.outcome import Outcome, unused
from syndiff.cli.training_console import training_console
from syndiff.errors import OptionError


@app.command()
def train(
    context: typer.Context,
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
        values.Pairing,
        typer.Option(
            help="unpaired; paired: supervised, on subjects with all modalities on one grid; "
            "or mixed: on both kinds of subjects."
        ),
    ] = "unpaired",
    method: Annotated[
        values.Method, typer.Option(help="What to train; 'syndiff methods' lists them.")
    ] = "syndiff",
    preset: Annotated[
        values.Preset,
        typer.Option(help="Sizes and rates; small: for two CPU cores; github: SynDiff only."),
    ] = "default",
    networks: Annotated[
        values.Networks | None,
        typer.Option(help="Size of the networks with any preset; default: the preset's."),
    ] = None,
    max_steps: Annotated[
        int, typer.Option(min=0, help="Batches in all; 0: the preset's number of epochs.")
    ] = 0,
    max_minutes: Annotated[
        float, typer.Option(min=0, help="Stop after this many minutes of this call; 0: no limit.")
    ] = 0.0,
    epochs: Annotated[
        int, typer.Option(min=0, help="Passes over the data; 0: the preset's. --max-steps wins.")
    ] = 0,
    generator_lr: Annotated[
        float, typer.Option(min=0, help="Learning rate of the generators; 0: the preset's.")
    ] = 0.0,
    discriminator_lr: Annotated[
        float, typer.Option(min=0, help="Learning rate of the discriminators; 0: the preset's.")
    ] = 0.0,
    ema_decay: Annotated[
        float,
        typer.Option(help="Of the generators' average; 0: none; negative: the preset's."),
    ] = -1.0,
    disjoint_subjects: Annotated[
        bool,
        typer.Option("--disjoint-subjects", help="Nobody gives slices of both modalities."),
    ] = False,
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
            "--set",
            help="NAME=VALUE of a hyper-parameter of method or training; repeat for several.",
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
    precision: Precision = "32",
    compiled: Compile = False,
    devices: Annotated[
        str, typer.Option(help="auto, cpu, cuda, or a number of GPUs (processes without GPUs).")
    ] = "auto",
    nodes: Annotated[
        int, typer.Option(min=0, help="Machines; 0: as many as torchrun or srun uses, else one.")
    ] = 0,
    final_lr: Annotated[
        str, typer.Option(help="Where the cosine of both rates ends; none: constant rates.")
    ] = "",
    linear_decay_epochs: Annotated[
        int, typer.Option(min=0, help="Both rates fall to 0 over these last epochs instead.")
    ] = 0,
    decay_with_minutes: Annotated[
        bool | None,
        typer.Option(
            "--decay-with-minutes/--decay-with-steps",
            help="What ends decay and phases; default: minutes, where they alone are the limit.",
        ),
    ] = None,
    augment: Annotated[
        bool, typer.Option("--augment/--no-augment", help="Mirror and shift slices at random.")
    ] = True,
    image_pool: Annotated[
        int, typer.Option(min=0, help="Past fakes shown to discriminators (cGAN, AttGAN, SAGAN).")
    ] = 0,
    one_shot_first: Annotated[
        float,
        typer.Option(
            min=0, max=0.99, help="Share of the steps in which SynDiff's one-shot module is alone."
        ),
    ] = 0.0,
    pairs_from: Annotated[
        Path | None,
        typer.Option(help="Another prepared folder: its pairs beside DATA's unpaired slices."),
    ] = None,
    pair_share: Annotated[
        float, typer.Option(min=0, max=0.99, help="Of pairs in mixed training; 0: by number.")
    ] = 0.0,
    keep_checkpoints: Annotated[
        bool, typer.Option("--keep-checkpoints", help="Keep the average of every validation.")
    ] = False,
    one_shot_frozen: Annotated[
        bool | None,
        typer.Option(
            "--one-shot-frozen/--one-shot-learns", help="What SynDiff's one-shot module does then."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML of such values, as RUN/run.yaml holds them; options go before it."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in RUN, with its options.")
    ] = False,
) -> Outcome:
    """Train translators between modalities, from unpaired slices unless --pairing says else."""
    from syndiff.objectives.methods import method_of
    from syndiff.training.presets import choose
    from syndiff.training.record import kept_request
    from syndiff.training.run_config import read_config, settings_of

    def given(name: str, value: Any) -> Any:
        """A value that somebody typed; else None, which leaves that of the preset or the run."""
        return value if is_given(context, name) else None

    if config and resume:
        raise OptionError("`config` with `resume`", "one of them", "a run goes on with its own")
    if decay_with_minutes and not max_minutes:
        raise OptionError("`decay_with_minutes` without `max_minutes`", "both")
    if pairs_from and not is_given(context, "pairing"):
        pairing = "mixed"
    written = read_config(config) if config else {}
    kept = kept_request(run) if resume else None
    base = kept.settings if kept else None
    if written:
        base = settings_of(written, given("method", method) or "", given("preset", preset) or "")
    if kept and given("method", method) not in (None, method_of(kept.settings.objective).name):
        raise OptionError(
            f"`method` {method}", f"{method_of(kept.settings.objective).name}, as {run} has it"
        )
    settings = choose(
        preset,
        networks or "",
        method=method_of(base.objective).name if base else method,
        assignments=(*([f"final_lr={final_lr}"] if final_lr else []), *(assignments or ())),
        base=base,
        max_steps=given("max_steps", max_steps),
        epochs=epochs or None,
        batch_size=batch_size or None,
        accumulate=given("accumulate", accumulate),
        recompute=given("recompute", recompute),
        generator_lr=generator_lr or None,
        discriminator_lr=discriminator_lr or None,
        ema_decay=ema_decay if ema_decay >= 0 else None,
        structure=structure if structure >= 0 else None,
        spectral_norm=spectral_norm or None,
        pairing=pairing if pairs_from else given("pairing", pairing),
        linear_decay_epochs=given("linear_decay_epochs", linear_decay_epochs),
        decay_minutes=max_minutes if decay_with_minutes else None,
        augment=given("augment", augment),
        image_pool=given("image_pool", image_pool),
        one_shot_first=given("one_shot_first", one_shot_first),
        one_shot_frozen=one_shot_frozen,
        pair_share=given("pair_share", pair_share),
        keep_checkpoints=given("keep_checkpoints", keep_checkpoints),
        shared_subjects=False if disjoint_subjects else None,
        validate_every=validate_every or None,
        seed=given("seed", seed),
    )
    from syndiff.training.processes import is_alone  # slow; the options are checked by now
    from syndiff.training.run import train as fit

    limits = max_steps, epochs, linear_decay_epochs, resume, config
    if decay_with_minutes is None and max_minutes and not any(limits) and is_alone(devices, nodes):
        # The clock alone ends this run, so decay and phases end with it.
        settings = replace(settings, decay_minutes=max_minutes)
    if written:
        if not given("source", source):
            source = written.get("source", source).replace("+", ",") or "none"
        target = given("target", target) or written.get("target") or target
        preset = given("preset", preset) or written.get("preset") or preset
        one_shot, pairs_from = (
            typed or (Path(written[name]) if written.get(name) else None)
            for name, typed in (("one_shot", one_shot), ("pairs_from", pairs_from))
        )
    with training_console() as report:
        outcome = fit(
            data,
            run,
            source=None if kept and given("source", source) is None else _sources(source),
            target=given("target", target) if kept else target,
            settings=settings,
            one_shot=one_shot,
            pairs_from=pairs_from,
            preset=given("preset", preset) if kept else preset,
            max_minutes=max_minutes or None,
            precision=given("precision", precision) or written.get("precision"),
            compiled=compiled,
            devices=devices,
            nodes=nodes,
            resume=resume,
            report=report,
        )
    where = {"devices": devices, "nodes": nodes, "compile": compiled}
    again = _again(data, run, {k: v for k, v in where.items() if given(k, v) or v is True})
    lines = []
    if outcome.reason:
        lines.append(
            f"{outcome.reason} at step {outcome.step}; saved. Continue: {shlex.join(again)}"
        )
    return Outcome(
        lines=[*lines, *(f"translator: {path}" for path in outcome.translators)],
        written={"run": run, "translators": outcome.translators},
        figures={"step": outcome.step, "ended": outcome.reason or "finished"},
        next=_after_training(data, outcome.translators) or again[1:],
        code=130 if outcome.interrupted else 0,
    )


def _again(data: Path, run: Path, where: dict[str, Any]) -> list[str]:
    """The whole command that goes on; all but where it runs is kept with the run."""
    words = ["syndiff", "train", str(data), str(run), "--resume"]
    for name, value in where.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return words


def _after_training(data: Path, translators: Sequence[Path]) -> list[str | Path]:
    """Evaluate, or make slices of nobody; nothing if there is no translator yet."""
    if not translators:
        return []
    first = translators[0]
    if "_to_" not in first.name:
        return ["sample", first, unused(data.parent / "slices")]
    return ["evaluate", data, unused(data.parent / "report"), "--model", f"mine={first}"]


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
) -> Outcome:
    """List the methods: where they come from, parameters, operations per translated slice."""
    from syndiff.benchmark.method_table import describe_methods

    rows = describe_methods(size=size)
    lines = [
        f"Networks of the paper; a slice of {size}×{size} pixels.\n",
        f"{'method':10} {'paper':50} {'trained':>9} {'used':>9} {'GFLOP':>9} {'steps':>6}  noise",
    ]
    lines += [
        f"{row.method.name:10} {row.method.paper:50} {row.parameters / 1e6:7.1f} M "
        f"{row.translator_parameters / 1e6:7.1f} M {row.gflop:9,.0f} "
        f"{row.sampling_steps or 1:6}  {'yes' if row.method.stochastic else 'no'}"
        for row in rows
    ]
    lines.append("\ntrained: parameters of all networks; used: of those that a translation needs.")
    figures = {
        row.method.name: {
            "paper": row.method.paper,
            "parameters": row.parameters,
            "translator_parameters": row.translator_parameters,
            "gflop": row.gflop,
            "sampling_steps": row.sampling_steps or 1,
            "stochastic": row.method.stochastic,
        }
        for row in rows
    }
    return Outcome(lines=lines, figures=figures, next=["train", "DATA", "RUN", "--method", "unit"])
