"""Commands that compare images of any software: score, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from syndiff.cli.app import app, numbers
from syndiff.cli.console import console_reporter, warn

ProfileName = Annotated[
    str,
    typer.Option(
        help="How to compare: subject (inside the head or body, per subject), paper, github, "
        "selfrdb, synthrad2023, synthrad2025, brasyn or fixed (docs/evaluation.md)."
    ),
]


@app.command()
def score(
    synthetic: Annotated[Path, typer.Argument(help="Synthetic image, or a folder of them.")],
    acquired: Annotated[Path, typer.Argument(help="Acquired image, or a folder of them.")],
    mask: Annotated[
        Path | None,
        typer.Option(help="Mask or folder of masks; default: body or head are found."),
    ] = None,
    profile: ProfileName = "subject",
    unit: Annotated[
        str, typer.Option(help="HU, a.u., or auto: HU where the values are spread like a CT's.")
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
) -> None:
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
    scores = scored.results["scores"]
    for subject, values in scores["subjects"].items():
        typer.echo(f"{subject:16} {scores_in_words(values)}")
    typer.echo(f"{'mean of subjects':16} {scores_in_words(scores['subject_means'])}")
    typer.echo(f"{'mean of slices':16} {scores_in_words(scores['slice_means'])}")
    for message in scored.results["warnings"]:
        warn(message)
    if out is not None:
        write_json(out, scored.results)
        typer.echo(f"scores: {out}")
    if report is not None:
        write_text(report, commissioning_page(scored))
        typer.echo(f"report: {report}")
