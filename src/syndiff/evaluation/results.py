"""The results of an evaluation: the content of its files, its warnings, and writing them."""

from __future__ import annotations

import csv
import io
import math
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syndiff.anatomy.check import combine
from syndiff.errors import UserError
from syndiff.evaluation import baselines
from syndiff.evaluation.candidates import How
from syndiff.evaluation.metrics import METRICS
from syndiff.evaluation.profiles import Profile
from syndiff.evaluation.report import OFFSET_WARNING_PX, render
from syndiff.evaluation.scoring import Evaluation, summarise_model
from syndiff.evaluation.verdict import verdicts
from syndiff.io import atomic as files
from syndiff.io.digest import sha256_of
from syndiff.io.locks import clear_leftovers
from syndiff.io.outputs import check_outputs
from syndiff.preparation.intensity import IntensityScale
from syndiff.preparation.manifest import FILE_NAME

if TYPE_CHECKING:  # torch is imported only when a translator is read
    from syndiff.translators import Translator

FORMAT = 1
PLACE_COLUMNS = ("model", "subject", "slice_index")
OFFSET_COLUMNS = ("offset_dy_px", "offset_dx_px", "offset_confidence")
ANATOMY_COLUMNS = (
    "model", "subject", "source_offset_px", "source_offset_dy_px", "source_offset_dx_px",
    "source_offset_mm", "source_offset_confidence", "foreground_dice", "way_back_error",
    "slices", "way_back_slices",
)  # fmt: skip


PEAK_WORDS = {
    "mean": "PSNR's peak and SSIM's range are the brightest value of each acquired image",
    "max": "each image's maximum becomes 1, and PSNR's peak is the synthetic image's maximum",
    "percentile": "PSNR's peak and SSIM's range are 1, each image's own upper percentile",
    "none": "PSNR's peak and SSIM's range are 1, the cohort's bright end",
}
WRITTEN = ("metrics.json", "metrics.csv", "anatomy.csv", "report.html")


def check(out: Path, overwrite: bool, also: Sequence[str] = ()) -> None:
    """Check that the results can be written; results of an earlier evaluation may be replaced.

    Args:
        out: the folder.
        overwrite: allow replacing files that no evaluation wrote.
        also: names of further files.

    Raises:
        OptionError: `out` is a file, or holds a file with such a name that no evaluation wrote.
        UserError: `out` cannot be written.
    """
    ours = _is_evaluation(out / WRITTEN[0])
    names = (*WRITTEN, *also)
    check_outputs([out / name for name in names], overwrite=overwrite, ours=lambda path: ours)


def _is_evaluation(path: Path) -> bool:
    try:
        content = files.read_json(path, "evaluation")
    except UserError:
        return False
    return isinstance(content, dict) and {"format", "models", "provenance"} <= content.keys()


def write(out: Path, results: Mapping[str, Any], evaluation: Evaluation) -> None:
    """Write metrics.json, metrics.csv, anatomy.csv and report.html, each atomically.

    Raises:
        UserError: `out` cannot be written.
    """
    page = render(results, evaluation)
    clear_leftovers(out, WRITTEN)
    for name in WRITTEN[1:]:  # of an earlier evaluation: never beside new numbers
        (out / name).unlink(missing_ok=True)
    files.write_json(out / "metrics.json", results)
    files.write_text(out / "metrics.csv", _csv(evaluation))
    files.write_text(out / "anatomy.csv", _anatomy_csv(evaluation))
    files.write_text(out / "report.html", page)


def scores(
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
        add_hu(entry, range_hu(scale, evaluation.profile))
        checks = evaluation.checks.get(name, {})
        entry["anatomy"] = combine(list(checks.values())).to_dict() if checks else None
        for subject in checks.keys() & entry["subjects"].keys():  # others have no usable slice
            entry["subjects"][subject]["anatomy"] = checks[subject].to_dict()
        models[name] = entry
    for verdict in verdicts(models):
        models[verdict.name]["verdict"] = verdict.to_dict()
    return {
        "unit": scale.unit,
        "profile": evaluation.profile.parameters(),
        "range": intensity_range(scale, evaluation.profile),
        "window_hu": None if scale.window is None else list(scale.window),
        "subjects": evaluation.subjects,
        "people": evaluation.people,
        "blank_slices_left_out": evaluation.blank_slices,
        "models": models,
    }


def add_hu(entry: dict[str, Any], width: float | None) -> None:
    """Add scores that are fractions of the intensity range in HU, where its width is known."""
    if width is None:
        return
    for name in (m.name for m in METRICS.values() if m.of_intensity):
        for held in (entry["slice_means"], entry["person_means"], *entry["subjects"].values()):
            for key, to in ((name, f"{name}_hu"), (f"{name}_std", f"{name}_hu_std")):
                if key in held:
                    held[to] = None if held[key] is None else held[key] * width


def range_hu(scale: IntensityScale, profile: Profile) -> float | None:
    """The HU that a score of 1 (of the intensity range) stands for; None where there are none."""
    if profile.unit == "HU":
        return profile.width
    return None if scale.window is None else scale.window[1] - scale.window[0]


def intensity_range(scale: IntensityScale, profile: Profile) -> dict[str, Any]:
    """The intensities that the data range 1 and the peak of PSNR stand for."""
    if profile.unit == "HU":
        low, high = profile.low, profile.high
    elif scale.window is not None:
        low, high = scale.window
    else:
        return {"unit": scale.unit, "window": None, "words": PEAK_WORDS[profile.normalise]}
    words = f"PSNR's peak and SSIM's range are {high - low:g} HU, the window {low:g} to {high:g}"
    if profile.normalise != "none":
        words = f"values of the window {low:g} to {high:g} HU; {PEAK_WORDS[profile.normalise]}"
    return {"unit": "HU", "window": [low, high], "words": words}


def score_warnings(results: Mapping[str, Any]) -> list[str]:
    """Warnings for the reader of the scores."""
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
    if len(results["people"]) == 1:
        found.append("one test person: the scores say little about other people")
    return found


def synthetic_warnings(files_taken: Sequence[str]) -> list[str]:
    """A warning if the data contain synthetic images, which were allowed."""
    if not files_taken:
        return []
    return [
        f"{len(files_taken)} of the data's scans are synthetic images: where they are references, "
        "a score says how alike two models are, not how close an image is to an acquired one"
    ]


def anatomy_warnings(evaluation: Evaluation) -> list[str]:
    """The warnings on each model's anatomy, or on single subjects if the model has none."""
    found = []
    for name, checks in evaluation.checks.items():
        found += combine(list(checks.values())).warnings(f"what {name} makes") or [
            message
            for subject, check in checks.items()
            for message in check.warnings(f"what {name} makes of {subject}")
        ]
    return found


def spacing_warnings(translators: Mapping[str, Translator], spacing_mm: float | None) -> list[str]:
    """Warnings on models that were trained at another pixel size than that of the data."""
    found = []
    for name, translator in translators.items():
        trained = translator.spacing_mm
        if spacing_mm and abs(trained / spacing_mm - 1) > 0.02:
            found.append(
                f"{name} was trained at {trained:g} mm per pixel, the data have {spacing_mm:g} mm"
            )
    return found


def origin(path: Path, translator: Translator, anonymous: bool) -> dict[str, Any]:
    """The origin of a model: its path or the hash of its weights, and its configuration.

    Fingerprints and quantiles of training scans are left out. An anonymous origin gives the hash
    of the weights in place of the path, and leaves out notes on an import, which name files.
    """
    from syndiff.translators import locate

    left_out = {"fingerprints", "tissue_quantiles"} | ({"imported"} if anonymous else set())
    told = {key: value for key, value in translator.config.items() if key not in left_out}
    identity = f"weights SHA-256 {sha256_of(locate(path) / translator.weights)}"
    return {"path": identity if anonymous else str(path), "config": told}


def provenance(
    evaluation: Evaluation, data: Path, how: How, *, anonymous: bool = True
) -> dict[str, Any]:
    """The date, options, data and software of an evaluation.

    Paths and command lines may contain names of people and machines. An anonymous provenance
    leaves them out and identifies the data by the hash of the manifest.
    """
    count = sum(len(evaluation.of(evaluation.models[0], s)) for s in evaluation.subjects)
    named = {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "data": str(data.resolve()),
    }
    manifest = f"manifest SHA-256 {sha256_of(data / FILE_NAME)}"
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        **({"data": manifest} if anonymous else named),
        **asdict(how),
        "versions": {name: _version(name) for name in ("syndiff", "torch", "numpy", "scipy")}
        | {
            "python": platform.python_version(),
            "platform": platform.system() if anonymous else platform.platform(),
        },
        "seconds_per_slice": {n: round(s / count, 4) for n, s in evaluation.seconds.items()},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _csv(evaluation: Evaluation) -> str:
    """One row per model, subject and slice; offsets that could not be measured are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*PLACE_COLUMNS, *METRICS, *OFFSET_COLUMNS])
    for s in evaluation.scores:
        place = (s.offset.dy, s.offset.dx) if s.offset.known else (None, None)
        numbers = (*(s.values[name] for name in METRICS), *place, s.offset.confidence)
        shown = ["" if v is None or not math.isfinite(v) else f"{v:.6g}" for v in numbers]
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
