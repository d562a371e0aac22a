"""The command that looks at a data set before it is trained on: doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from syndiff.cli.app import Modalities, app, listed, option_of
from syndiff.cli.console import console_reporter
from syndiff.cli.outcome import Outcome
from syndiff.cli.prepare import train_command
from syndiff.errors import spelled


@app.command()
def doctor(
    data: Annotated[Path, typer.Argument(help="Prepared folder, or a folder of raw scans.")],
    modalities: Modalities = "T1,T2",
    out: Annotated[
        Path | None, typer.Option(help="The page to write; default: quality.html beside DATA.")
    ] = None,
) -> Outcome:
    """Look for what would spoil training, and draw a page; exit code 1 if there is something.

    --modalities is for raw scans; prepared data know theirs.
    """
    from syndiff.preparation.manifest import FILE_NAME, read_manifest
    from syndiff.quality.findings import SPOILS
    from syndiff.quality.report import examine

    page = out or data.resolve().parent / "quality.html"
    with console_reporter("scans") as report:
        found = examine(data, page, listed(modalities), report)
    spoils = sum(finding.level == SPOILS for finding in found)
    verdict = f"{spoils} findings would spoil training" if spoils else "nothing spoils training"
    prepared = (data / FILE_NAME).is_file()
    following = train_command(data, read_manifest(data).modalities) if prepared else None
    return Outcome(
        lines=[*(spelled(finding.line(), option_of) for finding in found), f"{verdict}: {page}"],
        written={"page": page},
        figures={"spoil_training": spoils, "findings": [vars(finding) for finding in found]},
        next=[] if spoils else following or ["prepare", data, "data", "--modalities", modalities],
        code=1 if spoils else 0,
    )
