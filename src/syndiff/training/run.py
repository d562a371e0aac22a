"""train(): builds or resumes a run, fits it, and exports its translators.

RUN/
  settings.json                what was asked for
  history.csv                  one line per validation
  curves.png                   the same as a picture
  checkpoints/last.pt          everything that --resume needs
  checkpoints/best.pt          the averaged generators of the best validation
  logs/                        TensorBoard: losses, scores, pictures
  translators/T1_to_T2/        the results, one folder per direction
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader

from syndiff.errors import DataError, OptionError, UserError
from syndiff.io.atomic import read_json, write_json
from syndiff.networks.compiled import compile_networks, compiling
from syndiff.objectives.methods import method_named, method_of
from syndiff.preparation.manifest import Manifest, read_manifest
from syndiff.training.data import PAIRINGS, Batches, Steps, training_batches
from syndiff.training.guard import DivergedError
from syndiff.training.module import TranslationModule
from syndiff.training.presets import TrainSettings
from syndiff.training.pretrained import SETTINGS, begin_one_shot
from syndiff.training.processes import is_loss, launched
from syndiff.training.validation import validation_slices
from syndiff.training.watch import LAST, Cards, Progress, Watch, load_state

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed"}


@dataclass
class Outcome:
    """How a run ended: its translators, the step it reached, and whether it was cut short."""

    translators: list[Path]
    step: int
    reason: str = ""
    interrupted: bool = False


def train(
    data: Path,
    run: Path,
    *,
    source: str | Sequence[str],
    target: str,
    settings: TrainSettings,
    one_shot: Path | None = None,
    preset: str = "",
    max_minutes: float | None = None,
    precision: str = "32",
    compiled: bool = False,
    devices: str = "auto",
    nodes: int = 0,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
    warn: Callable[[str], None] = lambda message: None,
) -> Outcome:
    """Train translators between modalities of a prepared data folder.

    With one source both directions are trained, with several the one towards the target, and
    without any the target is learned by itself (unconditional synthesis).

    Args:
        data: folder made by `prepare`.
        run: folder for everything the run makes; new, unless `resume`.
        source: modality, or several that are given to the translator together; or none, ().
        target: modality; the validation's headline is source → target.
        settings: objective and optimisation.
        one_shot: an earlier run whose one-shot module this one begins with.
        preset: its name, for the record.
        max_minutes: stop after this many minutes of this invocation.
        precision: "32" or "bf16".
        compiled: have torch compile the networks, see `networks.compiled`.
        devices: "auto", "cpu", "cuda", or a number of devices of the kind at hand; unless it is a
            number, there are as many as torchrun or srun has started processes for, else one.
        nodes: machines of that many devices each; 0: as many as torchrun or srun uses, else one.
        resume: continue a run that was interrupted, or prolong one.
        report: told how it goes every few steps.
        warn: told, in words, what may spoil the result.

    Returns:
        How it ended, in the first process of the run; the others have nothing to tell. An
        interrupted run is saved first.

    Raises:
        UserError: the data, the run folder or an option cannot be used, training diverged, or
            another process of the run is gone.
    """
    data, run = Path(data), Path(run)
    sources = (source,) if isinstance(source, str) else tuple(source)
    manifest = read_manifest(data)
    _check(manifest, sources, target, settings.pairing, precision)
    if settings.batch_size % settings.accumulate:
        parts = f"--accumulate {settings.accumulate} of a batch of {settings.batch_size}"
        raise OptionError(parts, "a number that divides the batch size")
    method = method_of(settings.objective)
    if settings.pairing != "unpaired" and not method.pairs:
        raise OptionError(f"--pairing {settings.pairing} with {method.name}", "unpaired")
    asked: dict[str, Any] = {"source": "+".join(sources), "target": target, "preset": preset}
    asked |= {"method": method.name, "one_shot": str(one_shot or "")} | asdict(settings)
    trainer = _trainer(run, devices, nodes, precision)
    world, rank = trainer.world_size, trainer.global_rank
    asked["processes"] = world
    if rank == 0:  # other processes find the folder as the first one has made it
        _check_folder(run, resume, asked)
    else:
        report, warn = _silent, _silent
    state = load_state(run / LAST) if resume and (run / LAST).exists() else None

    batches = training_batches(
        manifest,
        sources,
        target,
        pairing=settings.pairing,
        shared=settings.shared_subjects,
        batch_size=settings.batch_size,
        seed=settings.seed,
        augment=settings.augment,
        rank=rank,
        world=world,
        warn=warn,
    )
    total = settings.max_steps or settings.epochs * batches.steps_per_epoch
    torch.manual_seed(settings.seed)  # the networks' first weights
    supervised = settings.pairing == "paired"
    objective = method.build(settings.objective, len(sources), supervised)
    objective.steps_per_epoch = batches.steps_per_epoch
    if not state:
        begin_one_shot(objective, one_shot, sources, target)
    if rank == 0:
        write_json(run / SETTINGS, asked)  # from here on there is a run
    module = TranslationModule(objective, settings, total)
    if compiled:
        compile_networks((*objective.generators.values(), *objective.discriminators.values()))
    if state:
        module.load_networks(state)
    if total <= module.step and state:
        warn(f"the run already has {module.step} steps of {total}: exporting only")
    record = batches.record() | ({"one_shot_of": Path(one_shot).name} if one_shot else {})
    watch = Watch(
        run,
        Cards(manifest, sources, target, settings, preset, record),
        validation_slices(manifest, sources, target),
        state,
        max_minutes,
        report,
        warn,
    )
    if not sources:
        warn("without a source there is nothing to compare with: validation only makes pictures")
    elif not watch.slices.paired:
        warn("no paired validation subject: no PSNR; the last average is kept, not the best")
    trainer.callbacks.append(watch)  # type: ignore[attr-defined]
    if module.step < total:
        with compiling(compiled):
            _fit(trainer, module, batches, total)
    if rank:
        return Outcome([], module.step)
    return Outcome(watch.export(module), module.step, watch.reason, watch.interrupted)


def _silent(what: Any) -> None:
    """Tell nobody: the first process of a run does."""


def _fit(trainer: L.Trainer, module: TranslationModule, batches: Batches, total: int) -> None:
    """Train up to step `total`.

    Raises:
        UserError: training diverged, and the message names the slices of the first bad step; or
            another process is gone. What all processes know, the first one alone raises.
    """
    steps = Steps(module.step, total)
    device = trainer.strategy.root_device
    if device.type == "cuda":  # the networks are to miss nothing
        batches.keep_on(device, room=torch.cuda.mem_get_info(device)[1] // 16)
    try:
        trainer.fit(module, DataLoader(batches, batch_size=None, sampler=steps))
    except RuntimeError as error:
        if trainer.world_size == 1 or not is_loss(error):
            raise
        raise UserError(
            f"process {trainer.global_rank + 1} of {trainer.world_size} lost another one at step "
            f"{module.step}: it was killed, or its device or the network failed",
            remedy="--resume continues from the last checkpoint",
        ) from error
    except UserError as error:
        if not trainer.is_global_zero:
            return  # leaving by an error, it would be taken for the culprit
        if not isinstance(error, DivergedError):
            raise
        raise UserError(
            f"{error.found}, on {', '.join(batches.names(error.step))}",
            remedy="look at these slices in the prepared data; if they are sound, start a new run "
            "with --spectral-norm (the checkpoint in this one is from before)",
        ) from error


def _check(
    manifest: Manifest, sources: tuple[str, ...], target: str, pairing: str, precision: str
) -> None:
    """Raise before anything is written if the options make no sense."""
    if len({*sources, target}) <= len(sources):
        raise OptionError(
            f"source {', '.join(sources)} and target {target}", "modalities that differ"
        )
    for modality in (*sources, target):
        if modality not in manifest.modalities:
            raise DataError(
                f"{manifest.folder} holds no {modality}",
                f"one of {', '.join(manifest.modalities)}",
            )
    if pairing not in PAIRINGS:
        raise OptionError(f"the pairing {pairing!r}", f"one of {', '.join(PAIRINGS)}")
    if not sources and pairing != "unpaired":
        raise OptionError(f"--pairing {pairing} without a source", "unpaired")
    if precision not in PRECISIONS:
        raise OptionError(f"the precision {precision!r}", f"one of {', '.join(PRECISIONS)}")


def _check_folder(run: Path, resume: bool, asked: dict[str, Any]) -> None:
    """Make sure that the run folder can be used.

    Raises:
        OptionError: the folder is in use, or was started with other settings.
    """
    if not resume:
        if run.exists() and (not run.is_dir() or any(run.iterdir())):
            raise OptionError(
                f"{run} already exists", "a new folder", "add --resume to continue the run in it"
            )
        return
    before = read_json(run / SETTINGS, "run", "check the path, or start without --resume")
    # What an older version did not know of had the value that is the default now.
    known = asdict(TrainSettings()) | {"method": "syndiff", "one_shot": ""} | before
    defaults = asdict(method_named(known["method"]).settings())
    known["objective"] = defaults | before.get("objective", {})
    # These may change without changing the steps made.
    free = {"max_steps", "epochs", "validate_every", "accumulate", "recompute"}
    now, known = plain(asked), plain(known)
    for values in (now, known):  # on fewer devices a run may go on with larger batches
        values["batch_size × processes"] = values.pop("batch_size") * values.pop("processes", 1)
    changed = [k for k in now if k not in free and now[k] != known.get(k)]
    if changed:
        raise OptionError(
            f"{run} was started with another {', '.join(changed)}",
            "the options of its settings.json",
            "repeat them, or start a new run",
        )


def plain(value: Any) -> Any:
    """As a value looks after a trip through JSON: tuples are lists."""
    return json.loads(json.dumps(value))


def _trainer(run: Path, devices: str, nodes: int, precision: str) -> L.Trainer:
    """Lightning's engine with everything that we do ourselves switched off."""
    accelerator, count, nodes = _places(devices, nodes)
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise OptionError("no CUDA device is available here", remedy="use --devices cpu")
    # Its hints (workers, logging interval, devices found) do not fit a loop that is ours.
    for name in ("lightning.pytorch", "lightning.fabric.utilities"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    if accelerator not in ("auto", "cpu", "cuda", "mps"):
        raise OptionError(f"--devices {devices}", "auto, cpu, cuda or a number")
    try:
        return L.Trainer(
            accelerator=accelerator,
            devices=count,
            num_nodes=nodes,
            # Each player's backward leaves the other's parameters without gradients.
            strategy="ddp_find_unused_parameters_true" if count * nodes > 1 else "auto",
            precision=PRECISIONS[precision],  # type: ignore[arg-type]
            max_epochs=1,  # an epoch of Lightning's is the rest of the run
            logger=_logger(run),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise OptionError(f"--devices {devices} cannot be used: {error}") from error


def _places(devices: str, nodes: int) -> tuple[str, int, int]:
    """Accelerator, devices per node, and nodes.

    Raises:
        OptionError: there are not as many processes as these ask for.
    """
    count = int(devices) if devices.isdigit() else 0
    here, there = launched() or (count or 1, 1)
    if (count or here, nodes or there) != (here, there):
        raise OptionError(
            f"--devices {devices} --nodes {nodes or there}",
            f"--devices {here} --nodes {there}, for which there are processes",
            "torchrun or srun starts as many as are wanted",
        )
    return ("auto" if count else devices), here, there


def _logger(run: Path) -> Any:
    """TensorBoard's, or a CSV file where TensorBoard is not installed."""
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    try:
        return TensorBoardLogger(run, name="logs", version="", default_hp_metric=False)
    except ModuleNotFoundError:
        return CSVLogger(run, name="logs", version="")
