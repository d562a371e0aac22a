"""What happens around the steps: reports, validation, checkpoints, stopping, export.

The training module does not depend on this.
"""

from __future__ import annotations

import copy
import math
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import numpy as np
import torch

from syndiff.errors import ModelError
from syndiff.io.atomic import whole_file
from syndiff.reporting import SILENT, Reporter
from syndiff.training import history
from syndiff.training.balance import balance, in_words
from syndiff.training.beside import baseline_scores
from syndiff.training.best import better, file_of, file_of_step, kept, known_best
from syndiff.training.budget import Budget
from syndiff.training.cards import Cards
from syndiff.training.leaving import StepLeft
from syndiff.training.module import TranslationModule
from syndiff.training.preview import write_preview
from syndiff.training.processes import gathered, on_rank_zero
from syndiff.training.progress import Progress, TrainingReporter
from syndiff.training.stored import Average, Whole, check_state
from syndiff.training.validation import Validation, ValidationSlices, panel, validate
from syndiff.translators import Translator

REPORT_EVERY = 10  # steps between two readings of the losses; each one waits for the device
TELL_EVERY_S = 1.0  # between two reports of a step whose losses are not read
DISK_BYTES_PER_S = 1e8  # a guess, until a checkpoint has been written
LAST = "checkpoints/last.pt"


class Watch(L.Callback):
    """Lightning's hooks around the steps."""

    def __init__(
        self,
        run: Path,
        cards: Cards,
        slices: ValidationSlices,
        state: Mapping[str, Any] | None,
        budget: Budget,
        report: TrainingReporter,
        compiled: bool = False,
    ) -> None:
        self.run, self.cards, self.slices, self.state = run, cards, slices, state
        self.budget, self.report, self.compiled = budget, report, compiled
        self.best = known_best(state, history.read(run))
        self.minutes_before = float(state.get("minutes", 0.0)) if state else 0.0
        self.scores: dict[str, float] = {}
        self.losses: dict[str, float] = {}  # last read
        self.balance = ""
        self.baselines: dict[str, dict[str, float]] = {}  # by direction
        self.told = -TELL_EVERY_S
        self.doubtful: set[str] = set()  # directions whose last validation gave warnings
        self.reason, self.interrupted = "", False
        self.unvalidated = bool(state.get("unvalidated")) if state else False
        self.judged = int(state["step"]) if state and not self.unvalidated else 0
        self._judging = False
        self._leave = lambda: None
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module = _ours(pl_module)
        if self.state:
            module.load_optimizers(self.state)
        if trainer.is_global_zero:  # also of a run that was killed before its first checkpoint
            history.trim(self.run, module.step - self.unvalidated)
        if trainer.is_global_zero and self.budget.seconds is not None:
            self._foresee(module)
        self.budget.pause()
        self.started, self.begun_at = self.budget.clock(), module.step
        if trainer.world_size == 1:  # of several processes one cannot leave alone
            self._leave = module.leaving.ask
        module.minutes = self.minutes_before
        self._say_phase(module)
        self.report.phase("compiling, which the first step waits for" if self.compiled else "step")
        self.report.progress(module.step, module.total_steps)
        if threading.current_thread() is threading.main_thread():  # other threads get no signals
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = signal.signal(number, self._interrupt)
        if self.unvalidated:  # so that a run is the same wherever it was interrupted
            on_rank_zero(trainer.is_global_zero, lambda: self._judge(trainer, module))

    def _foresee(self, module: TranslationModule) -> None:
        """Where minutes are limited: how long the end of the run will take, from one slice."""
        count = sum(p.numel() for p in module.parameters())
        self.budget.expect("saving", 16 * count / DISK_BYTES_PER_S)
        self.budget.expect("exporting", 8 * count / DISK_BYTES_PER_S)
        self.report.phase("timing a validation")
        one, slices, begun = self.slices.first(1), 0, self.budget.clock()
        objective = module.objective
        present, objective.second_phase = objective.second_phase, 0  # the end is what takes long
        for translator, _, back in self._directions(module):
            if self._validated(module, translator, back, one, SILENT):
                slices = len(self.slices.sources[translator.source])
        objective.second_phase = present
        self.budget.expect("validating", (self.budget.clock() - begun) * slices)

    def _say_phase(self, module: TranslationModule) -> None:
        objective = module.objective
        if objective.first_phase:
            number = int(objective.second_phase is not None)
            self.report.phase(f"phase {number + 1} of 2: {objective.phases[number]}")

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Finish a short step, save and stop. A second signal ends the process at once."""
        self.interrupted = True
        self.reason = f"stopped by {signal.Signals(number).name}"
        for known in self._handlers:
            signal.signal(known, signal.SIG_DFL)
        judging, self._judging = self._judging, False
        self._leave()
        if judging:
            raise StepLeft

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        module = _ours(pl_module)
        step, total = module.step, module.total_steps
        self.budget.step()
        module.minutes = self.minutes()
        if self.budget.over():
            self.reason = self.reason or "out of time"
        if module.objective.first_phase and module.objective.second_phase == step - 1:
            self._say_phase(module)
            self.report.phase("step")
        if self.compiled and step == self.begun_at + 1:
            self.report.phase("step")
        ends = self._leaving(trainer) or step >= total
        due = step % module.settings.validate_every == 0 or ends
        if step % REPORT_EVERY == 0 or due:  # before saving: it raises if training diverged
            self._read(trainer, module)
            self.report.step(self._state(module))
        elif self.budget.clock() - self.told >= TELL_EVERY_S:
            self._tell(module)
        if due:
            last = ends and bool(self.reason)
            on_rank_zero(trainer.is_global_zero, lambda: self._judge(trainer, module, last))
            self.budget.pause()
            if trainer.world_size == 1 and not ends and self.budget.over():
                self.reason, ends = "out of time", True  # it has just been validated and saved
        if ends:
            trainer.should_stop = True

    def _leaving(self, trainer: L.Trainer) -> bool:
        """Whether a process has a reason to stop; all processes stop at the same step."""
        if trainer.world_size == 1:
            return bool(self.reason)
        if not trainer.strategy.reduce_boolean_decision(bool(self.reason), all=False):
            return False
        told = gathered((self.reason, self.interrupted))
        self.reason = next(reason for reason, _ in told if reason)
        self.interrupted = any(interrupted for _, interrupted in told)
        return True

    def _judge(self, trainer: L.Trainer, module: TranslationModule, last: bool = False) -> None:
        """Validate, unless no time is left for it, and save.

        A run that is interrupted is validated when it goes on.
        """
        due = module.step % module.settings.validate_every == 0
        ends = module.step >= module.total_steps
        self.unvalidated = (due or ends) and module.step != self.judged
        if last and self.scores and not self.budget.can_validate():
            self.unvalidated = False
            self.report.warn(f"no time is left to validate step {module.step}; the last figures "
                             "are of an earlier step")  # fmt: skip
        elif not self.interrupted:
            try:
                self._judging = True
                final = module.objective.is_final(module.step)
                with self.budget.timed("validating" if final else "validating the first phase"):
                    self._validate(trainer, module)
                self.unvalidated, self.judged = False, module.step
                self._judging = False
            except StepLeft:
                module.ema.train()
        self.report.phase("saving")
        with self.budget.timed("saving"):
            self.save(module)
        self.report.phase("step")
        self._tell(module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restore_signals()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._restore_signals()

    def _restore_signals(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _read(self, trainer: L.Trainer, module: TranslationModule) -> None:
        """Wait for the losses, and log them."""
        self.losses = module.take_means()
        parts = balance(self.losses, module.objective.at_chance())
        self.balance = in_words(parts)
        if trainer.logger is not None:
            shown = {f"of_chance/{term}": part for term, part in parts.items()}
            trainer.logger.log_metrics(self.losses | shown, step=module.step)

    def _state(self, module: TranslationModule) -> Progress:
        """Where the run stands; the losses are those last read."""
        self.told = self.budget.clock()
        step, total, every = module.step, module.total_steps, module.settings.validate_every
        left = self.budget.remaining(total - step, -(-total // every) - step // every)
        known = left if step > self.begun_at else None
        return Progress(step, total, self.losses, self.scores, known, self.balance)

    def _tell(self, module: TranslationModule) -> None:
        """Between two readings of the losses: that the run goes on."""
        state = self._state(module)
        self.report.progress(state.step, state.total, state.line())

    def _directions(
        self, module: TranslationModule
    ) -> Iterator[tuple[Translator, str, Translator | None]]:
        """Every translator of the average, its name, and the one that leads back."""
        translators = self.cards.translators(module.objective, module.ema, module.step)
        by_ends = {(t.source, t.target): t for t in translators}
        for translator in translators:
            yield translator, translator.name, by_ends.get((translator.target, translator.source))

    def _validated(
        self,
        module: TranslationModule,
        translator: Translator,
        back: Translator | None,
        slices: ValidationSlices,
        report: Reporter,
    ) -> Validation | None:
        module.ema.eval()
        try:
            device = str(module.device)
            return validate(translator, back, slices, module.settings.seed, device, report)
        finally:
            module.ema.train()

    def _validate(self, trainer: L.Trainer, module: TranslationModule) -> None:
        """Validate every direction; keep the averaged weights of each that is at its best."""
        scores: dict[str, float] = {}
        shown: dict[str, dict[str, Any]] = {}
        for translator, name, back in self._directions(module):
            self.report.phase(f"validating {name}")
            found = self._validated(module, translator, back, self.slices, self.report)
            if found is None:
                continue
            scores |= {f"{name}/{key}": value for key, value in found.scores.items()}
            scores |= self._beside(translator)
            shown[name] = dict(zip(found.rows, found.pictures, strict=True))
            self._picture(trainer, name, panel(found.pictures), module.step)
            if found.check:
                self._doubt(name, found.check.warnings(f"what {name} makes at step {module.step}"))
        write_preview(self.run, module.step, shown)
        if not scores:
            return
        self.scores = scores
        if trainer.logger is not None:
            known = {name: value for name, value in scores.items() if math.isfinite(value)}
            trainer.logger.log_metrics(known, step=module.step)
        history.append(self.run, module.step, self.minutes(), scores)
        history.draw(self.run)
        self._keep_best(module)

    def make_up(self, trainer: L.Trainer, module: TranslationModule) -> None:
        """Validate a run that was interrupted at its last step, if that was left out."""
        if self.unvalidated:
            history.trim(self.run, module.step - 1)
            self.started = self.budget.clock()
            self.report.phase("validating")
            self._validate(trainer, module)

    def _keep_best(self, module: TranslationModule) -> None:
        """Keep the average for each direction that is at its best, and for all if asked to."""
        content = {
            "step": module.step,
            "second_phase": module.objective.second_phase,
            "ema": module.ema.state_dict(),
        }
        final = module.objective.is_final(module.step)
        for name in dict.fromkeys(key.partition("/")[0] for key in self.scores):
            own = {
                k.partition("/")[2]: v for k, v in self.scores.items() if k.startswith(f"{name}/")
            }
            if final and (found := better(own, module.step, self.best.get(name))):
                save_state(self.run / file_of(name), content)
                self.best[name] = found
        if module.settings.keep_checkpoints:
            save_state(self.run / file_of_step(module.step), content)

    def _beside(self, translator: Translator) -> dict[str, float]:
        """What copying and matching histograms reach on the same slices; measured once."""
        name, slices = translator.name, self.slices
        if name not in self.baselines:
            self.baselines[name] = baseline_scores(
                self.cards.manifest, slices, translator.source, translator.target
            )
        return {f"{name}/{key}": value for key, value in self.baselines[name].items()}

    def _doubt(self, name: str, warnings: Sequence[str]) -> None:
        """Warn once when a direction goes wrong, and again only after it has been right."""
        if warnings and name not in self.doubtful:
            for message in warnings:
                self.report.warn(message)
        (self.doubtful.add if warnings else self.doubtful.discard)(name)

    @staticmethod
    def _picture(trainer: L.Trainer, name: str, image: Any, step: int) -> None:
        writer: Any = getattr(trainer.logger, "experiment", None)
        if hasattr(writer, "add_image"):
            writer.add_image(name, np.clip(image, 0, 1), step, dataformats="HW")

    def minutes(self) -> float:
        """Minutes of training so far, over all invocations."""
        return self.minutes_before + (self.budget.clock() - self.started) / 60

    def save(self, module: TranslationModule) -> None:
        """Write `last.pt`, whole or not at all."""
        content = module.state() | {
            "best": {name: best.to_dict() for name, best in self.best.items()},
            "minutes": self.minutes(),
            "unvalidated": self.unvalidated,
            "data": str(self.cards.data.get("data_identity", "")),
        }
        save_state(self.run / LAST, content)

    def export(self, module: TranslationModule) -> list[Path]:
        """Write every translator from its own best average, or the last one if none is known."""
        self.report.phase("exporting")
        paths = []
        step, last = module.step, copy.deepcopy(module.ema.state_dict())
        for to in module.objective.makes:
            name = self.cards.name(to)
            path = kept(self.run, name)
            state: dict[str, Any] = {"step": step, "ema": last}
            if path:
                state = load_state(path, Average)
            module.ema.load_state_dict(state["ema"])
            card = self.cards.card(to, int(state["step"]))
            if path and name in self.best:
                card["training"]["chosen_by"] = self.best[name].by
            translator = module.objective.translator(module.ema, to, card)
            paths.append(translator.save(self.run / "translators" / name))
        return paths


def save_state(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all; a full disk is an error of one line."""
    # Through a file object: given a path, torch reports a full disk as an internal error.
    with whole_file(path) as temporary, temporary.open("wb") as file:
        torch.save(dict(content), file)


def load_state(path: Path, model: type[Average] = Whole) -> dict[str, Any]:
    """Load a checkpoint without executing anything in it.

    Args:
        path: of the checkpoint.
        model: what it must hold.

    Raises:
        ModelError: it is missing or damaged.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"no checkpoint at {path}", remedy="start without `resume`") from error
    except Exception as error:  # torch raises many kinds; each means "not a checkpoint"
        raise ModelError(f"the checkpoint {path} is damaged ({type(error).__name__})") from error
    check_state(content, path, model)
    return content


def _ours(module: L.LightningModule) -> TranslationModule:
    assert isinstance(module, TranslationModule)
    return module
