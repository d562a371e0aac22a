"""Scores of each slice, and their summaries over subjects and over the test set.

Only one subject is in memory at a time, and only the pictures shown in the report are kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.anatomy.check import AnatomyCheck
from syndiff.anatomy.offset import Offset, median_vector, offset_between
from syndiff.errors import DataError
from syndiff.evaluation.metrics import METRICS, normalised
from syndiff.evaluation.planes import Plane, choose_pictures, planes_of
from syndiff.evaluation.profiles import Profile
from syndiff.reporting import SILENT, Reporter

WORST_SLICES = 2
WORST_BY = "psnr_db"
Slices = NDArray[np.float32]
Predict = Callable[[Slices], Slices]
Check = Callable[[Slices, Slices], AnatomyCheck]
Mask = NDArray[np.bool_]
FindHead = Callable[[Slices], Mask]
Restore = Callable[[Slices], Slices]
Beside = Callable[[Slices, Slices, Mask], dict[str, float | None]]


@dataclass(frozen=True)
class Case:
    """One test subject.

    Attributes:
        subject: its name.
        slice_indices: (n,) indices of its slices in the volume, ascending to superior.
        load: reads source and reference, each (n, h, w) float32 in [0, 1].
        person: whose scan it is; of several visits of a person each is a subject. Empty: the
            subject's own name.
        mask: gives the mask (n, h, w) after `load`; found by `find_head` if there is none.
    """

    subject: str
    slice_indices: tuple[int, ...]
    load: Callable[[], tuple[Slices, Slices]]
    person: str = ""
    mask: Callable[[], Mask] | None = None


@dataclass(frozen=True)
class SliceScore:
    """The scores of one slice by one model.

    Attributes:
        values: one for each of `METRICS`, by name; NaN where there is none.
        offset: against the reference.
    """

    model: str
    subject: str
    slice_index: int
    values: Mapping[str, float]
    offset: Offset


@dataclass(frozen=True)
class Picture:
    """The images of one slice for the report, (h, w) each, normalised as the profile defines.

    Attributes:
        source: as prepared, in [0, 1].
        reference: the acquired target.
        synthetic: by model name.
        scores: model name → the slice's values by metric.
    """

    subject: str
    slice_index: int
    source: NDArray[Any]
    reference: NDArray[Any]
    synthetic: dict[str, NDArray[Any]] = field(default_factory=dict)
    scores: dict[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass
class Evaluation:
    """All scores of a test set.

    Attributes:
        profile: how slices were compared.
        scores: of every model and slice.
        checks: model → subject → comparison with the source; for models only.
        volumes: model → subject → score of its three-dimensional image by metric; empty for
            profiles of slices.
        beside: model → subject → measures of the whole subject (persons.py).
        person_of: subject → person.
        pictures, seconds, blank_slices: for the report.
        worst: the slices on which the first model has the lowest PSNR, the lowest first, each
            of another subject.
        planes: coronal and sagittal planes of every subject.
    """

    profile: Profile
    scores: list[SliceScore] = field(default_factory=list)
    checks: dict[str, dict[str, AnatomyCheck]] = field(default_factory=dict)
    volumes: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    beside: dict[str, dict[str, dict[str, float | None]]] = field(default_factory=dict)
    person_of: dict[str, str] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    worst: list[Picture] = field(default_factory=list)
    planes: list[Plane] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    blank_slices: int = 0

    @property
    def models(self) -> list[str]:
        """Names in the order in which they were given."""
        return list(self.seconds)

    @property
    def subjects(self) -> list[str]:
        """Subjects that have scores, in order."""
        return list(dict.fromkeys(score.subject for score in self.scores))

    @property
    def people(self) -> dict[str, list[str]]:
        """Person → the subjects (visits) that have scores, in order."""
        found: dict[str, list[str]] = {}
        for subject in self.subjects:
            found.setdefault(self.person_of.get(subject) or subject, []).append(subject)
        return found

    def of(self, model: str, subject: str | None = None) -> list[SliceScore]:
        """The scores of one model, and of one subject if given, in order of slices."""
        return [s for s in self.scores if s.model == model and subject in (None, s.subject)]


def evaluate_predictions(
    cases: Sequence[Case],
    predictors: Mapping[str, Predict],
    profile: Profile,
    *,
    of_subject: Mapping[str, Callable[[str], Slices]] | None = None,
    checks: Mapping[str, Check] | None = None,
    find_head: FindHead | None = None,
    to_unit: Restore | None = None,
    beside: Beside | None = None,
    pictures: int = 4,
    report: Reporter = SILENT,
) -> Evaluation:
    """Translate every case with every predictor, and score the results.

    Args:
        cases: the test subjects.
        predictors: name → function of source slices (n, h, w) that gives (n, h, w) in [0, 1].
        profile: how slices are compared.
        of_subject: for the predictors that make their slices from something else than the
            source slices, name → function of the subject's name that gives (n, h, w).
        checks: for the predictors to be compared with their sources too, name → function of
            source and synthetic slices.
        find_head: finds the head in a person's reference slices, (n, h, w) → bool; needed where
            the profile compares inside it.
        to_unit: converts [0, 1] to the profile's unit, where that is HU.
        beside: function of synthetic slices, reference slices and head that gives further
            numbers of the whole person, by name.
        pictures: how many slices are kept for the report.
        report: receives the current model and subject.

    Raises:
        DataError: a predictor returns another shape or values that are not finite, or no slice
            of any case has a reference.
    """
    evaluation = Evaluation(profile, seconds=dict.fromkeys(predictors, 0.0))
    evaluation.person_of |= {case.subject: case.person or case.subject for case in cases}
    chosen = choose_pictures([len(case.slice_indices) for case in cases], pictures)
    total = len(cases) * len(predictors)
    report.phase("evaluating")
    for number, case in enumerate(cases):
        source, reference = _loaded(case)
        head = _head(case, reference, find_head)
        region = head if profile.mask == "inside" else np.ones(reference.shape, bool)
        acquired = reference if to_unit is None else to_unit(reference)
        usable = [i for i in range(len(reference)) if _holds(reference[i], region[i])]
        evaluation.blank_slices += len(reference) - len(usable)
        shown = set(chosen[number]).intersection(usable)
        kept = {i: _picture(case, i, source, reference, head, profile) for i in sorted(shown)}
        images: dict[str, Slices] = {}
        for position, (name, predict) in enumerate(predictors.items()):
            report.progress(number * len(predictors) + position, total, f"{name}: {case.subject}")
            started = time.perf_counter()
            own = (of_subject or {}).get(name)
            made = predict(source) if own is None else own(case.subject)
            synthetic = _checked(made, source, name, case.subject)
            evaluation.seconds[name] += time.perf_counter() - started
            images[name] = synthetic
            if name in (checks or {}):
                check = checks[name](source, synthetic)  # type: ignore[index]
                evaluation.checks.setdefault(name, {})[case.subject] = check
            if beside is not None:
                found = beside(synthetic, reference, head)
                evaluation.beside.setdefault(name, {})[case.subject] = found
            made = synthetic if to_unit is None else to_unit(synthetic)
            if profile.scope == "volume" and usable:
                values = _values(made, acquired, profile, head)
                evaluation.volumes.setdefault(name, {})[case.subject] = values
            for i in usable:
                values = _values(made[i], acquired[i], profile, head[i])
                offset = offset_between(synthetic[i], reference[i])
                score = SliceScore(name, case.subject, case.slice_indices[i], values, offset)
                evaluation.scores.append(score)
                if i in kept:
                    image = _shown(synthetic[i], reference[i], head[i], profile)
                    _keep(kept[i], score, image)
        evaluation.pictures += kept.values()
        evaluation.planes += planes_of(case.subject, source, images, reference, head)
        if usable:
            scores = evaluation.of(next(iter(predictors)), case.subject)
            i = usable[int(np.argmin([score.values[WORST_BY] for score in scores]))]
            picture = _picture(case, i, source, reference, head, profile)
            for score in evaluation.scores[-len(usable) * len(predictors) :]:
                if score.slice_index == case.slice_indices[i]:
                    image = images[score.model][i]
                    _keep(picture, score, _shown(image, reference[i], head[i], profile))
            ranked = sorted([*evaluation.worst, picture], key=badness)
            evaluation.worst = ranked[:WORST_SLICES]
    report.progress(total, total, "done")
    if not evaluation.scores:
        raise DataError("every reference slice of the test set is blank", "slices with tissue")
    return evaluation


def badness(picture: Picture) -> float:
    """PSNR of the first model; the worst picture has the least."""
    return next(iter(picture.scores.values()))[WORST_BY]


def summarise(scores: Sequence[SliceScore]) -> dict[str, Any]:
    """The number of slices, and where they lie; no NaN, so fit for JSON.

    The offset is the length of the median displacement over the slices (see `median_vector`);
    None where no slice had edges.
    """
    dy, dx = median_vector(score.offset for score in scores)
    known = math.isfinite(dy)
    return {
        "slices": len(scores),
        "offset_px": math.hypot(dy, dx) if known else None,
        "offset_yx_px": [dy, dx] if known else None,
        "offset_confidence": float(np.median([score.offset.confidence for score in scores])),
    }


def summarise_model(evaluation: Evaluation, model: str) -> dict[str, Any]:
    """A model's entry in `metrics.json`, with three kinds of means.

    slice_means   over all slices of the cohort, each counting once
    subjects      each subject's own score: of its volume, or the mean of its slices, as the
                  profile says; `slice_means` in it is over the subject's slices
    person_means  over the cohort, each person counting once: the headline

    A person counts once, however many visits there are: visits of one person resemble each other,
    so as independent samples they would make the spread look too small.
    """
    volumes = evaluation.volumes.get(model)
    subjects: dict[str, dict[str, Any]] = {}
    for subject in evaluation.subjects:
        scores = evaluation.of(model, subject)
        over_slices = slice_means(scores)
        own = _known(volumes[subject]) if volumes else {n: over_slices[n] for n in METRICS}
        subjects[subject] = summarise(scores) | own | {"slice_means": over_slices}
        subjects[subject] |= evaluation.beside.get(model, {}).get(subject, {})
    people = [[subjects[s] for s in visits] for visits in evaluation.people.values()]
    over_people: dict[str, Any] = {"people": len(people)}
    for name in METRICS:
        mean, deviation = mean_and_deviation(of_person(visits, name) for visits in people)
        over_people |= {name: mean, f"{name}_std": deviation}
    offsets = [s["offset_px"] for s in subjects.values() if s["offset_px"] is not None]
    over_people["offset_px_max"] = max(offsets, default=None)
    for name in next(iter(evaluation.beside.get(model, {}).values()), {}):
        over_people[name] = mean_and_deviation(of_person(visits, name) for visits in people)[0]
    scores = evaluation.of(model)
    return summarise(scores) | {
        "slice_means": slice_means(scores),
        "person_means": over_people,
        "subjects": subjects,
    }


def of_person(visits: Iterable[Mapping[str, Any]], name: str) -> Any:
    """The mean of a number over a person's visits; None where none of them has it."""
    known = [visit[name] for visit in visits if visit.get(name) is not None]
    return sum(known) / len(known) if known else None


def slice_means(scores: Sequence[SliceScore]) -> dict[str, float | None]:
    """Mean, and sample standard deviation over slices, of each score."""
    found: dict[str, float | None] = {}
    for name in METRICS:
        mean, deviation = mean_and_deviation(score.values[name] for score in scores)
        found |= {name: mean, f"{name}_std": deviation}
    return found


def mean_and_deviation(
    values: Iterable[float | None],
) -> tuple[float, float] | tuple[None, None]:
    """Mean and sample standard deviation (0 for a single value) of the known, finite values."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None, None
    array = np.array(known, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0


def _known(values: Mapping[str, float]) -> dict[str, float | None]:
    """The values with None for NaN."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _values(
    image: NDArray[Any], reference: NDArray[Any], profile: Profile, head: Mask
) -> dict[str, float]:
    """Every metric of a slice or a volume, in the profile's unit."""
    return {m.name: m.function(image, reference, profile, head) for m in METRICS.values()}


def _loaded(case: Case) -> tuple[Slices, Slices]:
    source, reference = case.load()
    if not len(source) == len(reference) == len(case.slice_indices):
        raise DataError(
            f"{case.subject} has {len(source)} source and {len(reference)} target slices",
            f"{len(case.slice_indices)} of each",
            "prepare the data again",
        )
    return source, reference


def _checked(synthetic: Slices, source: Slices, name: str, subject: str) -> Slices:
    """A predictor's result; DataError if its shape or its values cannot be scored."""
    expected = (len(source), *source.shape[-2:])
    if synthetic.shape != expected:
        raise DataError(
            f"{name} gave slices of shape {synthetic.shape} for {subject}", f"{expected}"
        )
    if not np.isfinite(synthetic).all():
        raise DataError(f"{name} gave NaN or infinite values for {subject}", "finite values")
    return synthetic


def _head(case: Case, reference: Slices, find_head: FindHead | None) -> Mask:
    """The case's own mask, the head found in its reference, or everything."""
    if case.mask is not None:
        return case.mask()
    return np.ones(reference.shape, bool) if find_head is None else find_head(reference)


def _holds(reference: NDArray[Any], head: Mask) -> bool:
    """Whether the reference has a positive value inside the head."""
    return bool(head.any()) and float(reference[head].max()) > 0


def _picture(
    case: Case, i: int, source: Slices, reference: Slices, head: Mask, profile: Profile
) -> Picture:
    shown = _shown(reference[i], reference[i], head[i], profile)
    first = source[i] if source.ndim == 3 else source[i, 0]
    return Picture(case.subject, case.slice_indices[i], np.array(first), shown)


def _keep(picture: Picture, score: SliceScore, synthetic: NDArray[Any]) -> None:
    picture.synthetic[score.model] = synthetic
    picture.scores[score.model] = score.values


def _shown(
    image: NDArray[Any], reference: NDArray[Any], head: Mask, profile: Profile
) -> NDArray[Any]:
    """The slice (h, w) normalised as the profile does it, as float32; HU are shown in [0, 1]."""
    if profile.normalise != "none" and reference.max() > 0:
        inside = head if profile.mask == "inside" else None
        image = normalised(image, reference, profile, inside)[0]
    return np.array(image, dtype=np.float32)
