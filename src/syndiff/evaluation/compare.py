"""`syndiff compare`: one table for any number of methods, with statistics and pictures.

It writes what `evaluate` writes, and beside it comparison.json, table.md, table.tex, table.csv
and pictures/*.png.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from syndiff.errors import OptionError
from syndiff.evaluation import results, statistics, tables
from syndiff.evaluation.candidates import How
from syndiff.evaluation.evaluate import measure
from syndiff.evaluation.folders import sort
from syndiff.evaluation.metrics import METRICS
from syndiff.evaluation.panels import panel_png
from syndiff.evaluation.profiles import get_profile
from syndiff.evaluation.report import error_limit
from syndiff.evaluation.scoring import Evaluation, of_person
from syndiff.evaluation.statistics import Comparison, Unit
from syndiff.io.atomic import whole_file, write_json, write_text
from syndiff.io.locks import only_writer
from syndiff.reporting import SILENT, Reporter

WRITTEN = ("comparison.json", "table.md", "table.tex", "table.csv")
PICTURES = "pictures"
UNITS: tuple[Unit, ...] = ("subject", "slice")


def compare(
    data: Path,
    out: Path,
    *,
    methods: Mapping[str, Path],
    against: str = "",
    metrics: Sequence[str] = (),
    by: str = "subject",
    split: str = "test",
    source: str | None = None,
    target: str | None = None,
    profile: str = "subject",
    anonymous: bool = True,
    overwrite: bool = False,
    how: How = How(),  # noqa: B008 - it is frozen
    report: Reporter = SILENT,
) -> dict[str, Any]:
    """Score methods and baselines on prepared data and compare each with one of them.

    Args:
        data: folder made by `syndiff prepare`.
        out: folder for the results.
        methods: name → translator, run, or folder of images from any software (folders.py).
        against: the method that the others are tested against; the first by default.
        metrics: names of the columns; by default those that the profile's procedure defines.
        by: "subject", or "slice" for the paper's own way, which takes slices for people.
        split, source, target, profile, anonymous, overwrite, how, report: see
            `syndiff.evaluation.evaluate`.

    Returns:
        The content of `comparison.json`.

    Raises:
        UserError: the data, a method or an option cannot be used; nothing is written then.
    """
    data, out = Path(data), Path(out)
    against = against or next(iter(methods), "")
    names = tuple(metrics) or get_profile(profile).defines
    _check(against, methods, names, by)
    results.check(out, overwrite, also=[*WRITTEN, *_existing(out)])
    unit: Unit = "slice" if by == "slice" else "subject"
    with only_writer(out):
        given = sort(methods, source, target)
        found, evaluation = measure(
            data,
            models=given.models,
            folders=given.folders,
            order=list(methods),
            regression=True,
            split=split,
            source=source,
            target=target,
            profile=profile,
            anonymous=anonymous,
            how=how,
            report=report,
        )
        comparisons = statistics.compare(
            _values(found, evaluation, names, unit),
            against,
            {name: METRICS[name].better for name in names},
            how.seed,
        )
        content = _content(found, comparisons, against, names, unit)
        _write(out, content, found, evaluation, comparisons)
        return content


def _content(
    found: Mapping[str, Any],
    comparisons: Sequence[Comparison],
    against: str,
    names: Sequence[str],
    unit: Unit,
) -> dict[str, Any]:
    """The content of `comparison.json`: that of `metrics.json`, and the tests."""
    return {
        "kind": "comparison",
        "against": against,
        "metrics": list(names),
        "tests": {
            "by": unit,
            "test": "Wilcoxon signed-rank, two-sided",
            "correction": f"Holm over {len(comparisons)} comparisons",
            "effect": "matched-pairs rank-biserial correlation, positive if the method is better",
            "interval": f"95 % BCa bootstrap of the mean difference, {statistics.RESAMPLES} "
            "resamples",
        },
        "comparisons": [comparison.to_dict() for comparison in comparisons],
        "notes": _notes(found, against, unit),
        **found,
        "warnings": statistics.warnings(comparisons, unit) + found["warnings"],
    }


def _check(against: str, methods: Mapping[str, Path], names: Sequence[str], by: str) -> None:
    if not methods:
        raise OptionError("no method to compare", remedy="give NAME=PATH of at least one")
    if against not in methods:
        raise OptionError(f"`against` {against!r}", f"one of {', '.join(methods)}")
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise OptionError(f"the metric {unknown[0]!r}", f"one of {', '.join(METRICS)}")
    if by not in UNITS:
        raise OptionError(f"`by` {by!r}", " or ".join(UNITS))


def _existing(out: Path) -> list[str]:
    """Pictures of an earlier comparison, which this one may replace."""
    folder = out / PICTURES
    found = sorted(folder.glob("*.png")) if folder.is_dir() else []
    return [f"{PICTURES}/{path.name}" for path in found]


def _values(
    found: Mapping[str, Any], evaluation: Evaluation, names: Sequence[str], unit: Unit
) -> dict[str, dict[str, list[float | None]]]:
    """Metric → method → one value per person, or per slice."""
    if unit == "subject":
        return {
            name: {
                model: [
                    of_person(map(entry["subjects"].get, visits), name)
                    for visits in evaluation.people.values()
                ]
                for model, entry in found["models"].items()
            }
            for name in names
        }
    return {
        name: {
            model: [
                v if math.isfinite(v := s.values[name]) else None for s in evaluation.of(model)
            ]
            for model in evaluation.models
        }
        for name in names
    }


def _notes(found: Mapping[str, Any], against: str, unit: Unit) -> list[str]:
    """The sentences below the table."""
    people, profile = len(found["people"]), found["profile"]
    value = "three-dimensional scores" if profile["scope"] == "volume" else "means over slices"
    pairs = "people" if unit == "subject" else "slices, taken for people as in the paper"
    return [
        f"{found['source']} to {found['target']}, {people} people of the {found['split']} split: "
        f"mean ± standard deviation of each person's {value}, by the profile "
        f"{profile['name']}; {found['range']['words']}.",
        f"Bold: the best value. Stars: different from {against} by the Wilcoxon signed-rank test "
        f"over {pairs}, after Holm's correction over the table: * p < 0.05, ** p < 0.01, "
        "*** p < 0.001.",
    ]


def _write(
    out: Path,
    content: Mapping[str, Any],
    found: Mapping[str, Any],
    evaluation: Evaluation,
    comparisons: Sequence[Comparison],
) -> None:
    """Write every file of the comparison, each whole or not at all."""
    names = content["metrics"]
    notes = [*content["notes"], *(f"Warning: {warning}." for warning in content["warnings"])]
    table = tables.make_table(found, names, comparisons, notes)
    results.write(out, found, evaluation)
    write_json(out / "comparison.json", content)
    write_text(out / "table.md", tables.markdown(table) + _differences(comparisons))
    write_text(out / "table.tex", tables.latex(table))
    write_text(out / "table.csv", tables.csv_text(found, names, comparisons))
    limit = error_limit(evaluation.pictures)
    window = found["window_hu"]
    for number, picture in enumerate(evaluation.pictures, 1):
        png = panel_png(picture, limit, tuple(window) if window else None)
        (out / PICTURES).mkdir(exist_ok=True)
        with whole_file(out / PICTURES / f"slice{number}.png") as temporary:
            temporary.write_bytes(png)


def _differences(comparisons: Sequence[Comparison]) -> str:
    """A second table in Markdown: how much, and how surely."""
    lines = [
        "| method − against | metric | n | difference | 95 % interval | p | p (Holm) | r |",
        "|---" * 8 + "|",
    ]
    for c in comparisons:
        metric = METRICS[c.metric]
        low_high = [c.difference, *(c.interval or ())]
        mean, *ends = (f"{metric.factor * v:.{metric.digits}f}" for v in low_high)
        between = " to ".join(ends) or "–"
        title = f"{metric.title} ({metric.unit})" if metric.unit else metric.title
        lines.append(
            f"| {c.method} − {c.against} | {title} | {c.n} | {mean} | {between} | {c.p:.3g} "
            f"| {c.p_holm:.3g} | {c.effect:+.2f} |"
        )
    return "\n".join(["", *lines, ""])
