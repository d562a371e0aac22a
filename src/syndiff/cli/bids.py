"""The command with the conventions of BIDS apps: bids."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from syndiff.cli.app import BatchSize, Device, Overwrite, Seed, app
from syndiff.cli.completion import folders_of_models
from syndiff.cli.outcome import Outcome


@app.command("bids")
def bids_(
    bids_dir: Annotated[Path, typer.Argument(metavar="INPUT", help="BIDS data set.")],
    output_dir: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="Folder for the BIDS derivative.")
    ],
    analysis_level: Annotated[
        str, typer.Argument(metavar="LEVEL", help="participant; group does nothing.")
    ],
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="[LABEL]…", help="Further labels after --participant-label."),
    ] = None,
    model: Annotated[
        Path,
        typer.Option(
            help="Translator folder, or a shipped one's name.", autocompletion=folders_of_models
        ),
    ] = Path("brain-t1-t2"),
    participant_label: Annotated[
        list[str] | None,
        typer.Option(
            "--participant-label",
            help="People to translate, with or without sub-; default: all.",
        ),
    ] = None,
    only_missing: Annotated[
        bool, typer.Option("--only-missing", help="Only visits that have no image of the target.")
    ] = False,
    seed: Seed = 0,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    overwrite: Overwrite = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes for a folder; with GPUs one per GPU.")
    ] = 1,
) -> Outcome:
    """Translate a BIDS data set into a BIDS derivative, as a BIDS app."""
    from syndiff.errors import DataError, OptionError

    if analysis_level not in ("participant", "group"):
        raise OptionError(f"the level {analysis_level!r}", "participant or group")
    if analysis_level == "group":
        return Outcome(lines=["nothing to do at group level: each person is translated alone"])
    from syndiff.cli.translation import translate_folder_outcome
    from syndiff.inference import TranslationOptions
    from syndiff.inference.bids import DESCRIPTION, is_bids

    if not is_bids(bids_dir):
        raise DataError(f"{bids_dir} is no BIDS data set", f"a folder with {DESCRIPTION}")
    labels = [label for text in participant_label or [] for label in text.split(",") if label]
    return translate_folder_outcome(
        model,
        bids_dir,
        output_dir,
        TranslationOptions(seed=seed, batch_size=batch_size, device=device),
        workers=workers,
        participant_label=[*labels, *(more or [])],
        only_missing=only_missing,
        overwrite=overwrite,
    )
