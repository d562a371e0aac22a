"""`syndiff evaluate`: scores of models and baselines on a test split, as JSON, CSV and HTML.

evaluate              prepared data + translators on disk; writes the result files (results.py)
evaluate_predictions  (scoring.py) the same from any functions of slices; needs no network
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syndiff.errors import DataError, OptionError
from syndiff.evaluation import baselines, candidates, metrics, results
from syndiff.evaluation.candidates import How
from syndiff.evaluation.pairs import (
    check_modalities,
    head_finder,
    histogram_baseline,
    paired_cases,
)
from syndiff.evaluation.persons import beside
from syndiff.evaluation.scoring import Predict, Slices, evaluate_predictions
from syndiff.evaluation.whole import whole_volume
from syndiff.io.locks import only_writer
from syndiff.preparation.manifest import Manifest, read_manifest
from syndiff.reporting import SILENT, Reporter

if TYPE_CHECKING:  # torch is imported only when a translator is read
    from syndiff.translators import Translator


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
        profile: name of a comparison profile; by default `head`, and `head_hu` for CT.
        whole_volumes: folder of the scans that the data were prepared from: each is translated
            as `syndiff translate` does it, on its own grid, and scored where the prepared
            slices lie. Otherwise the prepared slices are translated.
        allow_synthetic: accept data with synthetic scans; the results state it.
        anonymous: write no path, no command line and no file name into the results.
        overwrite: allow replacing files with the results' names that no evaluation wrote.
        how: how the models translate.
        report: receives the progress.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: the data, a model or an option cannot be used; nothing is written then.
    """
    data, out = Path(data), Path(out)
    paths = {name: Path(path) for name, path in models.items()}
    _check_names(paths)
    results.check(out, overwrite)
    with only_writer(out):
        manifest = read_manifest(data)
        synthetic = _synthetic_scans(manifest, allow_synthetic)
        translators = {name: candidates.load(name, path) for name, path in paths.items()}
        sources, target = candidates.direction(translators, source, target)
        check_modalities(manifest, (*sources, target))
        cases = paired_cases(manifest, split, sources, target)
        scale, spacing_mm = manifest.scale(target), manifest.spacing_mm
        chosen = metrics.get_profile(profile) if profile else metrics.default_profile(scale.unit)

        predictors = {
            name: candidates.in_its_scale(candidates.predictor(t, how), t, manifest)
            for name, t in translators.items()
        } | _baselines(manifest, sources[0], target)
        checks = {
            name: candidates.anatomy_check(paths[name], translator, manifest, how)
            for name, translator in translators.items()
        }
        evaluation = evaluate_predictions(
            cases,
            predictors,
            chosen,
            of_subject=_whole_volumes(
                translators, manifest, split, whole_volumes, how, allow_synthetic
            ),
            checks=checks,
            find_head=head_finder(scale),
            beside=beside(scale),
            report=report,
        )

        head = {"format": results.FORMAT, "source": "+".join(sources)}
        found: dict[str, Any] = head | {"target": target, "split": split}
        found |= results.scores(evaluation, scale, spacing_mm)
        for name, path in paths.items():
            found["models"][name] |= results.origin(path, translators[name], anonymous)
        found["whole_volumes"] = whole_volumes is not None
        found["synthetic_scans"] = len(synthetic)
        found["warnings"] = (
            results.synthetic_warnings(synthetic)
            + results.anatomy_warnings(evaluation)
            + results.spacing_warnings(translators, spacing_mm)
            + results.score_warnings(found)
        )
        found["provenance"] = results.provenance(evaluation, data, how, anonymous=anonymous)
        results.write(out, found, evaluation)
        return found


def _check_names(paths: Mapping[str, Path]) -> None:
    """Raise OptionError for names that a baseline has, or that are empty."""
    for name in paths:
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
        name: replace(how.options(translator), allow_synthetic=allow_synthetic)
        for name, translator in translators.items()
    }
    return {
        name: whole_volume(translator, manifest, split, Path(raw), options[name])
        for name, translator in translators.items()
    }


def _baselines(manifest: Manifest, source: str, target: str) -> dict[str, Predict]:
    """The two baselines, which use only the first source."""
    return {
        "copy": candidates.of_first_source(baselines.copy),
        "histogram": candidates.of_first_source(histogram_baseline(manifest, source, target)),
    }
