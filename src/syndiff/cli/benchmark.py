"""The command that measures: benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from syndiff.cli import values
from syndiff.cli.app import Device, Precision, app, listed, whole_numbers
from syndiff.cli.command import is_quiet
from syndiff.cli.outcome import Outcome
from syndiff.reporting import Silent


@app.command()
def benchmark(
    what: Annotated[
        str,
        typer.Option(
            help="train, translate, volume (file to file), or all; export (onnxruntime beside "
            "torch); by commas."
        ),
    ] = "train,translate",
    method: Annotated[values.Method, typer.Option(help="Method to measure.")] = "syndiff",
    preset: Annotated[values.Preset, typer.Option(help="Training preset.")] = "default",
    networks: Annotated[
        values.Networks | None,
        typer.Option(help="Size of the networks with any preset; default: the preset's."),
    ] = None,
    size: Annotated[int, typer.Option(help="Rows and columns of a cross-section.")] = 256,
    batch: Annotated[str, typer.Option(help="Batch sizes, by commas.")] = "1",
    precision: Precision = "32",
    device: Device = "auto",
    warmup: Annotated[int, typer.Option(min=0, help="Calls before the clock runs.")] = 1,
    repeats: Annotated[
        int, typer.Option(min=0, help="Timed calls; 0 counts operations and allocations only.")
    ] = 5,
    slices: Annotated[int, typer.Option(min=1, help="Cross-sections of the volume.")] = 160,
    baseline: Annotated[
        bool,
        typer.Option("--baseline", help="Also the official step, rendered plainly; with ratios."),
    ] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Also our networks compiled by torch: minutes.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Also write the results as JSON.")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Show what changed since this JSON file.")
    ] = None,
) -> Outcome:
    """Time and count training and translation; see docs/performance.md."""
    from syndiff.benchmark.compare import changes, read_benchmark
    from syndiff.benchmark.run import WHATS, Options
    from syndiff.benchmark.run import benchmark as run
    from syndiff.benchmark.table import show, show_changes
    from syndiff.io.atomic import write_json

    old = read_benchmark(compare) if compare else None
    options = Options(
        what=WHATS if what == "all" else tuple(listed(what)),
        method=method,
        preset=preset,
        networks=networks or "",
        size=size,
        batches=tuple(whole_numbers("--batch", batch)),
        precision=precision,
        device=device,
        warmup=warmup,
        repeats=repeats,
        slices=slices,
        baseline=baseline,
        compiled=compiled,
    )
    results = run(options, _Phases())
    if out:
        write_json(out, results)
    show(results)
    if old:
        show_changes(changes(old, results))
    again = ["--compare", str(out)] if out else ["--out", "benchmark.json"]
    return Outcome(
        written={"benchmark": out} if out else {}, figures=results, next=["benchmark", *again]
    )


class _Phases(Silent):
    """A line for each phase."""

    def phase(self, name: str) -> None:
        if not is_quiet():
            typer.echo(name, err=True)
