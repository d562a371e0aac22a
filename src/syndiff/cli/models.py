"""Commands around a trained translator: evaluate, info, models, export, import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from syndiff.cli import values
from syndiff.cli.app import (
    PROFILE,
    Anonymous,
    BatchSize,
    Device,
    Model,
    Precision,
    ReplaceResults,
    Samples,
    SamplingSteps,
    Seed,
    SourceOfModels,
    Split,
    TargetOfModels,
    Way,
    app,
    numbers,
    whole_numbers,
)
from syndiff.cli.command import is_given
from syndiff.cli.completion import named_models
from syndiff.cli.console import console_reporter, warn
from syndiff.cli.outcome import Outcome, scores
from syndiff.errors import OptionError


@app.command()
def evaluate(
    data: Annotated[Path, typer.Argument(help="Folder made by 'syndiff prepare'.")],
    out: Annotated[
        Path, typer.Argument(help="Folder for metrics.json, metrics.csv, report.html.")
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=PATH of a translator; repeat for several.", autocompletion=named_models
        ),
    ] = None,
    split: Split = "test",
    source: SourceOfModels = "",
    target: TargetOfModels = "",
    profile: Annotated[values.Profile | None, PROFILE] = None,
    whole_volumes: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the scans that DATA was prepared from: translate each as a whole, as "
            "'syndiff translate' does, instead of the prepared slices."
        ),
    ] = None,
    allow_synthetic: Annotated[
        bool, typer.Option(help="Score data that hold synthetic scans, too.")
    ] = False,
    anonymous: Anonymous = True,
    trust: Annotated[
        int,
        typer.Option(
            min=0,
            max=1024,
            help="Trust map from so many chains per slice, calibrated on the validation people "
            "and kept in the model's folder; 0: none.",
        ),
    ] = 0,
    overwrite: ReplaceResults = False,
    seed: Seed = 0,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    sampling: Way = "chain",
    samples: Samples = 8,
    sampling_steps: SamplingSteps = 0,
    precision: Precision = "32",
) -> Outcome:
    """Compare translators with each other and with two baselines; write a report."""
    from syndiff.evaluation.candidates import How
    from syndiff.evaluation.evaluate import evaluate as run
    from syndiff.evaluation.report import scores_in_words

    models = values.models_by_name(model)
    with console_reporter("evaluating") as report:
        results = run(
            data,
            out,
            models=models,
            split=split,
            source=source or None,
            target=target or None,
            profile=profile,
            whole_volumes=whole_volumes,
            allow_synthetic=allow_synthetic,
            anonymous=anonymous,
            trust=trust,
            overwrite=overwrite,
            how=How(seed, batch_size, device, precision, sampling, samples, sampling_steps),
            report=report,
        )
    lines = []
    for name, entry in results["models"].items():
        offset = entry.get("offset_px")
        lines.append(
            f"{name:12} {scores_in_words(entry['person_means'])}, "
            f"offset {'unknown' if offset is None else f'{offset:.2f} px'}"
        )
    lines += [
        entry["verdict"]["sentence"] for entry in results["models"].values() if "verdict" in entry
    ]
    lines += [
        f"trust map of {name}: {_trust_in_words(entry['trust'])}"
        for name, entry in results["models"].items()
        if entry.get("trust")
    ]
    for message in results["warnings"]:
        warn(message)
    return Outcome(
        lines=[*lines, f"report: {out / 'report.html'}"],
        written={"report": out / "report.html", "metrics": out / "metrics.json"},
        figures={"models": scores(results), "subjects": len(results["subjects"])},
        next=_after_evaluation(data, out, models, results),
    )


def _trust_in_words(found: Mapping[str, Any]) -> str:
    names = ("rank_correlation", "sparsification_area", "oracle_area")
    shown = ["unknown" if found[n] is None else f"{found[n]:.2f}" for n in names]
    return (
        f"rank correlation with the true error {shown[0]}, area under the sparsification curve "
        f"{shown[1]} (at random 1, at best {shown[2]})"
    )


def _after_evaluation(
    data: Path, out: Path, models: Mapping[str, Path], results: Mapping[str, Any]
) -> list[str | Path]:
    """Translate with the model that was evaluated; where there was none, evaluate one."""
    if not models:
        return ["evaluate", data, out, "--model", "mine=RUN/translators/SOURCE_to_TARGET"]
    model = next(iter(models.values()))
    return ["translate", model, *_scans(results["source"], results["target"])]


def _scans(source: str, target: str) -> list[str]:
    """Names of files as an example: the source and the result."""
    return [f"{source}.nii.gz".replace(" and ", "_"), f"{target}_synthetic.nii.gz"]


@app.command()
def info(model: Model) -> Outcome:
    """Say what a translator does and where it comes from."""
    from syndiff.inference import describe

    rows = describe(model)
    figures: dict[str, str] = {}
    name = ""
    for title, value in rows:
        name = title or name  # a line that goes on
        figures[name] = f"{figures[name]}\n{value}" if name in figures else value
    source, _, target = figures["translates"].partition(" → ")
    makes = "sample" if source == "noise" else "translate"
    places = ["slices"] if source == "noise" else _scans(source, target)
    return Outcome(
        lines=[f"{title:18} {value}" for title, value in rows],
        figures=figures,
        next=[makes, model, *places],
    )


@app.command("models")
def models_() -> Outcome:
    """List the translators that travel with the package; each is given by its name."""
    from syndiff.inference import shipped

    rows = shipped()
    return Outcome(
        lines=[f"{name:14} {what}" for name, what in rows],
        figures=dict(rows),
        next=["info", rows[-1][0]],
    )


@app.command()
def export(
    context: typer.Context,
    model: Model,
    out: Annotated[
        Path,
        typer.Argument(help="Folder to make: config.json and the program; of a run, translators."),
    ],
    format: Annotated[
        values.Format,
        typer.Option(help="onnx, which 'syndiff translate' also runs, or torch (a .pt2)."),
    ] = "onnx",
    part: Annotated[
        values.Part, typer.Option(help="chain: source and noise to image; step: one reverse step.")
    ] = "chain",
    sampling_steps: Annotated[
        int, typer.Option(min=0, help="Reverse steps of ddpm; 0: all 1000.")
    ] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an export that is there already.")
    ] = False,
    checkpoint: Annotated[
        str,
        typer.Option(help="MODEL is a training's run: its best (each direction's), last, a step."),
    ] = "best",
) -> Outcome:
    """Write a translator for other software, or a run's translators from any checkpoint."""
    from syndiff.export import export as run
    from syndiff.training.restore import export_run, is_run

    if is_run(model):
        for name in ("format", "part", "sampling_steps", "overwrite"):
            if is_given(context, name):
                raise OptionError(
                    f"`{name}` for a run", "a translator", "first export the run, then its result"
                )
        paths = export_run(model, out, checkpoint)
        return Outcome(
            lines=[f"translator: {path}" for path in paths],
            written={path.name: path for path in paths},
            next=["info", paths[0]],
        )
    if is_given(context, "checkpoint"):
        raise OptionError(f"`checkpoint` of {model}", "the folder of a training's run")
    with console_reporter("exporting") as report:
        made = run(
            model,
            out,
            format=format,
            part=part,
            sampling_steps=sampling_steps,
            overwrite=overwrite,
            report=report,
        )
    lines = [
        f"{sizes}: differs from torch by at most {difference:.1e}"
        for sizes, difference in made.differences.items()
    ]
    return Outcome(
        lines=[*lines, f"exported: {out}"],
        written={"export": out},
        figures={"largest_difference_from_torch": made.differences},
        next=["info", out],
    )


@app.command("import")
def import_(
    checkpoint: Annotated[
        Path, typer.Argument(help="gen_diffusive_1_….pth, gen_diffusive_2_….pth or content.pth.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the translator; new or empty.")],
    source: Annotated[str, typer.Option(help="Modality that the network is given.")],
    target: Annotated[str, typer.Option(help="Modality that it makes.")],
    contrast1: Annotated[
        str, typer.Option(help="What the official training had as --contrast1 (not content.pth).")
    ] = "",
    generator: Annotated[
        int | None,
        typer.Option(min=1, max=2, help="1 or 2, if the file's name does not say which it is."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Its training's .mat files, prepared: instead of the next six."),
    ] = None,
    spacing_mm: Annotated[
        float | None, typer.Option(help="Pixel size of its training slices in mm.")
    ] = None,
    orientation: Annotated[
        str,
        typer.Option(
            help="Where rows and columns grow to in the official code's pictures: PL for anterior "
            "at the top and the patient's right on the left, PR for the mirror image, …"
        ),
    ] = "",
    source_scale: Annotated[
        float | None,
        typer.Option(help="Source value that became 1, in multiples of a scan's mean."),
    ] = None,
    target_scale: Annotated[float | None, typer.Option(help="The same for the target.")] = None,
    hu_window: Annotated[
        str, typer.Option(help="For CT instead of its scale: the HU that became 0 and 1.")
    ] = "",
    intensity: Annotated[
        values.Intensity,
        typer.Option(help="Mean over the whole scan (paper) or over the head (robust)."),
    ] = "paper",
    image_size: Annotated[
        int | None,
        typer.Option(
            min=16, help="Pixels of its training slices; default: by the weights, or 256."
        ),
    ] = None,
    num_channels_dae: Annotated[
        int | None, typer.Option(help="Width at full resolution; read from the weights.")
    ] = None,
    ch_mult: Annotated[
        str, typer.Option(help="Width of each level, 1,1,2,2,4,4; read from the weights.")
    ] = "",
    num_res_blocks: Annotated[
        int | None, typer.Option(help="Residual blocks per level; read from the weights.")
    ] = None,
    attn_resolutions: Annotated[
        str, typer.Option(help="Sizes with attention; read from the weights.")
    ] = "",
    nz: Annotated[
        int | None, typer.Option(help="Size of the random latent; read from the weights.")
    ] = None,
    z_emb_dim: Annotated[
        int | None, typer.Option(help="Width of its embedding; read from the weights.")
    ] = None,
    n_mlp: Annotated[
        int | None, typer.Option(help="Layers of its embedding; read from the weights.")
    ] = None,
    num_timesteps: Annotated[
        int | None, typer.Option(min=1, help="Diffusion steps; default: content.pth's, or 4.")
    ] = None,
    beta_min: Annotated[
        float | None,
        typer.Option(min=0, help="Of the noise schedule; default: content.pth's, or 0.1."),
    ] = None,
    beta_max: Annotated[
        float | None,
        typer.Option(min=0, help="Of the noise schedule; default: content.pth's, or 20."),
    ] = None,
) -> Outcome:
    """Turn a checkpoint of the official SynDiff code into a translator folder.

    gen_diffusive_1 makes contrast 1 FROM contrast 2, gen_diffusive_2 makes contrast 2 FROM
    contrast 1: after training with --contrast1 T1 --contrast2 T2, the way from T1 to T2 is
    gen_diffusive_2.
    """
    from syndiff.importing import import_checkpoint, training_data

    trained_on = training_data(
        source,
        target,
        data=data,
        spacing_mm=spacing_mm,
        orientation=orientation,
        source_scale=source_scale,
        target_scale=target_scale,
        hu_window=numbers("--hu-window", hu_window, 2) if hu_window else None,
        rule=intensity,
    )
    notes = import_checkpoint(
        checkpoint,
        out,
        source=source,
        target=target,
        trained_on=trained_on,
        contrast1=contrast1,
        generator=generator,
        options={
            "image_size": image_size,
            "num_channels_dae": num_channels_dae,
            "ch_mult": whole_numbers("--ch-mult", ch_mult) or None,
            "num_res_blocks": num_res_blocks,
            "attn_resolutions": whole_numbers("--attn-resolutions", attn_resolutions) or None,
            "nz": nz,
            "z_emb_dim": z_emb_dim,
            "n_mlp": n_mlp,
            "num_timesteps": num_timesteps,
            "beta_min": beta_min,
            "beta_max": beta_max,
        },
    )
    return Outcome(
        lines=[*notes, f"translator: {out} ({source} to {target})"],
        written={"translator": out},
        figures={"source": source, "target": target, "notes": list(notes)},
        next=["info", out],
    )
