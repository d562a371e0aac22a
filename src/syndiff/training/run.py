"""train(): builds or resumes a run, fits it, and exports its translators.

RUN/
  settings.json                what was asked for
  run.yaml                     the same, to be given to another run
  cards.json                   what its translators say of the data
  history.csv                  one line per validation
  curves.png                   the same as a picture
  preview.png                  the same four validation slices after each validation
  checkpoints/last.pt          everything that a resumed run needs
  checkpoints/best_T1_to_T2.pt the averaged generators of the best validation of that direction
  logs/                        TensorBoard: losses, scores, pictures
  translators/T1_to_T2/        the results, one folder per direction
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from syndiff.errors import DataError, OptionError, UserError
from syndiff.io.atomic import write_json
from syndiff.io.locks import clear_leftovers, only_writer
from syndiff.networks.compiled import compile_networks, compiling
from syndiff.objectives.base import Objective
from syndiff.objectives.methods import method_of
from syndiff.preparation.manifest import Manifest, read_manifest
from syndiff.reporting import SILENT, Reporter
from syndiff.training.best import UNPAIRED
from syndiff.training.budget import Budget
from syndiff.training.cards import CARDS, Cards
from syndiff.training.data import PAIRINGS, Batches, Steps, training_batches
from syndiff.training.engine import PRECISIONS, build_trainer
from syndiff.training.guard import DivergedError
from syndiff.training.identity import data_identity
from syndiff.training.module import TranslationModule
from syndiff.training.need import memory_need, room_bytes, say_need
from syndiff.training.presets import TrainSettings
from syndiff.training.pretrained import begin_one_shot
from syndiff.training.processes import is_lost_process
from syndiff.training.progress import for_training
from syndiff.training.record import SETTINGS, Request, check_folder, json_like, kept_request
from syndiff.training.run_config import write_config
from syndiff.training.subjects import check_pairs
from syndiff.training.validation import ValidationSlices, validation_slices
from syndiff.training.watch import LAST, Watch, load_state


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
    source: str | Sequence[str] | None = None,
    target: str | None = None,
    settings: TrainSettings | None = None,
    one_shot: Path | None = None,
    pairs_from: Path | None = None,
    preset: str | None = None,
    max_minutes: float | None = None,
    precision: str | None = None,
    compiled: bool = False,
    devices: str = "auto",
    nodes: int = 0,
    resume: bool = False,
    report: Reporter = SILENT,
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
        one_shot: an earlier run whose one-shot module this run starts from.
        pairs_from: another prepared folder, whose pairs are trained on beside the unpaired
            slices of `data`, in shares of `settings.pair_share`; with pairing "mixed" only.
        preset: name of the preset, for the record.
        max_minutes: for this invocation, reading, validations and export included.
        precision: "32" (which is what a new run takes) or "bf16".
        compiled: have torch compile the networks, see `networks.compiled`.
        devices: "auto", "cpu", "cuda", or a number of devices of the kind at hand; unless it is a
            number, there are as many as torchrun or srun has started processes for, else one.
        nodes: machines of that many devices each; 0: as many as torchrun or srun uses, else one.
        resume: continue a run that was interrupted, or prolong one. What is not given is taken
            from the run; of what is given, only the length, the validations and what saves memory
            may differ.
        report: told the phases, every few steps how training goes, and what may spoil the
            result; a `TrainingReporter` is told more.

    Returns:
        How the run ended, in rank 0; the other processes return no translators. An interrupted
        run is saved first.

    Raises:
        UserError: the data, the run folder or an option cannot be used, another process writes to
            the folder, the data are not those of the resumed run, training diverged, or another
            process of the run is gone.
    """
    budget = Budget(max_minutes * 60 if max_minutes else None)
    data, run = Path(data), Path(run)
    request = _request(
        run if resume else None, source, target, settings, preset, one_shot, precision, pairs_from
    )
    manifest = read_manifest(data)
    _check(manifest, request)
    pairs = read_manifest(Path(request.pairs_from)) if request.pairs_from else None
    if pairs:
        check_pairs(pairs, manifest, (*request.sources, request.target))
    trainer = build_trainer(run, devices, nodes, request.precision)
    rank = trainer.global_rank
    identity = data_identity(manifest, *([pairs] if pairs else [])) if rank == 0 else ""
    asked = request.record(trainer.world_size, identity)
    with ExitStack() as stack:
        if rank == 0:  # other processes find the folder as rank 0 has made it
            check_folder(run, resume, asked)
            stack.enter_context(only_writer(run))
            for part in (run, run / "checkpoints", *run.glob("translators/*")):
                clear_leftovers(part)
            check_folder(run, resume, asked)  # again: another process may have been first
        told = for_training(report if rank == 0 else SILENT)
        _check_memory(manifest, request, trainer, told)
        told.phase("reading the slices")
        state = load_state(run / LAST) if resume and (run / LAST).exists() else None
        batches = _batches(manifest, pairs, request, trainer, told)
        _check_processes(request, trainer.world_size)
        objective = _objective(request, batches, state)
        cards = _cards(manifest, request, batches, identity)
        objective.spacing_mm = manifest.spacing_mm
        if rank == 0:
            write_json(run / SETTINGS, asked)  # from here on the run can be resumed
            write_config(run, json_like(asked))
            write_json(run / CARDS, cards.all(objective.makes))
        module = _module(objective, request.settings, batches, compiled, state, told)
        slices = validation_slices(manifest, request.sources, request.target)
        _warn_of_missing_pairs(request.sources, slices, told)
        watch = Watch(run, cards, slices, state, budget, told, compiled)
        trainer.callbacks.append(watch)  # type: ignore[attr-defined]
        if module.step < module.total_steps:
            told.phase(f"training on {batches.describe()}")
            with compiling(compiled):
                _fit(trainer, module, batches)
        if rank:
            return Outcome([], module.step)
        if not watch.interrupted and module.step >= module.total_steps:
            watch.make_up(trainer, module)
        return Outcome(watch.export(module), module.step, watch.reason, watch.interrupted)


def _request(
    run: Path | None,
    source: str | Sequence[str] | None,
    target: str | None,
    settings: TrainSettings | None,
    preset: str | None,
    one_shot: Path | None,
    precision: str | None,
    pairs_from: Path | None,
) -> Request:
    """What is asked for; a resumed run gives what is left out."""
    sources = (source,) if isinstance(source, str) else None if source is None else tuple(source)
    given = {
        "sources": sources,
        "target": target,
        "settings": settings,
        "preset": preset,
        "one_shot": None if one_shot is None else str(one_shot),
        "precision": precision,
        "pairs_from": None if pairs_from is None else str(pairs_from),
    }
    known = {name: value for name, value in given.items() if value is not None}
    if run is not None:
        return replace(kept_request(run), **known)  # type: ignore[arg-type]
    for name in ("sources", "target", "settings"):
        if name not in known:
            raise OptionError(f"no {name.removesuffix('s')} for a new run", "one")
    return Request(**known)  # type: ignore[arg-type]


def _cards(manifest: Manifest, request: Request, batches: Batches, identity: str) -> Cards:
    """What the translators keep of the run."""
    drawn: dict[str, Any] = batches.record() | {"data_identity": identity}
    if request.one_shot:
        drawn["one_shot_of"] = Path(request.one_shot).name
    if request.pairs_from:
        drawn["pairs_from"] = Path(request.pairs_from).name
    return Cards(
        manifest, request.sources, request.target, request.settings, request.preset, drawn
    )


def _warn_of_missing_pairs(
    sources: Sequence[str], slices: ValidationSlices, report: Reporter
) -> None:
    if not sources:
        report.warn(
            "without a source there is nothing to compare with: validation only makes pictures"
        )
    elif not slices.paired:
        report.warn(
            "no paired validation subject: no PSNR; each direction's best checkpoint is chosen "
            f"by {UNPAIRED}"
        )


def _check_memory(
    manifest: Manifest, request: Request, trainer: L.Trainer, report: Reporter
) -> None:
    """Tell how much memory a step needs.

    Raises:
        OptionError: there is not as much.
    """
    settings, (h, w) = request.settings, manifest.size
    need = memory_need(settings, (h, w), len(request.sources), request.precision)
    say_need(settings, need, room_bytes(trainer.strategy.root_device), report)


def _batches(
    manifest: Manifest,
    pairs: Manifest | None,
    request: Request,
    trainer: L.Trainer,
    report: Reporter,
) -> Batches:
    """This process's share of the run's batches.

    Raises:
        OptionError: a batch holds more slices than there are.
    """
    settings, world = request.settings, trainer.world_size
    batches = training_batches(
        manifest,
        request.sources,
        request.target,
        pairing=settings.pairing,
        shared=settings.shared_subjects,
        batch_size=settings.batch_size,
        seed=settings.seed,
        augment=settings.augment,
        rank=trainer.global_rank,
        world=world,
        pairs_of=pairs,
        pair_share=settings.pair_share,
        report=report,
    )
    fewest = min(len(store.slices) for store in batches.stores)
    if settings.batch_size * world > fewest:
        where = f" on {world} processes" if world > 1 else ""
        raise OptionError(
            f"`batch_size` {settings.batch_size}{where} with {fewest} slices",
            f"1 to {max(1, fewest // world)}",
        )
    return batches


def _check_processes(request: Request, world: int) -> None:
    """Raise where a method cannot do with several processes."""
    if world > 1 and vars(request.settings.objective).get("image_pool"):
        raise OptionError(f"`image_pool` on {world} processes", "one process, or 0")
    if world > 1 and request.settings.decay_minutes:
        raise OptionError(f"a decay by minutes on {world} processes", "one by steps")


def _objective(request: Request, batches: Batches, state: Mapping[str, Any] | None) -> Objective:
    """The objective with the first weights of a run."""
    settings = request.settings
    torch.manual_seed(settings.seed)
    method = method_of(settings.objective)
    supervised = settings.pairing == "paired"
    objective = method.build(settings.objective, len(request.sources), supervised)
    objective.steps_per_epoch = batches.steps_per_epoch
    if not state:
        begin_one_shot(objective, request.one_shot, request.sources, request.target)
    return objective


def _module(
    objective: Objective,
    settings: TrainSettings,
    batches: Batches,
    compiled: bool,
    state: Mapping[str, Any] | None,
    report: Reporter,
) -> TranslationModule:
    """The training module with the weights of the last checkpoint, if there is one."""
    total = settings.max_steps or settings.epochs * batches.steps_per_epoch
    module = TranslationModule(objective, settings, total)
    if module.not_recomputed:
        report.warn(f"`recompute` saves no memory in {', '.join(module.not_recomputed)}")
    module.leaving.eager = not compiled
    if compiled:
        compile_networks((*objective.generators.values(), *objective.discriminators.values()))
    if state:
        module.load_networks(state)
        if total <= module.step:
            report.warn(f"the run already has {module.step} steps of {total}: exporting only")
    return module


def _fit(trainer: L.Trainer, module: TranslationModule, batches: Batches) -> None:
    """Train up to the last step.

    Raises:
        UserError: training diverged, and the message names the slices of the first bad step; or
            another process has ended. If every process detects the error, only rank 0 raises it.
    """
    steps = Steps(module.step, module.total_steps)
    device = trainer.strategy.root_device
    if device.type == "cuda":  # a part that leaves enough memory to the networks
        batches.keep_on(device, room=torch.cuda.mem_get_info(device)[1] // 16)
    try:
        trainer.fit(module, DataLoader(batches, batch_size=None, sampler=steps))
    except RuntimeError as error:
        if trainer.world_size == 1 or not is_lost_process(error):
            raise
        raise UserError(
            f"process {trainer.global_rank + 1} of {trainer.world_size} lost another one at step "
            f"{module.step}: it was killed, or its device or the network failed",
            remedy="`resume` continues from the last checkpoint",
        ) from error
    except UserError as error:
        if not trainer.is_global_zero:
            return  # an error of this rank would be reported as the cause
        if not isinstance(error, DivergedError):
            raise
        raise UserError(
            f"{error.found}, on {', '.join(batches.names(error.step))}",
            remedy="look at these slices in the prepared data; if they are sound, start a new run "
            "with `spectral_norm` (the checkpoint in this one is from before)",
        ) from error


def _check(manifest: Manifest, request: Request) -> None:
    """Check the options before anything is written.

    Raises:
        DataError: the data do not hold a modality.
        OptionError: an option, or a combination of options, is not valid.
    """
    sources, target, settings = request.sources, request.target, request.settings
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
    pairing, method = settings.pairing, method_of(settings.objective)
    if pairing not in PAIRINGS:
        raise OptionError(f"the pairing {pairing!r}", f"one of {', '.join(PAIRINGS)}")
    if not sources and pairing != "unpaired":
        raise OptionError(f"`pairing` {pairing} without a source", "unpaired")
    if pairing != "mixed" and (request.pairs_from or settings.pair_share):
        given = "pairs_from" if request.pairs_from else "pair_share"
        raise OptionError(f"`{given}` with `pairing` {pairing}", "`pairing` mixed")
    if pairing in ("paired", "mixed") and not method.pairs:
        raise OptionError(f"`pairing` {pairing} with {method.name}", "unpaired")
    if request.precision not in PRECISIONS:
        raise OptionError(
            f"the precision {request.precision!r}", f"one of {', '.join(PRECISIONS)}"
        )
    if settings.batch_size % settings.accumulate:
        parts = f"`accumulate` {settings.accumulate} of a batch of {settings.batch_size}"
        raise OptionError(parts, "a number that divides the batch size")
