"""Commands for the whole way: demo, run, plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from syndiff.cli import values
from syndiff.cli.app import Device, Precision, Seed, app, listed, option_of
from syndiff.cli.command import is_quiet
from syndiff.cli.console import console_reporter
from syndiff.cli.outcome import Outcome, scores
from syndiff.cli.training_console import training_console
from syndiff.errors import spelled


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder for everything the demonstration makes.")],
    minutes: Annotated[float, typer.Option(min=0.1, help="Minutes of training.")] = 4.0,
    subjects: Annotated[int, typer.Option(min=4, help="Virtual subjects.")] = 12,
    seed: Seed = 0,
) -> Outcome:
    """Virtual cohort → prepare → train → translate → evaluate → report, in one command."""
    from syndiff.demo import run as show

    results = show(
        out,
        minutes=minutes,
        subjects=subjects,
        seed=seed,
        say=_say(),
        listen=_listen,
    )
    return Outcome(
        written={
            "report": out / "report.html",
            "translators": sorted((out / "run" / "translators").glob("*")),
        },
        figures={"models": scores(results)},
        next=["prepare", "YOUR_SCANS", "data"],
    )


@app.command()
def run(
    raw: Annotated[Path, typer.Argument(help="Folder of scans: BIDS, subject/T1.nii.gz or T1/….")],
    out: Annotated[
        Path, typer.Argument(help="Folder for everything: data, run, report; new, or to continue.")
    ],
    source: Annotated[str, typer.Option("--from", help="Modality to translate from, e.g. T1.")],
    target: Annotated[str, typer.Option("--to", help="Modality to make, e.g. T2.")],
    minutes: Annotated[
        float,
        typer.Option(
            min=1, help="Minutes for all of it; training gets what preparation and report leave."
        ),
    ] = 12.0,
    size: Annotated[
        int | None,
        typer.Option(min=16, help="In-plane size in pixels; default: what the minutes allow."),
    ] = None,
    preset: Annotated[
        values.Preset | None,
        typer.Option(help="Unless given, 'default' on a GPU and 'small' on a CPU."),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> Outcome:
    """Scans → prepare → train → evaluate → report, in one command and in the given minutes.

    People are divided 80/10/10 into training, validation and test, by their names. Size, batch,
    preset and number of steps are chosen and stated; each step prints the command that repeats it.
    The same command continues what was interrupted. A longer run gives a better translator: see
    'syndiff plan'.
    """
    from syndiff.workflow.run import a_scan
    from syndiff.workflow.run import run as walk
    from syndiff.workflow.stages import Teller

    results = walk(
        raw,
        out,
        source=source,
        target=target,
        minutes=minutes,
        size=size,
        preset=preset,
        seed=seed,
        device=device,
        teller=Teller(_say(), _listen),
    )
    model = out / "run" / "translators" / f"{source}_to_{target}"
    report = {"report": out / "report" / "report.html"} if results else {}
    scan = a_scan(raw, out, source)
    return Outcome(
        written={"translator": model, **report},
        figures={"models": scores(results)} if results else {},
        next=["translate", model, scan, f"{target}_synthetic{'' if scan.is_dir() else '.nii.gz'}"],
    )


@app.command()
def plan(
    data: Annotated[Path, typer.Argument(help="Folder made by 'syndiff prepare'.")],
    source: Annotated[str, typer.Option("--from", help="Modality; default: the first.")] = "",
    target: Annotated[str, typer.Option("--to", help="Modality; default: the second.")] = "",
    presets: Annotated[
        str, typer.Option(help="Presets to measure, separated by commas.")
    ] = "default,small,paper,github",
    seconds: Annotated[
        float, typer.Option(min=1, help="Seconds for all measurements together, about.")
    ] = 60.0,
    method: Annotated[
        values.Method, typer.Option(help="What to train; 'syndiff methods' lists them.")
    ] = "syndiff",
    device: Device = "auto",
    precision: Precision = "32",
) -> Outcome:
    """Measure how long each preset trains on this machine, and what memory it needs.

    A few real steps of each preset are timed at the size of DATA. Times are of the training steps
    alone; validations and the export come on top.
    """
    with console_reporter("planning") as report:
        from syndiff.workflow.plan import plan as measure
        from syndiff.workflow.plan import suggested, table

        plans = measure(
            data,
            source=source or None,
            target=target or None,
            presets=listed(presets),
            method=method,
            seconds=seconds,
            device=device,
            precision=precision,
            report=report,
        )
    return Outcome(
        lines=[spelled(line, option_of) for line in table(plans)],
        figures={
            plan.preset: {"steps": plan.steps, "seconds_a_step": _step_seconds(plan)}
            for plan in plans
        },
        next=["train", data, "RUN", "--preset", suggested(plans).preset],
    )


def _step_seconds(plan: Any) -> float:
    """Of a preset's own batch at the size of the data."""
    return float(plan.pace.step_seconds(plan.settings.batch_size, plan.size))


def _say() -> Callable[[str], None]:
    """Tells the stages; nobody with --quiet."""
    return (lambda line: None) if is_quiet() else typer.echo


@contextmanager
def _listen(what: str) -> Iterator[Any]:
    """Who follows the progress of a stage."""
    with training_console() if what == "training" else console_reporter(what) as report:
        yield report
