"""`syndiff evaluate`: models and baselines on a test split, as JSON, CSV and a page to read.

evaluate              prepared data + translators on disk; writes the result files (results.py)
evaluate_predictions  (scoring.py) the same from any functions of slices; needs no network
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from syndiff.errors import OptionError
from syndiff.evaluation import baselines, candidates, metrics, results
from syndiff.evaluation.candidates import How
from syndiff.evaluation.pairs import check_modalities, histogram_baseline, paired_cases
from syndiff.evaluation.scoring import Predict, evaluate_predictions
from syndiff.preparation.manifest import Manifest, read_manifest
from syndiff.reporting import SILENT, Reporter


def evaluate(
    data: Path,
    out: Path,
    *,
    models: Mapping[str, Path],
    split: str = "test",
    source: str | None = None,
    target: str | None = None,
    profile: str | None = None,
    how: How = How(),  # noqa: B008 - it is frozen
    report: Reporter = SILENT,
) -> dict[str, Any]:
    """Score translators on prepared data, beside the baselines `copy` and `histogram`.

    The translators' images are also compared with their own sources (see `syndiff.anatomy`).

    Args:
        data: folder made by `syndiff prepare`.
        out: folder for the result files; others in it are left alone.
        models: name → folder of a translator. May be empty if source and target are given.
        split: which subjects.
        source, target: modalities; taken from the models if not given. Several sources are
            joined by "+".
        profile: name of a comparison profile; by default `paper`, and `fixed` for CT.
        how: how the models translate.
        report: told how far the work is.

    Returns:
        What `metrics.json` holds.

    Raises:
        UserError: the data, a model or an option cannot be used; nothing is written then.
    """
    data, out = Path(data), Path(out)
    paths = {name: Path(path) for name, path in models.items()}
    _check_names(paths)
    manifest = read_manifest(data)
    translators = {name: candidates.load(name, path) for name, path in paths.items()}
    sources, target = candidates.direction(translators, source, target)
    check_modalities(manifest, (*sources, target))
    cases = paired_cases(manifest, split, sources, target)
    scale, spacing_mm = manifest.scale(target), manifest.spacing_mm
    chosen = metrics.get_profile(profile) if profile else metrics.profile_for(scale.unit)

    predictors = {
        name: candidates.in_its_scale(candidates.predictor(t, how), t, manifest)
        for name, t in translators.items()
    } | _baselines(manifest, sources[0], target)
    checks = {
        name: candidates.anatomy_check(paths[name], translator, manifest, how)
        for name, translator in translators.items()
    }
    evaluation = evaluate_predictions(cases, predictors, chosen, checks=checks, report=report)

    head = {"format": results.FORMAT, "source": "+".join(sources)}
    found: dict[str, Any] = head | {"target": target, "split": split}
    found |= results.scores(evaluation, scale, spacing_mm)
    for name, path in paths.items():
        found["models"][name] |= results.origin(path)
    found["warnings"] = (
        results.anatomy_warnings(evaluation)
        + results.spacing_warnings(translators, spacing_mm)
        + results.score_warnings(found)
    )
    found["provenance"] = results.provenance(evaluation, data, how)
    results.write(out, found, evaluation)
    return found


def _check_names(paths: Mapping[str, Path]) -> None:
    """Raise OptionError for names that a baseline has, or that are empty."""
    for name in paths:
        if name in baselines.BASELINES or not name.strip():
            raise OptionError(
                f"the model name {name!r}", "another one: it is a baseline's or empty"
            )


def _baselines(manifest: Manifest, source: str, target: str) -> dict[str, Predict]:
    """The two translations that cost nothing; they see the first source alone."""
    return {
        "copy": candidates.of_first_source(baselines.copy),
        "histogram": candidates.of_first_source(histogram_baseline(manifest, source, target)),
    }
