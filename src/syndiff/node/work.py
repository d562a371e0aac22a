"""A study in the queue: which of its series are translated, and their results."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from typing import Any

from syndiff import __version__
from syndiff.dicom.options import DicomOptions
from syndiff.dicom.series import REGULAR, Series, series_of
from syndiff.errors import OptionError, UserError
from syndiff.inference import Model, TranslationOptions, translate
from syndiff.inference.archive import save_series
from syndiff.io.locks import clear_leftovers
from syndiff.node.config import NodeConfig, Rule
from syndiff.node.folder import Job, NodeFolder, is_full
from syndiff.node.log import Log, Study

MOST_ATTEMPTS = 8  # of a translation that ended the program, before the study is set aside
KINDS = ("CT", "T1", "T1C", "T2", "FLAIR", "PD")  # what `contrast_of` takes a series for
NAMESPACE = uuid.UUID("5bd1a1f0-6b0e-5c7e-9d55-0d6d2f7b8d11")  # of the UIDs made here
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Loaded:
    """A rule with its model in memory."""

    rule: Rule
    model: Model
    options: TranslationOptions

    @property
    def name(self) -> str:
        """The model's name in the log."""
        return self.model.translator.name

    def fits(self, series: Series) -> bool:
        """Whether the series is of the kind that the rule takes, usable or not."""
        rule, header = self.rule, series.header
        kind = rule.taken_for
        if not kind and not rule.description:
            kind = self.model.translator.source
        return (
            header.modality in ("MR", "CT")
            and rule.modality in ("", header.modality)
            and kind in ("", series.taken_for)
            and re.search(rule.description, header.description, re.IGNORECASE) is not None
            and not (rule.but_not and re.search(rule.but_not, header.description, re.IGNORECASE))
        )

    def takes(self, series: Series) -> bool:
        """Whether a series that fits is used."""
        if series.stack is None or len(series.stack.frames) < self.rule.least_slices:
            return False
        return not series.reason or (series.needs == REGULAR and self.rule.regular_grid)

    def digest(self, series: Series) -> str:
        """What decides a result: the images, the model, the options and this version."""
        assert series.stack is not None
        images = sorted(f"{f.instance_uid}#{f.index}" for f in series.stack.frames)
        content = [
            series.header.series_uid, series.label, images, self.model.weights_sha256,
            self.model.config_sha256, self.options.deciding(), self.rule.regular_grid, __version__,
        ]  # fmt: skip
        return sha256(json.dumps(content).encode()).hexdigest()


def load(config: NodeConfig) -> list[Loaded]:
    """The models of a node.

    Raises:
        UserError: a model cannot be read, or it is not clear which series it takes.
    """
    found = []
    for rule in config.models:
        model = Model.read(rule.model)
        sources = model.translator.sources
        if len(sources) != 1:
            raise OptionError(
                f"`model` {rule.model}, which translates from {len(sources)} series",
                "one that translates from one series",
            )
        if not (rule.taken_for or rule.description) and sources[0] not in KINDS:
            raise OptionError(
                f"`model` {rule.model} translates from {sources[0]}, which no series is taken for",
                f"`description`, or `taken_for` as one of {', '.join(KINDS)}",
                "say in the node's file which series it takes",
            )
        options = TranslationOptions(
            seed=rule.seed, batch_size=config.batch_size, device=config.device
        )
        found.append(Loaded(rule, model, options))
    return found


def uids(digest: str) -> Callable[[], str]:
    """UIDs that are the same whenever the same result is made: 2.25 and a UUID of the digest."""
    numbers = count()
    return lambda: f"2.25.{uuid.uuid5(NAMESPACE, f'{digest}/{next(numbers)}').int}"


def chosen(
    entries: Sequence[Series], models: Sequence[Loaded]
) -> Iterator[tuple[Loaded, Series, str]]:
    """Each series that a model takes; or would take, with the reason why it cannot.

    Synthetic series, localisers and derived series are passed over.
    """
    for loaded in models:
        for series in entries:
            if series.header.synthetic or not loaded.fits(series):
                continue
            few = series.stack is not None and len(series.stack.frames) < loaded.rule.least_slices
            if loaded.takes(series):
                yield loaded, series, ""
            elif series.reason and not few and not _passed_over(series):
                yield loaded, series, f"{series.name}: {series.reason}"


def _passed_over(series: Series) -> bool:
    return series.needs == "series" or "localiser" in series.reason


class Worker:
    """Translates studies.

    Args:
        models: the models, and which series each takes.
        folder: of the node.
        log: receives a line for each study.
        again_after_s: the same result is not made again sooner.
    """

    def __init__(
        self, models: Sequence[Loaded], folder: NodeFolder, log: Log, again_after_s: float
    ) -> None:
        self._models, self._folder, self._log = models, folder, log
        self._again_after_s = again_after_s

    def translate(self, job: Job) -> bool:
        """Translate a study and move it on.

        Returns:
            False if there is no space, and it has to be tried again.
        """
        if job.attempts() >= MOST_ATTEMPTS:
            self._aside(job, [f"its translation ended the program {MOST_ATTEMPTS} times"])
            return True
        try:
            job.begin()
            made, faults, passed = self._results(job)
            if faults and not made:
                self._log.warn(f"study {job.key}: in quarantine: {'; '.join(faults)}")
            if made or faults:
                job = self._folder.finish(job, faults)
        except (OSError, UserError) as error:
            if not is_full(error):
                raise
            self._log.warn(f"study {job.key}: there is no space for the result; tried again")
            job.forget_attempts()
            return False
        if not made and not faults:
            self._log.say(f"study {job.key}: nothing to do: {passed}")
            self._folder.remove(job)
        for fault in faults if made else ():
            self._log.warn(f"study {job.key}: {fault}")
        return True

    def _aside(self, job: Job, faults: list[str]) -> None:
        self._log.warn(f"study {job.key}: in quarantine: {'; '.join(faults)}")
        self._folder.quarantine(job, *faults)

    def _results(self, job: Job) -> tuple[int, list[str], str]:
        """Make the results that are not there yet.

        Returns:
            The number of results, what could not be translated, and, where there is neither, why
            nothing is to be done.
        """
        report = Study(self._log, job.key)
        clear_leftovers(job.results)
        try:
            entries = series_of(job.received)
            found = list(chosen(entries, self._models))
        except Exception as error:
            return 0, [_said(error)], ""
        if not found and all(s.header.synthetic for s in entries if s.header.modality):
            return 0, [], "all of its series are synthetic"
        if not found:
            kinds = ", ".join(s.taken_for or s.header.modality or "?" for s in entries)
            return 0, [f"no model takes one of its {len(entries)} series ({kinds})"], ""
        made, repeated, faults = 0, 0, []
        for loaded, series, reason in found:
            if reason:
                faults.append(reason)
                continue
            digest = loaded.digest(series)
            if self._folder.done_lately(digest, self._again_after_s):
                repeated += 1
                continue
            fault = self._one(job, loaded, series, digest, report)
            made, faults = made + (not fault), faults + ([fault] if fault else [])
        return made, faults, "its results were sent lately" if repeated else ""

    def _one(self, job: Job, loaded: Loaded, series: Series, digest: str, report: Study) -> str:
        """Make one result, unless an interrupted attempt made it; what went wrong, if anything."""
        from syndiff.dicom.reading import read_series

        folder = job.results / digest
        if folder.exists():
            return ""
        options = DicomOptions(str(series.number), regular_grid=loaded.rule.regular_grid)
        try:
            volume = read_series(series, job.received, options)
            made = translate(loaded.model, volume, loaded.options, report=report)
            save_series(made, folder, uid=uids(digest))
        except Exception as error:
            return f"{series.name}: {_said(error)}"
        self._log.say(
            f"study {job.key}: {series.name} ({series.files} files) "
            f"translated by {loaded.name} in {made.record['seconds']:.1f} s"
        )
        return ""


def digests(job: Job) -> list[str]:
    """The digests of a job's results."""
    return sorted({path.parent.name for path in job.images()})


def _said(error: Exception) -> str:
    """An error in words; of a defect its type and place alone, as its words may quote a tag.

    Raises:
        Exception: the error itself, if it is a disk without space: that passes.
    """
    if is_full(error):
        raise error
    if isinstance(error, UserError):
        return str(error)
    last: Any = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    code = last.tb_frame.f_code
    where = f"{code.co_filename.rpartition('/')[2]}:{last.tb_lineno}"
    return f"a defect of syndiff, {type(error).__name__} in {where}"
