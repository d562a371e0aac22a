"""train(): builds or resumes a run, fits it, and exports its translators.

RUN/
  settings.json                what was asked for
  history.csv                  one line per validation
  checkpoints/last.pt          everything that --resume needs
  checkpoints/best.pt          the averaged generators of the best validation
  logs/                        TensorBoard: losses, scores, pictures
  translators/T1_to_T2/        the results, one folder per direction
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from syndiff.errors import DataError, OptionError
from syndiff.files import read_json, write_json
from syndiff.objectives.syndiff import SynDiff
from syndiff.preparation.manifest import Manifest, read_manifest
from syndiff.training.data import Slices, Steps, UnpairedBatches, training_scans
from syndiff.training.module import TranslationModule
from syndiff.training.presets import TrainSettings
from syndiff.training.validation import validation_pairs
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
    source: str,
    target: str,
    settings: TrainSettings,
    preset: str = "",
    max_minutes: float | None = None,
    precision: str = "32",
    devices: str = "auto",
    resume: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
    warn: Callable[[str], None] = lambda message: None,
) -> Outcome:
    """Train both directions between two modalities of a prepared data folder.

    Args:
        data: folder made by `prepare`.
        run: folder for everything the run makes; new, unless `resume`.
        source, target: modalities; the validation's headline is source → target.
        settings: objective and optimisation.
        preset: its name, for the record.
        max_minutes: stop after this many minutes of this invocation.
        precision: "32" or "bf16".
        devices: "auto", "cpu", "cuda", or a number of devices of the kind at hand.
        resume: continue a run that was interrupted, or prolong one.
        report: told how it goes every few steps.
        warn: told, in words, what may spoil the result.

    Returns:
        How it ended. An interrupted run is saved first.

    Raises:
        UserError: the data, the run folder or an option cannot be used, or training diverged.
    """
    data, run = Path(data), Path(run)
    manifest = read_manifest(data)
    _check(manifest, source, target, precision)
    state = _open(run, resume, source, target, preset, settings)
    trainer = _trainer(run, devices, precision)
    world, rank = trainer.world_size, trainer.global_rank

    scans = training_scans(manifest, source, target, settings.shared_subjects, warn)
    batches = UnpairedBatches(
        Slices.of(scans[0]),
        Slices.of(scans[1]),
        settings.batch_size,
        settings.seed,
        settings.augment,
        rank,
        world,
    )
    total = settings.max_steps or settings.epochs * batches.steps_per_epoch
    torch.manual_seed(settings.seed)  # the networks' first weights
    module = TranslationModule(SynDiff(settings.objective), settings, total)
    if state:
        module.load_networks(state)
    if total <= module.step and state:
        warn(f"the run already has {module.step} steps of {total}: exporting only")
    watch = Watch(
        run,
        Cards(manifest, source, target, settings, preset),
        validation_pairs(manifest, source, target),
        state,
        max_minutes,
        report,
    )
    if not len(watch.pairs):
        warn("no paired validation subject: no PSNR; the last average is kept, not the best")
    trainer.callbacks.append(watch)  # type: ignore[attr-defined]
    if module.step < total:
        steps = Steps(module.step, total)
        trainer.fit(module, DataLoader(batches, batch_size=None, sampler=steps))
    paths = watch.export(module) if trainer.is_global_zero else []
    return Outcome(paths, module.step, watch.reason, watch.interrupted)


def _check(manifest: Manifest, source: str, target: str, precision: str) -> None:
    """Raise before anything is written if the options make no sense."""
    if source == target:
        raise OptionError(f"source and target are both {source}", "two modalities")
    for modality in (source, target):
        if modality not in manifest.modalities:
            raise DataError(
                f"{manifest.folder} holds no {modality}",
                f"one of {', '.join(manifest.modalities)}",
            )
    if precision not in PRECISIONS:
        raise OptionError(f"the precision {precision!r}", f"one of {', '.join(PRECISIONS)}")


def _open(
    run: Path, resume: bool, source: str, target: str, preset: str, settings: TrainSettings
) -> dict[str, Any] | None:
    """Start a run folder, or load the state of one that is to be resumed."""
    asked = {"source": source, "target": target, "preset": preset} | asdict(settings)
    path = run / "settings.json"
    if not resume:
        if run.exists() and (not run.is_dir() or any(run.iterdir())):
            raise OptionError(
                f"{run} already exists", "a new folder", "add --resume to continue the run in it"
            )
        write_json(path, asked)
        return None
    before = read_json(path, "run", "check the path, or start without --resume")
    free = {"max_steps", "epochs", "validate_every"}  # may change without changing the steps made
    now = {k: list(v) if isinstance(v, tuple) else v for k, v in asked.items()}
    now["objective"] = {
        k: list(v) if isinstance(v, tuple) else v for k, v in asked["objective"].items()
    }
    changed = [k for k in now if k not in free and now[k] != before.get(k)]
    if changed:
        raise OptionError(
            f"{run} was started with another {', '.join(changed)}",
            "the options of its settings.json",
            "repeat them, or start a new run",
        )
    write_json(path, asked)
    return load_state(run / LAST) if (run / LAST).exists() else None


def _trainer(run: Path, devices: str, precision: str) -> L.Trainer:
    """Lightning's engine with everything that we do ourselves switched off."""
    accelerator, count = ("auto", devices) if devices.isdigit() else (devices, "1")
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise OptionError("no CUDA device is available here", remedy="use --devices cpu")
    # Its hints (workers, logging interval, devices found) do not fit a loop that is ours.
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    if accelerator not in ("auto", "cpu", "cuda", "mps"):
        raise OptionError(f"--devices {devices}", "auto, cpu, cuda or a number")
    return L.Trainer(
        accelerator=accelerator,
        devices=int(count),
        strategy="ddp_find_unused_parameters_true" if int(count) > 1 else "auto",
        precision=PRECISIONS[precision],  # type: ignore[arg-type]
        max_epochs=1,  # an epoch of Lightning's is the rest of the run
        logger=_logger(run),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _logger(run: Path) -> Any:
    """TensorBoard's, or a CSV file where TensorBoard is not installed."""
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    try:
        return TensorBoardLogger(run, name="logs", version="", default_hp_metric=False)
    except ModuleNotFoundError:
        return CSVLogger(run, name="logs", version="")
