"""The command node: a DICOM node beside an archive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from syndiff.cli.app import Device, app
from syndiff.cli.command import is_given, is_quiet
from syndiff.cli.outcome import Outcome
from syndiff.cli.patience import loaded


@app.command()
def node(
    context: typer.Context,
    aet: Annotated[str, typer.Option(help="Its own AE title; calls to others are refused.")] = (
        "SYNDIFF"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port it listens on.")] = 11112,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Translator folder or a shipped one's name; takes the series of its source "
            "modality. Several: give it again."
        ),
    ] = None,
    send_to: Annotated[
        list[str] | None, typer.Option(help="Where results go. Several: give it again.")
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            help="Who may send: AET@host or AET@network; give it again for others. "
            "Without: anybody on this machine."
        ),
    ] = None,
    address: Annotated[
        str, typer.Option(help="Address it listens on; 0.0.0.0: all of this machine.")
    ] = "127.0.0.1",
    folder: Annotated[
        Path, typer.Option(help="The queue on disk; it holds patients' data.")
    ] = Path("syndiff-node"),
    quiet_seconds: Annotated[
        float,
        typer.Option(min=0, help="A study is translated when nothing came of it for so long."),
    ] = 10.0,
    min_free_gb: Annotated[
        float, typer.Option(min=0, help="Objects are refused when less would be free on the disk.")
    ] = 2.0,
    again_after_hours: Annotated[
        float,
        typer.Option(min=0, help="The same images are not translated again sooner; 0: always."),
    ] = 1.0,
    device: Device = "auto",
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML with these names and the series that each model takes; options go before "
            "it."
        ),
    ] = None,
) -> Outcome:
    """Run a DICOM node: receive studies, translate what matches, send the results on."""
    from syndiff.node.config import checked_config, read_config
    from syndiff.node.log import Log
    from syndiff.node.receive import check_port, need_pynetdicom

    content = read_config(config) if config else {}
    options: dict[str, Any] = {
        "aet": aet,
        "port": port,
        "models": [{"model": name} for name in model or []],
        "send_to": send_to or [],
        "accept": accept or [],
        "address": address,
        "folder": str(folder),
        "quiet_seconds": quiet_seconds,
        "min_free_gb": min_free_gb,
        "again_after_hours": again_after_hours,
        "device": device,
    }
    given = {"models": bool(model)} | {
        name: is_given(context, name) for name in options if name != "models"
    }
    chosen = {name: value for name, value in options.items() if given[name]}
    checked = checked_config({**content, **chosen}, config)
    need_pynetdicom()
    check_port(checked)
    from syndiff.node.service import serve  # loads torch

    loaded()
    serve(checked, Log(lambda line: typer.echo(line, err=True), only_warnings=is_quiet()))
    return Outcome()
