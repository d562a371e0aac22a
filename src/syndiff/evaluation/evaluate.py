"""`syndiff evaluate`: models and baselines on a test split, as JSON, CSV and a page to read.

evaluate              prepared data + translators on disk; writes the three files
evaluate_predictions  (scoring.py) the same from any functions of slices; needs no network
"""

from __future__ import annotations

import csv
import io
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from syndiff.anatomy.check import check_anatomy, combine
from syndiff.errors import ModelError, OptionError, UserError
from syndiff.evaluation import baselines, metrics
from syndiff.evaluation.pairs import check_modalities, convert, histogram_baseline, paired_cases
from syndiff.evaluation.report import OFFSET_WARNING_PX, render
from syndiff.evaluation.scoring import (
    Check,
    Evaluation,
    Predict,
    Progress,
    Slices,
    evaluate_predictions,
    summarise_model,
)
from syndiff.io import atomic as files
from syndiff.preparation.intensity import IntensityScale
from syndiff.preparation.manifest import Manifest, read_manifest

FORMAT = 1
CSV_COLUMNS = (
    "model", "subject", "slice_index", "psnr_db", "ssim", "mae",
    "offset_dy_px", "offset_dx_px", "offset_confidence",
)  # fmt: skip
ANATOMY_COLUMNS = (
    "model", "subject", "source_offset_px", "source_offset_dy_px", "source_offset_dx_px",
    "source_offset_mm", "source_offset_confidence", "foreground_dice", "way_back_error",
    "slices", "way_back_slices",
)  # fmt: skip


def evaluate(
    data: Path,
    out: Path,
    *,
    models: Mapping[str, Path],
    split: str = "test",
    source: str | None = None,
    target: str | None = None,
    profile: str | None = None,
    seed: int = 0,
    batch_size: int = 8,
    device: str = "auto",
    sampling: str = "chain",
    samples: int = 8,
    sampling_steps: int = 0,
    precision: str = "32",
    progress: Progress | None = None,
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
        seed, batch_size, device, precision: how the models translate.
        sampling, samples: see `syndiff.translators.sampling.Sampling`.
        sampling_steps: of the models whose chains can be respaced; 0 for their own number.
        progress: called with (done, total, what is being done).

    Returns:
        What `metrics.json` holds.

    Raises:
        UserError: the data, a model or an option cannot be used; nothing is written then.
    """
    data, out = Path(data), Path(out)
    for name in models:
        if name in baselines.BASELINES or not name.strip():
            raise OptionError(
                f"the model name {name!r}", "another one: it is a baseline's or empty"
            )
    manifest = read_manifest(data)
    translators = {name: _load(name, Path(path)) for name, path in models.items()}
    sources, target = _direction(translators, source, target)
    check_modalities(manifest, (*sources, target))
    cases = paired_cases(manifest, split, sources, target)
    scale, spacing_mm = manifest.scale(target), manifest.spacing_mm
    chosen = metrics.get_profile(profile) if profile else metrics.profile_for(scale.unit)

    how: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "device": device}
    how["precision"] = precision
    how |= {"sampling": sampling, "samples": samples, "sampling_steps": sampling_steps}
    predictors = {
        name: _in_its_scale(_predictor(translator, **how), translator, manifest)
        for name, translator in translators.items()
    }
    predictors["copy"] = _of_first_source(baselines.copy)
    predictors["histogram"] = _of_first_source(histogram_baseline(manifest, sources[0], target))
    checks = {
        name: _check(Path(models[name]), translator, manifest, how)
        for name, translator in translators.items()
    }
    evaluation = evaluate_predictions(cases, predictors, chosen, checks=checks, progress=progress)

    head = {"format": FORMAT, "source": "+".join(sources), "target": target, "split": split}
    results: dict[str, Any] = head | _results(evaluation, scale, spacing_mm)
    for name, path in models.items():
        results["models"][name] |= _origin(Path(path))
    spacing_warnings = _spacing_warnings(translators, spacing_mm)
    results["warnings"] = _anatomy_warnings(evaluation) + spacing_warnings + _warnings(results)
    results["provenance"] = _provenance(evaluation, data, how)
    write_results(out, results, evaluation)
    return results


def write_results(out: Path, results: Mapping[str, Any], evaluation: Evaluation) -> None:
    """Write metrics.json, metrics.csv, anatomy.csv and report.html; each is whole or absent.

    Raises:
        UserError: `out` is a file, or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file", "a folder for the results", "choose another OUT")
    page = render(results, evaluation)
    files.write_json(out / "metrics.json", results)
    files.write_text(out / "metrics.csv", _csv(evaluation))
    files.write_text(out / "anatomy.csv", _anatomy_csv(evaluation))
    files.write_text(out / "report.html", page)


def _load(name: str, path: Path) -> Any:
    """A translator from its folder; imported here, so that bad options fail before torch loads."""
    from syndiff.translators import load_translator

    try:
        return load_translator(path)
    except UserError as error:
        raise ModelError(f"model {name}: {error.found}", error.expected, error.remedy) from error


def _direction(
    translators: Mapping[str, Any], source: str | None, target: str | None
) -> tuple[tuple[str, ...], str]:
    """Sources and target: the models', which must agree with each other and with the options."""
    claims: dict[tuple[str, str], str] = {}
    for name, translator in translators.items():
        translator.require_source()
        has = ("+".join(translator.sources), translator.target)
        if has != (source or has[0], target or has[1]):
            raise OptionError(
                f"model {name} translates {has[0]} to {has[1]}",
                f"{source or has[0]} to {target or has[1]}, as --source and --target say",
                "leave these out or give the other direction's translator",
            )
        claims.setdefault(has, name)
    if len(claims) > 1:
        what = ", ".join(f"{name} {a} to {b}" for (a, b), name in claims.items())
        raise OptionError(
            f"the models translate differently ({what})",
            "models of one direction",
            "evaluate each direction by itself",
        )
    if not claims and not (source and target):
        raise OptionError("neither a model nor a direction", remedy="give --model NAME=PATH")
    joined, target = next(iter(claims), (source or "", target or ""))
    return tuple(joined.split("+")), target


def _predictor(
    translator: Any, *, sampling: str, samples: int, sampling_steps: int, **options: Any
) -> Predict:
    """The translator as a function of slices."""
    from syndiff.inference import TranslationOptions, translate_slices
    from syndiff.translators.sampling import Sampling

    way = Sampling(sampling, samples, sampling_steps if translator.respaceable else 0)
    chosen = TranslationOptions(sampling=way, **options)
    ready = translator.for_precision(chosen.precision)
    return partial(_translate, translate_slices, ready, options=chosen)


def _check(path: Path, translator: Any, manifest: Manifest, how: dict[str, Any]) -> Check:
    """The comparison with the source; with the way back if the other direction lies beside."""
    back = _other_direction(path, translator)
    return partial(
        check_anatomy,
        source_scale=manifest.scale(translator.sources[0]),
        target_scale=manifest.scale(translator.target),
        spacing_mm=manifest.spacing_mm,
        translate_back=_in_its_scale(_predictor(back, **how), back, manifest) if back else None,
    )


def _other_direction(path: Path, translator: Any) -> Any:
    """The translator of the same run that leads back, or None."""
    from syndiff.translators import other_direction

    return other_direction(path, translator)


def _in_its_scale(predict: Predict, translator: Any, manifest: Manifest) -> Predict:
    """Bring slices to the intensity scale that the translator was trained with, and back.

    This is what `syndiff translate` does with a new scan, so that both show the same model.
    """
    own = {m: IntensityScale.from_dict(c) for m, c in translator.config["intensity"].items()}
    target = translator.target

    def adapted(slices: Slices) -> Slices:
        channels = slices[:, None] if slices.ndim == 3 else slices
        scaled = [
            convert(channels[:, i], manifest.scale(source), own[source])
            for i, source in enumerate(translator.sources)
        ]
        result = predict(scaled[0] if slices.ndim == 3 else np.stack(scaled, axis=1))
        return convert(result, own[target], manifest.scale(target))

    return adapted


def _translate(function: Any, translator: Any, slices: Slices, **options: Any) -> Slices:
    return np.asarray(function(translator, slices, **options), dtype=np.float32)


def _of_first_source(predict: Predict) -> Predict:
    """A baseline sees the first source where there are several, (n, c, h, w) → (n, h, w)."""
    return lambda slices: predict(slices if slices.ndim == 3 else slices[:, 0])


def _results(
    evaluation: Evaluation, scale: IntensityScale, spacing_mm: float | None
) -> dict[str, Any]:
    """The part of `metrics.json` that follows from the scores."""
    models: dict[str, dict[str, Any]] = {}
    for name in evaluation.models:
        kind = "baseline" if name in baselines.BASELINES else "model"
        entry = {"kind": kind} | summarise_model(evaluation, name)
        offset = entry["offset_px"]
        known = offset is not None and spacing_mm is not None
        entry["offset_mm"] = offset * spacing_mm if known else None
        if scale.window is not None:
            width = scale.window[1] - scale.window[0]
            entry["mae_hu"], entry["mae_hu_std"] = entry["mae"] * width, entry["mae_std"] * width
        checks = evaluation.checks.get(name, {})
        entry["anatomy"] = combine(list(checks.values())).to_dict() if checks else None
        for subject, check in checks.items():
            entry["subjects"][subject]["anatomy"] = check.to_dict()
        models[name] = entry
    return {
        "unit": scale.unit,
        "profile": evaluation.profile.parameters(),
        "subjects": evaluation.subjects,
        "blank_slices_left_out": evaluation.blank_slices,
        "models": models,
    }


def _warnings(results: Mapping[str, Any]) -> list[str]:
    """What a reader of the numbers must know."""
    found = []
    shifted = {n: e["offset_px"] or 0.0 for n, e in results["models"].items()}
    if shifted["copy"] >= OFFSET_WARNING_PX:
        found.append(
            f"the acquired scans themselves lie {shifted['copy']:.1f} px apart: they may not be "
            "registered, and every score suffers from it"
        )
    found += [
        f"{name} places its images {offset:.1f} px beside the reference: its scores say more "
        "about place than about contrast"
        for name, offset in shifted.items()
        if offset >= OFFSET_WARNING_PX and name not in baselines.BASELINES
    ]
    if len(results["subjects"]) == 1:
        found.append("one test subject: the scores say little about other people")
    return found


def _anatomy_warnings(evaluation: Evaluation) -> list[str]:
    """Of each model, or of single subjects where the model as a whole gives no cause."""
    found = []
    for name, checks in evaluation.checks.items():
        found += combine(list(checks.values())).warnings(f"what {name} makes") or [
            message
            for subject, check in checks.items()
            for message in check.warnings(f"what {name} makes of {subject}")
        ]
    return found


def _spacing_warnings(translators: Mapping[str, Any], spacing_mm: float | None) -> list[str]:
    """Models trained at another pixel spacing than the data's."""
    found = []
    for name, translator in translators.items():
        trained = getattr(translator, "spacing_mm", None)
        if trained and spacing_mm and abs(trained / spacing_mm - 1) > 0.02:
            found.append(
                f"{name} was trained at {trained:g} mm per pixel, the data have {spacing_mm:g} mm"
            )
    return found


def _origin(path: Path) -> dict[str, Any]:
    """Where a model came from: its folder and its own account of its training."""
    config = path / "config.json"
    if not config.is_file():
        return {"path": str(path), "config": {}}
    return {"path": str(path), "config": files.read_json(config, "translator configuration")}


def _provenance(evaluation: Evaluation, data: Path, how: dict[str, Any]) -> dict[str, Any]:
    count = sum(len(evaluation.of(evaluation.models[0], s)) for s in evaluation.subjects)
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "data": str(data.resolve()),
        **how,
        "versions": {name: _version(name) for name in ("syndiff", "torch", "numpy", "scipy")}
        | {"python": platform.python_version(), "platform": platform.platform()},
        "seconds_per_slice": {n: round(s / count, 4) for n, s in evaluation.seconds.items()},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _csv(evaluation: Evaluation) -> str:
    """One row per model, subject and slice; empty where an offset could not be measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for s in evaluation.scores:
        place = (s.offset.dy, s.offset.dx) if s.offset.known else (None, None)
        numbers = (s.psnr_db, s.ssim, s.mae, *place, s.offset.confidence)
        shown = ["" if value is None else f"{value:.6g}" for value in numbers]
        writer.writerow([s.model, s.subject, s.slice_index, *shown])
    return text.getvalue()


def _anatomy_csv(evaluation: Evaluation) -> str:
    """One row per model and subject: the synthetic image compared with its source."""
    rows = [
        {"model": model, "subject": subject} | check.to_dict()
        for model, checks in evaluation.checks.items()
        for subject, check in checks.items()
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(ANATOMY_COLUMNS)
    for row in rows:
        dy, dx = row.pop("source_offset_yx_px") or (None, None)
        row |= {"source_offset_dy_px": dy, "source_offset_dx_px": dx}
        writer.writerow(
            f"{v:.6g}" if isinstance(v := row[column], float) else v for column in ANATOMY_COLUMNS
        )
    return text.getvalue()
