"""`report.html`: a self-contained page with the results of an evaluation.

The numbers come from the content of `metrics.json`, the pictures from the `Evaluation`. The
template is `report.html.j2` beside this file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from syndiff.anatomy.check import WARN_PX
from syndiff.evaluation import figures
from syndiff.evaluation.baselines import BASELINES
from syndiff.evaluation.metrics import METRICS
from syndiff.evaluation.persons import TISSUES_HU, limits_in_words
from syndiff.evaluation.planes import JUMPS
from syndiff.evaluation.scoring import Evaluation, Picture, badness, of_person
from syndiff.evaluation.sentences import facts as _facts
from syndiff.evaluation.sentences import methods_paragraph
from syndiff.evaluation.verdict import verdicts
from syndiff.page.html import filled
from syndiff.page.pictures import grey_png

OFFSET_WARNING_PX = WARN_PX
MOST_CURVES = 24  # subjects; a report of hundreds would be unreadable and huge
DISPLAY_PERCENTILE = 99.8
BASELINE_NOTES = {
    "copy": "the source as it is",
    "histogram": "intensities mapped, not learned",
    "regression": "mean target of each intensity, from training pairs",
}


def render(results: Mapping[str, Any], evaluation: Evaluation) -> str:
    """The page as HTML text.

    Args:
        results: the content of `metrics.json`.
        evaluation: the scores and pictures of the evaluation.
    """
    look = figures.looks(evaluation.models, BASELINES)
    limit = error_limit(evaluation.pictures)
    shown = list(enumerate([*evaluation.worst, *sorted(evaluation.pictures, key=badness)]))
    return filled(
        "syndiff.evaluation",
        "report.html.j2",
        {"number": _number, "percent": _percent, "pretty": _pretty},
        results=results,
        columns=columns(results["unit"]),
        metrics=METRICS,
        rows=_headline_rows(results),
        verdicts=verdicts(results["models"]),
        tissue_rows=_tissue_rows(results),
        tissues={name: limits_in_words(*hu) for name, hu in TISSUES_HU.items()},
        anatomy_rows=_anatomy_rows(results),
        legend={name: figures.legend_png(name, look) for name in evaluation.models},
        facts=_facts(results),
        methods=methods_paragraph(results),
        planes=_planes(results, evaluation),
        trust={n: e["trust"] for n, e in results["models"].items() if e.get("trust")},
        panels=[_panel(picture, limit, i < len(evaluation.worst)) for i, picture in shown],
        limit=limit,
        colour_bar=figures.colour_bar_png(),
        curves=_curves(evaluation, look),
        distributions=_distributions(results, evaluation, look),
        subject_rows=_subject_rows(results),
        warning_px=OFFSET_WARNING_PX,
        unit=results["unit"],
    )


def scores_in_words(scores: Mapping[str, float | None]) -> str:
    """ "PSNR 24.31 dB, SSIM 88.1 %, …" of one slice or of a mean."""
    return ", ".join(
        f"{m.title} {shown} {m.unit}".strip()
        for m in METRICS.values()
        if (shown := m.shown(scores[m.name])) != "–"
    )


def columns(unit: str) -> list[dict[str, Any]]:
    """The columns of the headline table: each metric's key, title, unit and way to be shown.

    Args:
        unit: of the target's intensities; in HU, what is a part of their range is shown in HU.
    """
    found = []
    for metric in METRICS.values():
        hu = metric.of_intensity and unit == "HU"
        shown = replace(metric, unit="HU", factor=1.0, digits=1) if hu else metric
        found.append({"key": f"{metric.name}_hu" if hu else metric.name, "metric": shown})
    return found


def _headline_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per model; `best` holds the columns in which it leads."""
    models = results["models"]
    trained = {n: e for n, e in models.items() if e["kind"] == "model"}
    measured = {n: e["offset_px"] for n, e in trained.items() if e["offset_px"] is not None}
    leaders: dict[str, str | None] = {
        name: metric.best({m: entry["person_means"][name] for m, entry in models.items()})
        for name, metric in METRICS.items()
    } | {
        # A baseline never moves the anatomy, so it is not compared in this column.
        "offset_px": min(measured, key=lambda n: measured[n]) if len(measured) > 1 else None,
    }
    return [
        {
            "name": name,
            "note": BASELINE_NOTES.get(name, ""),
            "baseline": entry["kind"] == "baseline",
            "best": {column for column, leader in leaders.items() if leader == name},
            "shifted": (entry["offset_px"] or 0) >= OFFSET_WARNING_PX,
            **entry,
        }
        for name, entry in models.items()
    ]


def _tissue_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For CT one row per model: its errors in HU by tissue; means over people."""
    if results["unit"] != "HU":
        return []
    return [
        {"name": name, "baseline": entry["kind"] == "baseline", **entry["person_means"]}
        for name, entry in results["models"].items()
    ]


def _anatomy_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per trained model, with the offset of its worst subject."""
    rows = []
    for name, entry in results["models"].items():
        if entry["anatomy"] is None:
            continue
        offsets = [s["anatomy"]["source_offset_px"] for s in entry["subjects"].values()]
        farthest = max((o for o in offsets if o is not None), default=None)
        shifted = (entry["anatomy"]["source_offset_px"] or 0) > OFFSET_WARNING_PX
        rows.append({"name": name, "farthest_px": farthest, "shifted": shifted} | entry["anatomy"])
    return rows


def error_limit(pictures: Sequence[Picture]) -> float:
    """The limit of the errors' colour scale, which is the same for all pictures.

    It follows from the best model of each picture, because the errors of a baseline are so large
    that those of the models would not be visible.
    """
    spreads = [
        min(float(np.percentile(abs(image - p.reference), 99)) for image in p.synthetic.values())
        for p in pictures
    ]
    return float(np.clip(round(1.5 * float(np.median(spreads or [0])), 1), 0.1, 0.5))


def _panel(picture: Picture, limit: float, worst: bool) -> dict[str, Any]:
    """Source, synthetic, reference and error of one slice for every model, as data URIs."""
    top = float(np.percentile(picture.reference, DISPLAY_PERCENTILE))
    source_top = float(np.percentile(picture.source, DISPLAY_PERCENTILE))
    return {
        "subject": picture.subject,
        "slice_index": picture.slice_index,
        "worst": worst,
        "source": grey_png(picture.source, source_top),
        "reference": grey_png(picture.reference, top),
        "models": {
            name: {
                "synthetic": grey_png(image, top),
                "error": figures.error_png(image - picture.reference, limit),
                "scores": scores_in_words(picture.scores[name]),
            }
            for name, image in picture.synthetic.items()
        },
    }


def _planes(results: Mapping[str, Any], evaluation: Evaluation) -> list[dict[str, Any]]:
    """Coronal and sagittal planes of the worst subject, with each model's jumps."""
    subject = _subject_rows(results)[0]["subject"]
    tall = (results.get("slice_spacing_mm") or 1) / (results.get("spacing_mm") or 1)
    if not (results.get("slice_spacing_mm") and results.get("spacing_mm")):
        tall = 1.0
    found = []
    for plane in evaluation.planes:
        if plane.subject != subject:
            continue
        rows, columns = plane.reference.shape
        top = float(np.percentile(plane.reference, DISPLAY_PERCENTILE))
        source_top = float(np.percentile(plane.source, DISPLAY_PERCENTILE))
        found.append(
            {
                "subject": subject,
                "name": plane.name,
                "ratio": f"{columns} / {rows * tall:.2f}",
                "source": grey_png(plane.source, source_top),
                "reference": grey_png(plane.reference, top),
                "models": {
                    name: {
                        "png": grey_png(image, top),
                        "jumps": results["models"][name]["subjects"][subject].get(JUMPS),
                    }
                    for name, image in plane.synthetic.items()
                },
            }
        )
    return found


def _curves(evaluation: Evaluation, look: Mapping[str, figures.Look]) -> list[dict[str, str]]:
    """PSNR along z for each subject, all on one scale."""
    values = [score.values["psnr_db"] for score in evaluation.scores]
    limits = (float(np.quantile(values, 0.005)) - 1, float(np.quantile(values, 0.995)) + 1)
    curves = []
    for subject in evaluation.subjects[:MOST_CURVES]:
        lines = {}
        for model in evaluation.models:
            scores = evaluation.of(model, subject)
            lines[model] = [s.slice_index for s in scores], [s.values["psnr_db"] for s in scores]
        curves.append({"subject": subject, "png": figures.curve_png(subject, lines, look, limits)})
    return curves


def _distributions(
    results: Mapping[str, Any], evaluation: Evaluation, look: Mapping[str, figures.Look]
) -> list[dict[str, str]]:
    """For each metric of the verdict a chart of the subjects' scores, where all are known."""
    charts = []
    for metric in METRICS.values():
        if metric.margin is None:
            continue
        found = {
            model: [
                of_person(map(entry["subjects"].get, visits), metric.name)
                for visits in evaluation.people.values()
            ]
            for model, entry in results["models"].items()
        }
        if any(value is None for values in found.values() for value in values):
            continue
        shown = {m: [metric.factor * value for value in values] for m, values in found.items()}
        png = figures.distribution_png(metric.label, shown, look)
        charts.append({"score": metric.title, "png": png})
    return charts


def _subject_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each subject its entry from every model; the worst by the first model comes first."""
    models = results["models"]
    rows = [
        {"subject": subject, "models": {n: e["subjects"][subject] for n, e in models.items()}}
        for subject in results["subjects"]
    ]

    def score(row: dict[str, Any]) -> float:
        value = next(iter(row["models"].values()))["psnr_db"]
        return float("inf") if value is None else value

    return sorted(rows, key=score)


def _number(value: float | None, digits: int = 2) -> str:
    """A number with a fixed count of digits; a dash for what could not be measured."""
    return "–" if value is None else f"{value:.{digits}f}"


def _pretty(value: Any) -> str:
    """Plain values as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def _percent(fraction: float | None) -> str:
    """A fraction in per cent; a dash for what could not be measured."""
    return _number(None if fraction is None else 100 * fraction, 1)
