"""A new metric: a function and a line in `METRICS`; files and report show it by themselves."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from syndiff.evaluation.evaluate import evaluate
from syndiff.evaluation.metrics import METRICS, Mask, Metric
from syndiff.evaluation.profiles import Profile
from tests.helpers.tiny import write_prepared


def largest_error(
    image: ArrayLike, reference: ArrayLike, profile: Profile, head: Mask | None
) -> float:
    """The largest absolute difference, as a part of the reference's maximum."""
    inside = np.ones(np.shape(image), bool) if head is None else head
    difference = np.abs(np.subtract(image, reference))
    return float(difference[inside].max() / np.max(reference))


def test_a_new_metric_needs_its_function_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Metric(
        "largest", "Largest error", "% of maximum", "lower", largest_error, 0.01,
        "The worst pixel.", factor=100, of_intensity=True,
    )  # fmt: skip
    monkeypatch.setitem(METRICS, "largest", line)
    subjects = {"train1": "T1 T2", "train2": "T1 T2", "test1": "T1 T2"}
    data = write_prepared(tmp_path / "data", subjects)
    results = evaluate(data, tmp_path / "out", models={}, source="T1", target="T2")
    copy = results["models"]["copy"]
    with (tmp_path / "out" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == "copy"]
    values = [float(row["largest"]) for row in rows]
    assert min(values) > 0
    assert copy["slice_means"]["largest"] == pytest.approx(
        np.mean(values), rel=1e-5
    )  # six digits in the file
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["models"]["copy"] == copy
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Largest error" in page
    assert line.shown(copy["person_means"]["largest"]) in page
    assert "The worst pixel." in page
