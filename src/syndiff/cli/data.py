"""The command phantom."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from syndiff.cli import values
from syndiff.cli.app import Seed, app, listed
from syndiff.cli.console import console_reporter
from syndiff.cli.outcome import Outcome, unused
from syndiff.errors import OptionError

PELVIS = "pelvis"  # the value of --anatomy that is no folder


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
        float | None, typer.Option(help="Voxel size in mm; default: 2, or 1 with label maps.")
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
        typer.Option(
            help="pelvis, or a folder of label maps (of BrainWeb, FreeSurfer, SynthSeg) to scan."
        ),
    ] = None,
    protocol: Annotated[
        values.Protocol | None,
        typer.Option(
            help="With --anatomy: how the scans are made; default: ixi, of a pelvis gold-atlas."
        ),
    ] = None,
    organ_motion: Annotated[
        bool,
        typer.Option(
            "--organ-motion", help="In a pelvis: CT of another day: other bladder, rectum and gas."
        ),
    ] = False,
) -> Outcome:
    """Make virtual subjects with exact ground truth: images, tissue labels."""
    from syndiff.phantom import write_cohort, write_heads

    chosen = listed(modalities)
    pelvis = anatomy == Path(PELVIS)
    _check_anatomy(anatomy, protocol, bool(lesions or misregistration_mm), organ_motion)
    with console_reporter("virtual subjects") as report:
        common: dict[str, Any] = {"modalities": chosen, "report": report}
        scanner: dict[str, Any] = {"seed": seed, "noise": noise, "bias": bias}
        if spacing_mm is not None:
            scanner["spacing_mm"] = spacing_mm
        if pelvis:
            made = _write_pelves(out, subjects or 12, common, scanner, protocol, organ_motion)
        elif anatomy:
            made = write_heads(
                out, anatomy, subjects=subjects or 0, protocol=protocol or "ixi",
                **common, **scanner,
            )  # fmt: skip
        else:
            made = write_cohort(
                out, subjects=subjects or 12, lesions=lesions,
                misregistration_mm=misregistration_mm, **common, **scanner,
            )  # fmt: skip
    data = unused(out.parent / "data")
    return Outcome(
        lines=[f"{len(made)} virtual subjects in {out}"],
        written={"cohort": out},
        figures={"subjects": len(made), "modalities": chosen},
        next=["prepare", out, data, "--modalities", ",".join(chosen)],
    )


def _check_anatomy(
    anatomy: Path | None, protocol: str | None, of_heads: bool, organ_motion: bool
) -> None:
    """Refuse options that the chosen anatomy does not have."""
    pelvis = anatomy == Path(PELVIS)
    if anatomy and of_heads:
        raise OptionError("--lesions or --misregistration-mm with --anatomy", "neither")
    if organ_motion and not pelvis:
        raise OptionError("--organ-motion without --anatomy pelvis", "a pelvis, or none of it")
    if protocol and not anatomy:
        raise OptionError(f"--protocol {protocol} without --anatomy", "label maps to scan")
    known = get_args(values.PelvisProtocol if pelvis else values.HeadProtocol)
    if protocol and protocol not in known:
        raise OptionError(
            f"--protocol {protocol} with --anatomy {anatomy}", f"one of {', '.join(known)}"
        )


def _write_pelves(
    out: Path, subjects: int, common: dict[str, Any], scanner: dict[str, Any],
    protocol: str | None, organ_motion: bool,
) -> list[Path]:  # fmt: skip
    from syndiff.phantom.pelvis import Settings, write_pelves

    settings = Settings(**scanner, organ_motion=organ_motion)
    if protocol:
        settings = replace(settings, protocol=protocol)
    return write_pelves(out, subjects=subjects, settings=settings, **common)
