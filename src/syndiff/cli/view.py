"""The command view: a translation on a page, served on this machine or written as one file."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from syndiff.cli.app import app
from syndiff.cli.console import console_reporter, warn
from syndiff.cli.outcome import Outcome

if TYPE_CHECKING:
    from syndiff.view import Case


@app.command()
def view(
    source: Annotated[
        Path, typer.Argument(help="Image that was translated, or any image alone; file or DICOM.")
    ],
    synthetic: Annotated[Path | None, typer.Argument(help="What a translator made of it.")] = None,
    acquired: Annotated[
        Path | None, typer.Argument(help="Acquired image of that modality; gives an error map.")
    ] = None,
    trust: Annotated[
        Path | None, typer.Option(help="Map to lay over the synthetic image.")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="Write the page as one HTML file, which opens without a server."),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port on this machine; 0: a free one.")
    ] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in your browser.")] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an HTML file that is no page of ours.")
    ] = False,
) -> Outcome:
    """Look at a translation: source, synthetic and acquired image side by side, linked."""
    from syndiff.io.atomic import write_text
    from syndiff.view import exported, read_case
    from syndiff.view.page import check_page

    if export is not None:
        check_page(export, overwrite)
    with console_reporter("view") as report:
        report.phase("reading the images")
        case = read_case(source, synthetic, acquired, trust)
    figures = {"images": [{"role": i.role, "unit": i.unit} for i in case.images]}
    if export is None:
        _serve(case, port, browser)
    write_text(export, exported(case))
    size_mb = export.stat().st_size / 1e6
    lines = [f"{export} ({size_mb:.0f} MB): open it in a browser; it holds the images"]
    return Outcome(lines, {"page": export}, figures)


def _serve(case: Case, port: int, browser: bool) -> NoReturn:
    """Serve a case until Ctrl-C."""
    import threading

    from syndiff.view import served, site

    with served(site(case), port) as page:
        typer.echo(f"{page.url}\nonly this machine can open it; Ctrl-C ends it", err=True)
        if browser and not webbrowser.open(page.url):
            warn("no browser was found: open the address yourself")
        while True:
            threading.Event().wait()
