"""Registration finds the map, and says of what it cannot bring together that it is no pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from syndiff.io.formats import write
from syndiff.io.volume import Volume
from syndiff.phantom import make_subject
from syndiff.preparation import registration
from syndiff.preparation.intensity import foreground_mask
from syndiff.preparation.judgement import misfits
from syndiff.preparation.recipe import prepare
from syndiff.preparation.registration import Alignment, Found, align
from syndiff.preparation.resampling import median_move_mm
from syndiff.reporting import Remembering

SPACING_MM = 6.0
SHIFT_MM = (20.0, -40.0, 60.0)


def person(index: int) -> dict[str, Volume]:
    """A virtual person's T1 and CT on one grid."""
    made = make_subject(index, ("T1", "CT"), spacing_mm=SPACING_MM)
    return {m: Volume(array, made.affine) for m, array in made.scans.items()}


def shifted(volume: Volume, by_mm: tuple[float, float, float], pad: int = 0) -> Volume:
    """The same scan elsewhere in the world, with `pad` voxels of air added in front of x and y."""
    array = np.pad(volume.array, ((pad, 0), (pad, 0), (0, 0)), constant_values=volume.array.min())
    affine = volume.affine.copy()
    affine[:3, 3] += by_mm
    affine[:3, 3] -= affine[:3, :3] @ (pad, pad, 0)
    return Volume(array, affine)


@pytest.fixture(scope="module")
def people() -> list[dict[str, Volume]]:
    return [person(index) for index in (1, 2)]


def aligned(reference: Volume, moving: Volume) -> Alignment:
    mask, other = foreground_mask(reference.array, "a.u."), foreground_mask(moving.array, "HU")
    return align(reference, mask, moving, -1024.0, search=True, moving_mask=other)


def error_mm(result: Alignment, reference: Volume, shift: tuple[float, float, float]) -> float:
    """Median distance over the head between where a point was mapped and where it is."""
    back = np.eye(4)
    back[:3, 3] = -np.array(shift)
    return median_move_mm(back @ result.matrix, reference, foreground_mask(reference.array))


def test_air_of_minus_1024_does_not_lead_astray(people) -> None:
    """Moments of raw HU, where air weighs most, began 70 mm off and ended there."""
    one = people[0]
    result = aligned(one["T1"], shifted(one["CT"], SHIFT_MM, pad=20))
    assert result.problem == ""
    assert error_mm(result, one["T1"], SHIFT_MM) < SPACING_MM / 2


def test_origins_of_two_scanners_may_lie_a_metre_apart(people) -> None:
    one, far = people[0], (10.0, 150.0, -1100.0)
    result = aligned(one["T1"], shifted(one["CT"], far))
    assert result.problem == ""
    assert result.method == "affine"
    assert result.before is None  # by their headers the scans do not overlap
    assert error_mm(result, one["T1"], far) < SPACING_MM / 2
    assert "its header places it" in result.notes[0]


@pytest.mark.parametrize(("axis", "directions"), [(0, "left and right"), (1, "front and back")])
def test_a_mirrored_scan_is_named(people, axis: int, directions: str) -> None:
    one = people[0]
    mirrored = one["CT"].like(np.flip(one["CT"].array, axis))
    assert directions in aligned(one["T1"], mirrored).problem


def test_another_person_shares_less_than_the_cohort_does(people) -> None:
    one, two = people
    own, foreign = aligned(one["T1"], one["CT"]), aligned(one["T1"], two["CT"])
    assert own.after is not None
    assert foreign.after is not None

    def record(after: float) -> dict:
        registration = {"mutual_information_after": after}
        return {"CT": {"registered_onto": "T1", "registration": registration}}

    cohort = {name: record(own.after * (1 + 0.02 * i)) for i, name in enumerate("abc")}
    assert misfits(cohort) == {}
    (name,) = misfits(cohort | {"d": record(foreign.after)})
    assert name == "d"
    (name,) = misfits({"a": record(own.after), "b": record(foreign.after)})  # even among two
    assert name == "b"


def save_cohort(raw: Path, people: list[dict[str, Volume]]) -> Path:
    for number, scans in enumerate(people, start=1):
        for modality, volume in scans.items():
            array = volume.array.copy()
            array[0, 0, number] += 1  # the very same scan in two splits would be refused
            volume = volume.like(array)
            (raw / f"p{number}").mkdir(parents=True, exist_ok=True)
            write(volume, raw / f"p{number}" / f"{modality}.nii.gz", "made for a test")
    return raw


def scanned_anew(volume: Volume) -> Volume:
    """The same head with other noise."""
    noise = np.random.default_rng(1).normal(0, 1, volume.array.shape)
    return volume.like(volume.array + np.abs(noise))


def test_wrong_pairs_are_left_out_of_a_cohort_and_named(people, tmp_path: Path) -> None:
    one, two = people
    # Scanned anew: equal voxels under two names would be refused before.
    wrong = {"T1": scanned_anew(one["T1"]), "CT": scanned_anew(two["CT"])}
    raw = save_cohort(tmp_path / "raw", [one, two, wrong])
    heard = Remembering()
    options = {"modalities": ("T1", "CT"), "split": {"train": 1, "val": 1, "test": 1}, "size": 32}
    manifest = prepare(raw, tmp_path / "out", report=heard, **options)
    assert manifest.paired_subjects("val", "T1", "CT") == ["p2"]
    assert manifest.paired_subjects("test", "T1", "CT") == []
    (warning,) = (w for w in heard.warnings if "p3" in w and "not taken as a pair" in w)
    assert "another person" in warning
    entry = manifest.scans("test", "CT")[0].record
    assert entry["unpaired_because"] in warning
    again = prepare(raw, tmp_path / "out", **options)
    assert again.content == manifest.content


def planted(monkeypatch, outcome: Found | Exception) -> None:
    def register(*args):
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(registration, "register", register)


def test_a_failed_registration_never_pairs_by_the_headers(people, tmp_path, monkeypatch) -> None:
    raw = save_cohort(
        tmp_path / "raw", [people[0], {m: scanned_anew(v) for m, v in people[0].items()}]
    )
    planted(monkeypatch, RuntimeError("no gradient"))
    heard = Remembering()
    split = {"train": 1, "test": 1}
    manifest = prepare(
        raw, tmp_path / "out", modalities=("T1", "CT"), split=split, size=32, report=heard
    )
    for part in split:
        assert manifest.paired_subjects(part, "T1", "CT") == []
    assert sum("registration failed (no gradient)" in warning for warning in heard.warnings) == 2


@pytest.mark.parametrize(
    ("matrix", "problem"),
    [
        (np.array([[1, 0, 0, 35], [0, 1, 0, 30], [0, 0, 1, -30], [0, 0, 0, 1]]), "overlap only"),
        (np.array([[1, 0, 0, 0], [0, 1, 0, 70.0], [0, 0, 1, 0], [0, 0, 0, 1]]), "mm apart"),
        (np.diag([1.4, 1, 1, 1]), "stretched"),
    ],
)
def test_a_map_far_from_the_head_is_noticed(people, monkeypatch, matrix, problem) -> None:
    planted(monkeypatch, Found(matrix.astype(float), 0.1, 0.2))
    result = aligned(people[0]["T1"], people[0]["CT"])
    assert problem in result.problem
