"""Words of the report: facts at its top, and a methods paragraph to paste into a paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from syndiff.evaluation.metrics import METRICS

SYNDIFF = (
    "Özbey M, Dalmaz O, Dar SUH, et al. Unsupervised medical image translation with adversarial "
    "diffusion models. IEEE Trans Med Imaging 2023;42(12):3524-3539. doi:10.1109/TMI.2023.3290149"
)
SSIM = (
    "Wang Z, Bovik AC, Sheikh HR, Simoncelli EP. Image quality assessment: from error visibility "
    "to structural similarity. IEEE Trans Image Process 2004;13(4):600-612. "
    "doi:10.1109/TIP.2003.819861"
)


def facts(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a reader asks first: (name, value) pairs."""
    people, subjects = len(results["people"]), len(results["subjects"])
    visits = f" ({subjects} visits)" if subjects > people else ""
    rows = [("people", f"{people}{visits}"), ("profile", str(results["profile"]["name"]))]
    for name, entry in _trained(results).items():
        training = (entry.get("config") or {}).get("training") or {}
        rows.append((f"training of {name}", _training(training)))
    return rows


def methods_paragraph(results: Mapping[str, Any]) -> dict[str, Any]:
    """The paragraph as text, and its references."""
    source, target = results["source"], results["target"]
    methods = [
        f"{name} ({(entry.get('config') or {}).get('method') or 'images of other software'})"
        for name, entry in _trained(results).items()
    ]
    profile, versions = results["profile"], results["provenance"]["versions"]
    compared = "inside the head or body" if profile["mask"] == "inside" else "over whole slices"
    titles = [metric.title for metric in METRICS.values()]
    people = len(results["people"])
    per = "three-dimensional image" if profile["scope"] == "volume" else "axial slice"
    text = (
        f"Synthetic {target} images were made from {source} by {_listed(methods) or 'baselines'} "
        f"with syndiff {versions['syndiff']} [1] and compared with the acquired {target} images "
        f"of {people} {'person' if people == 1 else 'people'} of the {results['split']} split, "
        f"{compared}, per {per}, by the profile “{profile['name']}” of that software: "
        f"{_listed(titles)} (SSIM after [2]). {results['range']['words'].capitalize()}. Values "
        "are means over people, ± standard deviation. Copies of the source and a histogram "
        "mapping served as baselines."
    )
    return {"text": text, "references": [SYNDIFF, SSIM]}


def _trained(results: Mapping[str, Any]) -> dict[str, Any]:
    return {n: e for n, e in results["models"].items() if e["kind"] == "model"}


def _training(training: Mapping[str, Any]) -> str:
    hours = training.get("hours")
    known = [
        f"{hours:.1f} hours" if isinstance(hours, int | float) else "hours not recorded",
        *(
            f"{training[key]} {one if training[key] == 1 else several}"
            for key, one, several in (
                ("steps", "step", "steps"),
                ("training_subjects", "person", "people"),
            )
            if key in training
        ),
    ]
    return ", ".join(known)


def _listed(words: list[str]) -> str:
    return (
        words[0]
        if len(words) == 1
        else ", ".join(words[:-1]) + " and " + words[-1]
        if words
        else ""
    )
