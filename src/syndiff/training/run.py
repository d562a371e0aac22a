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
import signal
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from syndiff.errors import DataError, ModelError, OptionError
from syndiff.files import read_json, whole_file, write_json, write_text
from syndiff.objectives.base import Objective
from syndiff.objectives.syndiff import SynDiff
from syndiff.preparation.manifest import Manifest, read_manifest
from syndiff.training.data import Slices, Steps, UnpairedBatches, training_scans
from syndiff.training.module import TranslationModule
from syndiff.training.presets import TrainSettings
from syndiff.training.validation import Pairs, panel, score, validation_pairs
from syndiff.translators import Translator

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed"}
REPORT_EVERY = 10  # steps between two readings of the losses; each one waits for the device
LAST, BEST = "checkpoints/last.pt", "checkpoints/best.pt"


@dataclass
class Progress:
    """What a person watching wants to know; handed to `train`'s `report`."""

    step: int
    total: int
    losses: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    seconds_left: float | None = None

    def line(self) -> str:
        """Losses of both players, the last scores of either direction, and the time left."""
        players = {"D": "discriminators/", "G": "generators/"}
        parts = [
            f"{letter} {sum(v for k, v in self.losses.items() if k.startswith(prefix)):.2f}"
            for letter, prefix in players.items()
        ]
        for name, value in self.scores.items():
            direction, _, score = name.partition("/")
            if score == "psnr_db":
                parts.append(f"{direction} {value:.2f} dB")
            elif score == "offset_px":
                parts.append(f"offset {value:.2f} px")
        if self.seconds_left is not None:
            minutes, seconds = divmod(round(self.seconds_left), 60)
            parts.append(f"{minutes}:{seconds:02d} left")
        return "  ".join(parts)


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
    trainer.callbacks.append(watch)
    if module.step < total:
        steps = Steps(module.step, total)
        trainer.fit(module, DataLoader(batches, batch_size=None, sampler=steps))
    paths = watch.export(module) if trainer.is_global_zero else []
    return Outcome(paths, module.step, watch.reason, watch.interrupted)


class Cards:
    """What each direction's translator must know besides its network."""

    def __init__(
        self, manifest: Manifest, source: str, target: str, settings: TrainSettings, preset: str
    ) -> None:
        self.manifest, self.settings, self.preset = manifest, settings, preset
        self.modalities = {"source": source, "target": target}

    def card(self, to: str, step: int) -> dict[str, Any]:
        m = self.manifest
        here = "target" if to == "source" else "source"
        pair = (self.modalities[here], self.modalities[to])
        return {
            "sources": [pair[0]],
            "target": pair[1],
            "spacing_mm": m.spacing_mm,
            "size": list(m.size),
            "axes": "RAS+; slices (z, y, x), z ascending to superior",
            "intensity": {name: m.intensity[name].to_dict() for name in pair},
            "tissue_quantiles": {
                name: [list(s.tissue_quantiles) for s in m.scans("train", name)] for name in pair
            },
            "training": {
                "preset": self.preset,
                "steps": step,
                "batch_size": self.settings.batch_size,
                "seed": self.settings.seed,
                "training_subjects": len({s.subject for n in pair for s in m.scans("train", n)}),
            },
        }

    def translators(self, objective: Objective, generators: Any, step: int) -> list[Translator]:
        """Both directions, the one that was asked for first."""
        return [
            objective.translator(generators, to, self.card(to, step)) for to in ("target", "source")
        ]


class Watch(L.Callback):
    """Reports, validates, saves and stops; the training module knows nothing of it."""

    def __init__(
        self,
        run: Path,
        cards: Cards,
        pairs: Pairs,
        state: Mapping[str, Any] | None,
        max_minutes: float | None,
        report: Callable[[Progress], None],
    ) -> None:
        self.run, self.cards, self.pairs, self.state = run, cards, pairs, state
        self.max_seconds = max_minutes * 60 if max_minutes else None
        self.report = report
        self.best = float(state["best_psnr_db"]) if state else -float("inf")
        self.best_step = int(state["best_step"]) if state else 0
        self.scores: dict[str, float] = {}
        self.reason, self.interrupted = "", False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module = _ours(pl_module)
        if self.state:
            module.load_optimizers(self.state)
        self.started, self.first_step = time.monotonic(), module.step
        for number in (signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Finish the step, save, leave. A second Ctrl-C leaves at once."""
        self.interrupted = True
        self.reason = f"stopped by {signal.Signals(number).name}"
        signal.signal(number, signal.default_int_handler)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        module = _ours(pl_module)
        step, total = module.step, module.total_steps
        elapsed = time.monotonic() - self.started
        out_of_time = self.max_seconds is not None and elapsed >= self.max_seconds
        if trainer.world_size > 1:  # all processes must leave at the same step
            out_of_time = trainer.strategy.reduce_boolean_decision(out_of_time, all=False)
            self.interrupted = trainer.strategy.reduce_boolean_decision(
                self.interrupted, all=False
            )
        if out_of_time:
            self.reason = self.reason or "out of time"
        ends = step >= total or out_of_time or self.interrupted
        if step % REPORT_EVERY == 0 or ends:
            self._report(trainer, module, elapsed)
        if step % module.settings.validate_every == 0 or ends:
            if trainer.is_global_zero:
                if not self.interrupted:
                    self._validate(trainer, module)
                self.save(module)
        if ends:
            trainer.should_stop = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _report(self, trainer: L.Trainer, module: TranslationModule, elapsed: float) -> None:
        losses = module.take_means()
        if trainer.logger is not None:
            trainer.logger.log_metrics(losses, step=module.step)
        pace = elapsed / max(1, module.step - self.first_step)
        left = pace * (module.total_steps - module.step)
        if self.max_seconds is not None:
            left = min(left, self.max_seconds - elapsed)
        if trainer.is_global_zero:
            progress = Progress(module.step, module.total_steps, losses, self.scores, max(0.0, left))
            self.report(progress)

    def _validate(self, trainer: L.Trainer, module: TranslationModule) -> None:
        """Score both directions; keep the average as best if their mean PSNR is."""
        if not len(self.pairs):
            return
        scores: dict[str, float] = {}
        module.ema.eval()
        for translator in self.cards.translators(module.objective, module.ema, module.step):
            name = translator.name
            found, made = score(translator, self.pairs, module.settings.seed, str(module.device))
            scores |= {f"{name}/{key}": value for key, value in found.items()}
            source, target = (
                self.pairs.images[translator.source],
                self.pairs.images[translator.target],
            )
            self._picture(trainer, name, panel([source, made, target]), module.step)
        module.ema.train()
        self.scores = scores
        if trainer.logger is not None:
            trainer.logger.log_metrics(scores, step=module.step)
        self._history(module.step, scores)
        mean_psnr = float(np.mean([v for k, v in scores.items() if k.endswith("psnr_db")]))
        if mean_psnr > self.best:
            self.best, self.best_step = mean_psnr, module.step
            with whole_file(self.run / BEST) as temporary:
                torch.save({"step": module.step, "ema": module.ema.state_dict()}, temporary)

    @staticmethod
    def _picture(trainer: L.Trainer, name: str, image: Any, step: int) -> None:
        writer = getattr(trainer.logger, "experiment", None)
        if hasattr(writer, "add_image"):
            writer.add_image(name, np.clip(image, 0, 1), step, dataformats="HW")

    def _history(self, step: int, scores: Mapping[str, float]) -> None:
        path = self.run / "history.csv"
        minutes = (time.monotonic() - self.started) / 60
        header = ",".join(["step", "minutes", *scores])
        text = path.read_text() if path.exists() else header + "\n"
        values = [f"{step}", f"{minutes:.2f}", *(f"{v:.4f}" for v in scores.values())]
        write_text(path, text + ",".join(values) + "\n")

    def save(self, module: TranslationModule) -> None:
        """Write `last.pt`, whole or not at all."""
        module.take_means()  # raises before a diverged state would overwrite a sound one
        content = module.state() | {"best_psnr_db": self.best, "best_step": self.best_step}
        with whole_file(self.run / LAST) as temporary:
            torch.save(content, temporary)

    def export(self, module: TranslationModule) -> list[Path]:
        """Write both translators from the best average, or the last one without pairs."""
        step = module.step
        generators = module.ema
        if (self.run / BEST).exists():
            best = load_state(self.run / BEST)
            generators.load_state_dict(best["ema"])
            step = int(best["step"])
        return [
            translator.save(self.run / "translators" / translator.name)
            for translator in self.cards.translators(module.objective, generators, step)
        ]


def load_state(path: Path) -> dict[str, Any]:
    """Load a checkpoint without executing anything in it.

    Raises:
        ModelError: it is missing or damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"no checkpoint at {path}", remedy="start without --resume") from error
    except Exception as error:  # torch raises many kinds; each means "not a checkpoint"
        raise ModelError(f"the checkpoint {path} is damaged ({type(error).__name__})") from error


def _ours(module: L.LightningModule) -> TranslationModule:
    assert isinstance(module, TranslationModule)
    return module


def _check(manifest: Manifest, source: str, target: str, precision: str) -> None:
    """Raise before anything is written if the options make no sense."""
    if source == target:
        raise OptionError(f"source and target are both {source}", "two modalities")
    for modality in (source, target):
        if modality not in manifest.modalities:
            raise DataError(
                f"{manifest.folder} holds no {modality}", f"one of {', '.join(manifest.modalities)}"
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
