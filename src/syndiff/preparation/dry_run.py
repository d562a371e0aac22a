"""What `prepare` would do: what it found, what it leaves out and why, and how long it will take.

Nothing is written to the folder of prepared data. The time is not guessed: one person of each kind
(with and without registration) is prepared into a temporary folder, and the others are expected to
take as long for each voxel.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from syndiff.errors import UserError
from syndiff.io.digest import stamp_of
from syndiff.io.outputs import expected_image_bytes
from syndiff.preparation.discover import some
from syndiff.preparation.folder import WORK, OutFolder
from syndiff.preparation.manifest import SPLITS, Manifest
from syndiff.preparation.recipe import Job, job_of, run_job
from syndiff.preparation.scans import ScanFolder
from syndiff.preparation.settings import Settings
from syndiff.preparation.source import Source
from syndiff.reporting import SILENT, Reporter

TRIES = 3  # people who are tried where the first cannot be prepared


@dataclass(frozen=True)
class Trial:
    """One person that was prepared into a temporary folder.

    Attributes:
        subject: whose scans.
        seconds: what it took, from reading to writing.
        weight: size of the scans, see `_weight`.
        written_bytes: size of the slices.
        spacing_mm: pixel size that this person alone needs.
    """

    subject: str
    seconds: float
    weight: int
    written_bytes: int
    spacing_mm: float


@dataclass(frozen=True)
class Forecast:
    """What `prepare` would do.

    Attributes:
        people, scans: numbers; of scans by modality.
        splits: split → its people, in order.
        found, left_out, steps, time: lines for people to read.
        state: "new", "begun" or "finished": the folder of prepared data.
        seconds: how long it will take; None if nobody could be tried.
        written_bytes: expected size of the slices.
        broken: scans of those who were tried that cannot be used.
    """

    people: int
    scans: dict[str, int]
    splits: dict[str, list[str]]
    found: list[str]
    left_out: list[str]
    steps: list[str]
    time: list[str]
    state: str
    seconds: float | None
    written_bytes: int
    broken: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """Everything, for a terminal."""
        return [*self.found, *self.steps, *self.left_out, *self.broken, *self.time]


def forecast(
    raw: Path, out: Path | None, settings: Settings, workers: int = 1, report: Reporter = SILENT
) -> Forecast:
    """Find the scans, try one person of each kind, and say what `prepare` would do.

    Args:
        raw, settings, report: see `prepare`.
        out: the folder that would be made, which is only looked at; None: not known yet.
        workers: number of processes that will share the work.

    Raises:
        UserError: `prepare` would refuse the scans, the options or the folder at once.
    """
    with tempfile.TemporaryDirectory(prefix="syndiff-") as scratch:
        job = job_of(Path(raw), Path(out or Path(scratch) / "out"), settings, report)
        state = job.folder.look()
        source = job.source
        broken: list[str] = []
        trials: dict[str, Trial] = {}
        if isinstance(source, ScanFolder) and state != "finished":
            report.phase("trying one person of each kind")
            trials = dict(_trials(job, source, Path(scratch), broken))
        left = _left(job.folder, source.files) if state == "begun" else list(source.files)
        seconds, written = _expected(source, left, settings, trials)
        return Forecast(
            people=len({_person(source, s) for s in source.files}),
            scans=_counts(source.files, settings.modalities),
            splits={
                split: sorted({_person(source, s) for s, x in source.splits.items() if x == split})
                for split in SPLITS
                if split in source.splits.values()
            },
            found=_found(Path(raw), source, settings),
            left_out=_left_out(source),
            steps=_steps(settings, source, trials, out, written),
            time=_time(state, seconds, trials, workers, out),
            state=state,
            seconds=seconds if seconds is None else seconds / workers,
            written_bytes=written,
            broken=broken,
        )


def _person(source: Source, subject: str) -> str:
    return source.cohort.people[subject] if isinstance(source, ScanFolder) else subject


def _counts(files: Mapping[str, Mapping[str, Path]], modalities: Sequence[str]) -> dict[str, int]:
    return {m: sum(m in of for of in files.values()) for m in modalities}


def _kind(settings: Settings, split: str, count: int) -> str:
    """Whether a subject's scans are registered; both kinds take different times."""
    wanted = settings.register_training if split == "train" else True
    return "registered" if settings.register and wanted and count > 1 else "read"


def _weight(raw: Path, files: Mapping[str, Path]) -> int:
    """Bytes of a subject's scans as float32; of DICOM about so."""
    return sum(
        expected_image_bytes(raw / path) or 2 * stamp_of(raw / path)["bytes"]
        for path in files.values()
    )


def _trials(
    job: Job, source: ScanFolder, scratch: Path, broken: list[str]
) -> Iterator[tuple[str, Trial]]:
    """Prepare a middling person of each kind; whoever cannot be is named in `broken`."""
    kinds: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for subject, files in source.files.items():
        kind = _kind(job.settings, source.splits[subject], len(files))
        kinds[kind].append((_weight(source.raw, files), subject))
    for kind, weighed in kinds.items():
        weighed.sort()
        middle = len(weighed) // 2
        for weight, subject in (weighed[middle:] + weighed[:middle])[:TRIES]:
            started = time.monotonic()
            try:
                manifest = _alone(job, source, subject, scratch / f"{kind}-{subject}")
            except UserError as error:
                broken.append(f"cannot be used: {error}")
                continue
            seconds = time.monotonic() - started
            size = sum(scan.slices_path.stat().st_size for scan in manifest.all_scans())
            yield kind, Trial(subject, seconds, weight, size, manifest.spacing_mm)
            break


def _alone(job: Job, source: ScanFolder, subject: str, out: Path) -> Manifest:
    """Prepare one subject into a folder of its own."""
    only = replace(source.only(subject), work=out / WORK, report=SILENT)
    folder = OutFolder(out, job.folder.options, only)
    out.mkdir()
    return run_job(replace(job, source=only, folder=folder, report=SILENT))


def _left(folder: OutFolder, files: Mapping[str, object]) -> list[str]:
    """The subjects that an earlier, unfinished run has not measured."""
    return [subject for subject in files if not (folder.work / f"{subject}.json").is_file()]


def _expected(
    source: Source, left: Sequence[str], settings: Settings, trials: Mapping[str, Trial]
) -> tuple[float | None, int]:
    """Seconds for the subjects that are left, and bytes of all slices."""
    if not isinstance(source, ScanFolder) or not trials:
        return None, 0
    seconds = written = 0.0
    for subject, files in source.files.items():
        kind = _kind(settings, source.splits[subject], len(files))
        trial = trials.get(kind) or next(iter(trials.values()))
        share = _weight(source.raw, files) / max(trial.weight, 1)
        written += share * trial.written_bytes
        if subject in left:
            seconds += share * trial.seconds
    return seconds, round(written)


def _found(raw: Path, source: Source, settings: Settings) -> list[str]:
    files, splits = source.files, source.splits
    people = {_person(source, subject) for subject in files}
    scans = ", ".join(f"{n} {m}" for m, n in _counts(files, settings.modalities).items())
    visits = f" ({len(files)} visits)" if len(files) != len(people) else ""
    lines = [f"found in {raw}: {_people(len(people))}{visits}; scans: {scans}"]
    first = next(iter(files))
    shown = ", ".join(f"{m} {path.as_posix()}" for m, path in files[first].items())
    lines.append(f"for example {first}: {shown}")
    for split in SPLITS:
        names = sorted({_person(source, s) for s, x in splits.items() if x == split})
        if names:
            lines.append(f"{split}: {_people(len(names))}: {some(names)}")
    return lines


def _left_out(source: Source) -> list[str]:
    if not isinstance(source, ScanFolder):
        return []
    reasons: dict[str, list[str | Path]] = defaultdict(list)
    for left in source.cohort.left_out:
        reasons[left.reason].append(left.path)
    unused = [s for s in source.unused if _person(source, s) not in source.lacking]
    reasons["people who lack a modality and are in no split"] += source.lacking
    reasons["subjects in no split"] += unused
    reasons["synthetic images, taken nevertheless"] += source.synthetic
    return [
        f"left out: {len(names)} {reason}: {some(names)}" for reason, names in reasons.items()
        if names
    ]  # fmt: skip


def _people(count: int) -> str:
    return f"{count} people" if count != 1 else "1 person"


def _steps(
    settings: Settings,
    source: Source,
    trials: Mapping[str, Trial],
    out: Path | None,
    written: int,
) -> list[str]:
    first, *others = settings.modalities
    lines = []
    if others and isinstance(source, ScanFolder):
        everybody = settings.register_training or settings.scales is not None
        who = "everybody" if everybody else "validation and test"
        how = f"of {who}, affine" if settings.register else "by their headers alone"
        lines.append(f"would bring {' and '.join(others)} onto {first}: {how}")
    h, w = settings.shape
    if settings.spacing_mm is None and trials:
        finest = ", ".join(f"{t.subject} alone: {t.spacing_mm:.3g}" for t in trials.values())
        pixels = f"pixels as fine as the largest head allows ({finest} mm)"
    else:
        pixels = f"pixels of {settings.spacing_mm or 0:.3g} mm"
    rule = "a translator's scales" if settings.scales else f"the {settings.intensity} rule"
    most = f", at most {settings.max_slices} per scan" if settings.max_slices else ""
    size = f", about {written / 1e6:.0f} MB" if written else ""
    where = f" to {out}" if out else ""
    lines.append(
        f"would write axial slices of {h}×{w} {pixels}{most}, intensities by {rule}{where}{size}"
    )
    return lines


def _time(
    state: str,
    seconds: float | None,
    trials: Mapping[str, Trial],
    workers: int,
    out: Path | None,
) -> list[str]:
    if state == "finished":
        return [f"time: none, {out} is finished"]
    if seconds is None:
        return ["time: not known, nobody was tried"]
    tried = ", ".join(f"{t.subject} ({kind}) took {t.seconds:.1f} s" for kind, t in trials.items())
    begun = "; the people whom an earlier run has measured are not counted" * (state == "begun")
    shared = f" in {workers} processes" if workers > 1 else ""
    return [f"time: about {_in_words(seconds / workers)}{shared}: {tried} on this machine{begun}"]


def _in_words(seconds: float) -> str:
    """A duration without false precision."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
