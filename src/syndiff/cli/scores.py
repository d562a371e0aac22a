"""Commands that compare images of any software: score, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from syndiff.cli import values
from syndiff.cli.app import (
    PROFILE,
    Anonymous,
    BatchSize,
    Device,
    Precision,
    ReplaceResults,
    Seed,
    SourceOfModels,
    Split,
    TargetOfModels,
    app,
    listed,
    numbers,
)
from syndiff.cli.console import console_reporter, warn
from syndiff.cli.outcome import Outcome, scores


@app.command()
def score(
    synthetic: Annotated[Path, typer.Argument(help="Synthetic image, or a folder of them.")],
    acquired: Annotated[Path, typer.Argument(help="Acquired image, or a folder of them.")],
    mask: Annotated[
        Path | None,
        typer.Option(help="Mask or folder of masks; default: body or head are found."),
    ] = None,
    profile: Annotated[values.Profile, PROFILE] = "subject",
    unit: Annotated[
        values.Unit,
        typer.Option(help="HU, a.u., or auto: HU where the values are spread like a CT's."),
    ] = "auto",
    value_range: Annotated[
        str, typer.Option("--range", help="The two values that become 0 and 1, LO,HI.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="JSON file for the scores and the profile's parameters.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="HTML file for a one-page commissioning report; for synthetic CT."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that hold no scores of ours.")
    ] = False,
) -> Outcome:
    """Score synthetic images from any software against acquired ones on the same grid."""
    from syndiff.evaluation.commissioning import check, commissioning_page
    from syndiff.evaluation.files import check_files
    from syndiff.evaluation.files import score as run
    from syndiff.evaluation.report import scores_in_words
    from syndiff.io.atomic import write_json, write_text

    check_files([path for path in (out, report) if path is not None], overwrite)
    limits = numbers("--range", value_range, 2) if value_range else None
    with console_reporter("scoring") as reporter:
        scored = run(
            synthetic,
            acquired,
            mask=mask,
            profile=profile,
            unit=unit,
            value_range=(limits[0], limits[1]) if limits else None,
            report=reporter,
        )
    if report is not None:
        check(scored.results["unit"])
    entry = scored.results["scores"]
    lines = [f"{name:16} {scores_in_words(v)}" for name, v in entry["subjects"].items()]
    lines += [
        f"{'mean of people':16} {scores_in_words(entry['person_means'])}",
        f"{'mean of slices':16} {scores_in_words(entry['slice_means'])}",
    ]
    for message in scored.results["warnings"]:
        warn(message)
    written: dict[str, Path] = {}
    if out is not None:
        write_json(out, scored.results)
        written["scores"] = out
    if report is not None:
        write_text(report, commissioning_page(scored))
        written["report"] = report
    lines += [f"{what}: {path}" for what, path in written.items()]
    return Outcome(lines, written, {"profile": profile, "scores": entry})


@app.command()
def compare(
    method: Annotated[
        list[str],
        typer.Argument(
            help="NAME=PATH of a translator, a run, or a folder of images from any software."
        ),
    ],
    data: Annotated[Path, typer.Option(help="Folder made by 'syndiff prepare'.")],
    out: Annotated[Path, typer.Option(help="Folder for tables, pictures and the report.")],
    against: Annotated[
        str, typer.Option(help="Method that the others are tested against; default: the first.")
    ] = "",
    metrics: Annotated[
        str, typer.Option(help="Columns of the table, e.g. psnr_db,ssim; default: the profile's.")
    ] = "",
    by: Annotated[
        values.By,
        typer.Option(help="subject; or slice: the paper's way, which takes slices for people."),
    ] = "subject",
    split: Split = "test",
    source: SourceOfModels = "",
    target: TargetOfModels = "",
    profile: Annotated[values.Profile, PROFILE] = "subject",
    anonymous: Anonymous = True,
    overwrite: ReplaceResults = False,
    seed: Seed = 0,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    precision: Precision = "32",
) -> Outcome:
    """Compare methods in one table with baselines, significance and pictures."""
    from syndiff.evaluation.candidates import How
    from syndiff.evaluation.compare import compare as run

    methods = values.paths_by_name("METHOD", method, "mine=run")
    with console_reporter("comparing") as report:
        content = run(
            data,
            out,
            methods=methods,
            against=against,
            metrics=listed(metrics),
            by=by,
            split=split,
            source=source or None,
            target=target or None,
            profile=profile,
            anonymous=anonymous,
            overwrite=overwrite,
            how=How(seed, batch_size, device, precision),
            report=report,
        )
    for message in content["warnings"]:
        warn(message)
    return Outcome(
        [(out / "table.md").read_text(encoding="utf-8"), f"tables, pictures and report: {out}"],
        {"table": out / "table.md", "comparison": out / "comparison.json"},
        {"models": scores(content), "comparisons": content["comparisons"]},
    )
