"""The command phantom."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from syndiff.cli import values
from syndiff.cli.app import Seed, app, listed
from syndiff.cli.console import console_reporter
from syndiff.cli.outcome import Outcome, unused
from syndiff.errors import OptionError


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder for the cohort (BIDS-like NIfTI).")],
    subjects: Annotated[
        int | None,
        typer.Option(min=1, help="Number of virtual subjects; default: 12, or every label map."),
    ] = None,
    modalities: Annotated[str, typer.Option(help="Any of T1,T2,PD,FLAIR,CT.")] = "T1,T2",
    seed: Seed = 0,
    spacing_mm: Annotated[
        float | None, typer.Option(help="Voxel size in mm; default: 2, or 1 with --anatomy.")
    ] = None,
    lesions: Annotated[int, typer.Option(min=0, help="White-matter lesions per subject.")] = 0,
    misregistration_mm: Annotated[
        float, typer.Option(min=0, help="Random displacement between modalities in mm.")
    ] = 0.0,
    noise: Annotated[
        float, typer.Option(min=0, help="Noise, as a fraction of the brightest tissue.")
    ] = 0.02,
    bias: Annotated[
        float, typer.Option(min=0, help="Depth of the coil's shading, 0 is none.")
    ] = 0.2,
    anatomy: Annotated[
        Path | None,
        typer.Option(help="Folder of label maps (BrainWeb's, FreeSurfer's, SynthSeg's) to scan."),
    ] = None,
    protocol: Annotated[
        values.Protocol | None,
        typer.Option(help="With --anatomy: how the scans are made; default: ixi."),
    ] = None,
) -> Outcome:
    """Make virtual subjects with exact ground truth: images, tissue labels."""
    from syndiff.phantom import write_cohort, write_heads

    if anatomy and (lesions or misregistration_mm):
        raise OptionError("--lesions or --misregistration-mm with --anatomy", "neither")
    if protocol and not anatomy:
        raise OptionError(f"--protocol {protocol} without --anatomy", "label maps to scan")
    chosen = listed(modalities)
    with console_reporter("virtual subjects") as report:
        common: dict[str, Any] = {
            "modalities": chosen, "seed": seed, "noise": noise, "bias": bias, "report": report,
        }  # fmt: skip
        if anatomy:
            made = write_heads(
                out,
                anatomy,
                subjects=subjects or 0,
                spacing_mm=1.0 if spacing_mm is None else spacing_mm,
                protocol=protocol or "ixi",
                **common,
            )
        else:
            made = write_cohort(
                out,
                subjects=subjects or 12,
                spacing_mm=2.0 if spacing_mm is None else spacing_mm,
                lesions=lesions,
                misregistration_mm=misregistration_mm,
                **common,
            )
    data = unused(out.parent / "data")
    return Outcome(
        lines=[f"{len(made)} virtual subjects in {out}"],
        written={"cohort": out},
        figures={"subjects": len(made), "modalities": chosen},
        next=["prepare", out, data, "--modalities", ",".join(chosen)],
    )
