"""A new phantom protocol: its signal equation and a line in `PROTOCOLS`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from syndiff.io.formats import read
from syndiff.phantom import make_subject, write_cohort
from syndiff.phantom.signal import INDEX, PROTOCOLS, Floats, Protocol
from syndiff.preparation.discover import find_scans

SPACING_MM = 8.0


def gradient_echo(t1: Floats, t2: Floats, pd: Floats) -> Floats:
    """S = PD e^(−TE / T2), with T2* half of T2 and TE 25 ms."""
    return pd * np.exp(-25.0 / (t2 / 2))


def test_a_new_protocol_needs_its_equation_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = make_subject(1, ("T2",), spacing_mm=SPACING_MM)
    monkeypatch.setitem(PROTOCOLS, "T2star", Protocol("T2starw", gradient_echo))
    options = {"subjects": 1, "modalities": ("T2", "T2star"), "spacing_mm": SPACING_MM}
    write_cohort(tmp_path, **options)  # type: ignore[arg-type]
    found = find_scans(tmp_path, ("T2", "T2star"))
    assert set(found["sub-001"]) == {"T2", "T2star"}
    t2, star = (read(tmp_path / found["sub-001"][m]).array for m in ("T2", "T2star"))
    np.testing.assert_allclose(t2, before.scans["T2"])  # the other scans are what they were
    tissues = ("csf", "white_matter")
    fluid, white = (np.median(star[before.labels == INDEX[name]]) for name in tissues)
    assert fluid > white > 0
