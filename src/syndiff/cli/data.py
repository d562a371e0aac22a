"""Commands that make data: phantom, prepare."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from syndiff.cli import values
from syndiff.cli.app import Modalities, Seed, app, listed, number
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


@app.command()
def prepare(
    raw: Annotated[Path, typer.Argument(help="Folder of scans: BIDS, subject/T1.nii.gz or T1/….")],
    out: Annotated[Path, typer.Argument(help="Folder for slices and manifest.json.")],
    modalities: Modalities = "T1,T2",
    split: Annotated[
        str,
        typer.Option(
            help="People per split, by their names: train=8,val=2,test=2, or percents "
            "such as 80/10/10, the default. All visits of a person go together."
        ),
    ] = "",
    split_file: Annotated[
        Path | None,
        typer.Option(
            help="Table with the columns subject (or participant_id) and split, instead."
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            help="Table of scans where RAW has no known layout: columns subject, modality, file; "
            "session and split if you like."
        ),
    ] = None,
    write_table: Annotated[
        Path | None,
        typer.Option(help="Write what was found as such a table, to be corrected, and end."),
    ] = None,
    prefer: Annotated[
        str,
        typer.Option(
            help="Words of names to take first where a scan has several versions, e.g. acq-mprage."
        ),
    ] = "",
    unpaired_people: Annotated[
        bool,
        typer.Option("--unpaired-people", help="Equal names in two modalities are two people."),
    ] = False,
    across_visits: Annotated[
        bool,
        typer.Option("--across-visits", help="Two visits of a person may make a pair."),
    ] = False,
    allow_synthetic: Annotated[
        bool, typer.Option("--allow-synthetic", help="Take synthetic images for scans.")
    ] = False,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Go on without scans that cannot be used; name them."),
    ] = False,
    size: Annotated[
        int, typer.Option(min=16, help="In-plane size of the slices in pixels.")
    ] = 256,
    spacing_mm: Annotated[
        str,
        typer.Option(help="In-plane pixel size in mm; auto: the finest that holds every head."),
    ] = "auto",
    intensity: Annotated[
        values.Intensity,
        typer.Option(help="MR intensities: robust (99.9th percentile) or paper (maximum)."),
    ] = "robust",
    ct_window: Annotated[
        str,
        typer.Option(
            help="HU that CT is trained on: soft (-160 to 240), bone (-500 to 1300), full (-1024 "
            "to 3000), LO,HI, or paper (divided by its mean, as MR is in the paper)."
        ),
    ] = "full",
    units: Annotated[
        values.Units, typer.Option(help="HU: the CT scans are in HU although no air is in view.")
    ] = "auto",
    register: Annotated[
        bool, typer.Option(help="Register validation and test subjects onto the first modality.")
    ] = True,
    register_training: Annotated[
        bool, typer.Option(help="Register training subjects that have several modalities, too.")
    ] = True,
    max_slices: Annotated[
        int,
        typer.Option(
            min=0,
            help="At most this many slices per volume, the uppermost ones (paper: 100); 0: all.",
        ),
    ] = 0,
    orientation: Annotated[
        str,
        typer.Option(
            help=".mat only: where rows and columns grow to in the official code's pictures; "
            "default: PL (anterior at the top, the patient's right on the left)."
        ),
    ] = "",
    paired: Annotated[
        str,
        typer.Option(
            help=".mat only: splits whose slices of one index belong together, e.g. val,test."
        ),
    ] = "",
) -> Outcome:
    """Turn a folder of raw scans into slices for training, and record how.

    RAW may also hold the official SynDiff code's data_train_T1.mat, …: they know their splits, and
    --spacing-mm is then the size of their pixels, which must be given.
    """
    from syndiff.preparation.official_mat import is_official
    from syndiff.preparation.recipe import prepare as run
    from syndiff.preparation.split import parse_split
    from syndiff.preparation.summary import summary

    parts = parse_split(split) if split else None
    who: dict[str, Any] = {
        "prefer": listed(prefer),
        "unpaired_people": unpaired_people,
        "across_visits": across_visits,
    }
    if write_table is not None:
        return _write_table(raw, write_table, listed(modalities), parts, split_file, table, who)
    with console_reporter("preparing") as report:
        manifest = run(
            raw,
            out,
            modalities=listed(modalities),
            split=parts,
            split_file=split_file,
            table=table,
            **who,
            allow_synthetic=allow_synthetic,
            skip_bad=skip_bad,
            size=size,
            spacing_mm=None if spacing_mm == "auto" else number("--spacing-mm", spacing_mm),
            intensity=intensity,
            ct_window=ct_window,
            units=units,
            register=register,
            register_training=register_training,
            max_slices=max_slices or None,
            orientation=orientation or None,
            paired=listed(paired) or None,
            report=report,
        )
    return Outcome(
        lines=summary(manifest, out, "files" if is_official(raw) else "subjects"),
        written={"data": out, "manifest": out / "manifest.json"},
        figures=_figures(manifest),
        next=["doctor", out],
    )


def _figures(manifest: Any) -> dict[str, Any]:
    """People, scans and slices by split; size and spacing of the slices."""
    scans = [s for s in manifest.all_scans() if s.split]
    return {
        "modalities": list(manifest.modalities),
        "size": list(manifest.size),
        "spacing_mm": manifest.spacing_mm,
        "splits": {
            split: {
                "people": len({s.person for s in scans if s.split == split}),
                "scans": sum(s.split == split for s in scans),
                "slices": sum(s.count for s in scans if s.split == split),
            }
            for split in dict.fromkeys(s.split for s in scans)
        },
    }


def train_command(data: Path, modalities: Sequence[str]) -> list[str | Path]:
    """The command that trains on prepared data; small networks where there is no GPU."""
    source, target = modalities[:2] if len(modalities) > 1 else ("none", modalities[0])
    words: list[str | Path] = ["train", data, unused(data.parent / "run")]
    words += ["--source", source, "--target", target]
    return words if shutil.which("nvidia-smi") else [*words, "--preset", "small"]


def _write_table(
    raw: Path,
    out: Path,
    modalities: list[str],
    split: Any,
    split_file: Path | None,
    table: Path | None,
    who: dict[str, Any],
) -> Outcome:
    """Write the scans that were found as a table; what is unclear is guessed there."""
    from syndiff.preparation.discover import Choice, find_cohort
    from syndiff.preparation.split import assign
    from syndiff.preparation.table import read_table
    from syndiff.preparation.table import write_table as write

    if table is not None:
        cohort = read_table(table, raw, modalities)
    else:
        cohort = find_cohort(raw, modalities, Choice(**who), strict=False)
    asked = split is not None or split_file is not None
    write(out, cohort, assign(cohort, modalities, split, split_file) if asked else {})
    scans = sum(len(of) for of in cohort.files.values())
    return Outcome(
        lines=[
            f"{scans} scans of {len(cohort.persons)} people in {out}, {len(cohort.left_out)} "
            "files left out; correct it"
        ],
        written={"table": out},
        figures={
            "scans": scans,
            "people": len(cohort.persons),
            "left_out": len(cohort.left_out),
        },
        next=["prepare", raw, unused(raw.parent / "data"), "--table", out],
    )
