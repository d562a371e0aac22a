"""`syndiff evaluate`: scores of models and baselines on a test split, as JSON, CSV and HTML.

evaluate              prepared data + translators on disk; writes the result files (results.py)
evaluate_predictions  (scoring.py) the same from any functions of slices; needs no network
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syndiff.errors import DataError, OptionError
from syndiff.evaluation import baselines, candidates, profiles, results
from syndiff.evaluation.candidates import How
from syndiff.evaluation.folders import slices_of
from syndiff.evaluation.pairs import (
    check_modalities,
    head_finder,
    histogram_baseline,
    paired_cases,
    regression_baseline,
)
from syndiff.evaluation.persons import beside
from syndiff.evaluation.scoring import Evaluation, Predict, Slices, evaluate_predictions
from syndiff.evaluation.trusted import measured
from syndiff.evaluation.whole import whole_volume
from syndiff.io.locks import only_writer
from syndiff.preparation.manifest import Manifest, read_manifest
from syndiff.reporting import SILENT, Reporter

if TYPE_CHECKING:  # torch is imported only when a translator is read
    from syndiff.translators import Translator

NO_TRAINING = "no training subjects: the baseline histogram, which learns from them, is left out"


def evaluate(
    data: Path,
    out: Path,
    *,
    models: Mapping[str, Path],
    split: str = "test",
    source: str | None = None,
    target: str | None = None,
    profile: str | None = None,
    whole_volumes: Path | None = None,
    allow_synthetic: bool = False,
    anonymous: bool = True,
    trust: int = 0,
    overwrite: bool = False,
    how: How = How(),  # noqa: B008 - it is frozen
    report: Reporter = SILENT,
) -> dict[str, Any]:
    """Score translators on prepared data, beside the baselines `copy` and `histogram`.

    The translators' images are also compared with their own sources (see `syndiff.anatomy`).

    Args:
        data: folder made by `syndiff prepare`.
        out: folder for the result files; other files in it are not touched.
        models: name → folder of a translator; may be empty if source and target are given.
        split: the split whose subjects are scored.
        source, target: modalities; taken from the models if not given. Several sources are
            joined by "+".
        profile: name of a comparison profile (profiles.py); by default `subject`.
        whole_volumes: folder of the scans that the data were prepared from: each is translated
            as `syndiff translate` does it, on its own grid, and scored where the prepared
            slices lie. Otherwise the prepared slices are translated.
        allow_synthetic: accept data with synthetic scans; the results state it.
        anonymous: write no path, no command line and no file name into the results.
        trust: chains per slice for the trust map of each model (trusted.py), which is calibrated
            on the validation people and kept in the model's folder; 0: none.
        overwrite: allow replacing files with the results' names that no evaluation wrote.
        how: how the models translate.
        report: receives the progress.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: the data, a model or an option cannot be used; nothing is written then.
    """
    data, out = Path(data), Path(out)
    results.check(out, overwrite)
    with only_writer(out):
        found, evaluation = measure(
            data,
            models=models,
            split=split,
            source=source,
            target=target,
            profile=profile,
            whole_volumes=whole_volumes,
            allow_synthetic=allow_synthetic,
            anonymous=anonymous,
            trust=trust,
            how=how,
            report=report,
        )
        results.write(out, found, evaluation)
    return found


def measure(
    data: Path,
    *,
    models: Mapping[str, Path],
    folders: Mapping[str, Path] | None = None,
    order: Sequence[str] = (),
    regression: bool = False,
    split: str = "test",
    source: str | None = None,
    target: str | None = None,
    profile: str | None = None,
    whole_volumes: Path | None = None,
    allow_synthetic: bool = False,
    anonymous: bool = True,
    trust: int = 0,
    how: How = How(),  # noqa: B008 - it is frozen
    report: Reporter = SILENT,
) -> tuple[dict[str, Any], Evaluation]:
    """The results of an evaluation and its scores; writes nothing.

    Args:
        folders: name → folder of images from any software, one per subject (folders.py).
        order: names of models and folders in the order of the results.
        regression: with the baseline `regression`, where the training subjects have pairs.
        data, models, split, source, target, profile, whole_volumes, allow_synthetic, anonymous,
            trust, how, report: see `evaluate`.

    Raises:
        UserError: the data, a model or an option cannot be used.
    """
    paths = {name: Path(path) for name, path in models.items()}
    folders = folders or {}
    _check_names([*paths, *folders])
    manifest = read_manifest(data)
    synthetic = _synthetic_scans(manifest, allow_synthetic)
    translators = {name: candidates.load(name, path) for name, path in paths.items()}
    sources, target = candidates.direction(translators, source, target)
    check_modalities(manifest, (*sources, target))
    cases = paired_cases(manifest, split, sources, target)
    scale, spacing_mm = manifest.scale(target), manifest.spacing_mm
    chosen = profiles.get_profile(profile or profiles.DEFAULT)
    profiles.check_unit(chosen, scale.unit)

    trusted = {
        name: measured(
            paths[name], t, manifest, how,
            split=split, samples=trust, keep=paths[name].is_dir(), report=report,
        )
        for name, t in translators.items()
        if trust
    }  # fmt: skip
    of_subject = _whole_volumes(translators, manifest, split, whole_volumes, how, allow_synthetic)
    of_subject |= {
        name: slices_of(folder, manifest, split, sources[0], target)
        for name, folder in folders.items()
    }
    made: dict[str, Predict] = {
        name: candidates.in_its_scale(candidates.predictor(t, how), t, manifest)
        for name, t in translators.items()
    } | dict.fromkeys(folders, baselines.copy)  # never called: `of_subject` has them
    predictors = {name: made[name] for name in dict.fromkeys((*order, *made))}
    checks = {
        name: candidates.anatomy_check(paths[name], translator, manifest, how)
        for name, translator in translators.items()
    }
    evaluation = evaluate_predictions(
        cases,
        predictors | _baselines(manifest, sources[0], target, regression),
        chosen,
        of_subject=of_subject,
        checks=checks,
        find_head=head_finder(scale),
        to_unit=scale.restore if chosen.unit == "HU" else None,
        beside=beside(scale),
        report=report,
    )

    head = {"format": results.FORMAT, "source": "+".join(sources)}
    found: dict[str, Any] = head | {"target": target, "split": split}
    found |= results.scores(evaluation, scale, spacing_mm)
    for name, path in paths.items():
        found["models"][name] |= results.origin(path, translators[name], anonymous)
        found["models"][name]["trust"] = trusted.get(name)
    for name, folder in folders.items():
        where = "a folder of images" if anonymous else str(folder)
        found["models"][name] |= {"path": where, "config": None}
    found["whole_volumes"] = whole_volumes is not None
    found["spacing_mm"] = spacing_mm
    found["slice_spacing_mm"] = _slice_spacing_mm(manifest, split, target)
    found["synthetic_scans"] = len(synthetic)
    found["warnings"] = (
        results.synthetic_warnings(synthetic)
        + ([] if _has_training(manifest, sources[0], target) else [NO_TRAINING])
        + results.anatomy_warnings(evaluation)
        + results.spacing_warnings(translators, spacing_mm)
        + results.score_warnings(found)
    )
    found["provenance"] = results.provenance(evaluation, data, how, anonymous=anonymous)
    return found, evaluation


def _slice_spacing_mm(manifest: Manifest, split: str, target: str) -> float | None:
    """The distance of neighbouring slices of the first scan; None where it is not recorded."""
    affine = next((s.record.get("native_affine") for s in manifest.scans(split, target)), None)
    return None if affine is None else math.sqrt(sum(row[2] ** 2 for row in affine[:3]))


def _check_names(names: Sequence[str]) -> None:
    """Raise OptionError for names that a baseline has, or that are empty."""
    for name in names:
        if name in baselines.BASELINES or not name.strip():
            raise OptionError(
                f"the model name {name!r}", "another one: it is a baseline's or empty"
            )


def _synthetic_scans(manifest: Manifest, allowed: bool) -> list[str]:
    """The files that preparation took although they are marked as synthetic.

    Raises:
        DataError: there are such files and they are not allowed, because a score would compare
            the images of two models.
    """
    found = [str(file) for file in manifest.content.get("left_out", {}).get("synthetic", [])]
    if found and not allowed:
        raise DataError(
            f"{len(found)} of the scans in {manifest.folder} are synthetic images",
            "acquired scans alone",
            "prepare the data without them; `allow_synthetic` scores them nevertheless, and the "
            "report says so",
        )
    return found


def _whole_volumes(
    translators: Mapping[str, Translator],
    manifest: Manifest,
    split: str,
    raw: Path | None,
    how: How,
    allow_synthetic: bool,
) -> dict[str, Callable[[str], Slices]]:
    """Name → function of a subject for every model, where whole scans are translated."""
    if raw is None:
        return {}
    options = {
        name: replace(
            how.options(translator),
            allow_synthetic=allow_synthetic,
            # The scans are full ones; the prepared ones that they stand for were undersampled.
            accelerate=bool(manifest.content.get("accelerate") and config.get("accelerate")),
        )
        for name, translator in translators.items()
        for config in (translator.config,)
    }
    return {
        name: whole_volume(translator, manifest, split, Path(raw), options[name])
        for name, translator in translators.items()
    }


def _has_training(manifest: Manifest, source: str, target: str) -> bool:
    return all(manifest.scans("train", modality) for modality in (source, target))


def _baselines(
    manifest: Manifest, source: str, target: str, regression: bool
) -> dict[str, Predict]:
    """The baselines, which use only the first source; those that learn need training subjects."""
    found: dict[str, Predict] = {"copy": baselines.copy}
    if _has_training(manifest, source, target):
        found["histogram"] = histogram_baseline(manifest, source, target)
    curve = regression_baseline(manifest, source, target) if regression else None
    if curve is not None:
        found["regression"] = curve
    return {name: candidates.of_first_source(predict) for name, predict in found.items()}
