"""Virtual pelves: anatomy that a radiographer would find, contrasts, days, the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from syndiff.errors import OptionError
from syndiff.io import formats
from syndiff.phantom import Subject, make_pelvis, write_pelves
from syndiff.phantom.fields import Grid
from syndiff.phantom.pelvis import SHAPE, Settings, _stream
from syndiff.phantom.pelvis_body import Build, painted, view
from syndiff.phantom.pelvis_organs import Day, _bladder_radii
from syndiff.phantom.pelvis_signal import INDEX, PROTOCOLS, TISSUES, site_of, spoiled_echo
from syndiff.phantom.shapes import Canvas, Coordinates, blended, ellipsoid, limb, sheet
from tests.helpers.cli import call

COARSE = Settings(spacing_mm=4.0)
ALL = ("T1", "T2", "CT")
MAN = Build(False, 1.0, (25.0, 20.0, 25.0))


@pytest.fixture(scope="module")
def first() -> Subject:
    return make_pelvis(1, ALL, COARSE)


def of(subject: Subject, tissue: str) -> np.ndarray:
    return subject.labels == INDEX[tissue]


def paint(build: Build, day: Day, spacing_mm: float = 4.0) -> Canvas:
    return painted(_stream(COARSE, 1, SHAPE), view(spacing_mm), build, day, {})


# --- shapes --------------------------------------------------------------------------------------


def points(*rows: tuple[float, float, float]) -> Coordinates:
    x, y, z = (np.array(column, np.float32) for column in zip(*rows, strict=True))
    return x, y, z


def test_distances_of_shapes() -> None:
    """Closed forms: on the surface 0, outside the way to it, inside negative."""
    bar = limb([(0, 0, 0), (10, 0, 0)], [2, 2])
    at = points((5, 5, 0), (-6, 0, 0), (5, 0, 0), (10, 3, 4))
    np.testing.assert_allclose(bar.distance(at), [3, 4, -2, 3], atol=1e-5)
    ball = ellipsoid((1, 0, 0), (3, 3, 3))
    np.testing.assert_allclose(ball.distance(points((6, 0, 0), (1, 1, 0))), [2, -2], atol=1e-5)
    plate = sheet([((0, 0, 0), (10, 0, 0), (0, 10, 0))], 2.0)
    at = points((2, 2, 5), (2, 2, -5), (-3, 0, 0), (13, 0, 4))
    np.testing.assert_allclose(plate.distance(at), [4, 4, 2, 4], atol=1e-5)
    a, b = np.array([3.0, 20.0], np.float32), np.array([3.0, 1.0], np.float32)
    np.testing.assert_allclose(blended(a, b, 4.0), [2.0, 1.0])


def test_painted_in_front_stays_in_front() -> None:
    grid = Grid((-20.0, -20.0, -20.0), 2.0, (21, 21, 21))
    x, y, z = (np.moveaxis(grid.points_mm(), -1, 0)[i] for i in range(3))
    table = np.zeros((len(TISSUES), 3))
    table[:, 0] = np.arange(len(TISSUES))
    flat = np.zeros(grid.shape, np.float32)
    canvas = Canvas(grid, (x, y, z), 1.0, (flat, flat), {"T1": table})
    ball = ellipsoid((0, 0, 0), (10, 10, 10))
    canvas.fill(ball, 3)
    canvas.fill(ellipsoid((0, 0, 0), (16, 16, 16)), 2)
    assert canvas.labels[10, 10, 10] == 3
    assert canvas.labels[10, 10, 17] == 2
    volume = float((canvas.images["T1"] == 3).sum() * 8)
    assert volume < 4 / 3 * np.pi * 1000  # whole voxels only
    assert canvas.left.min() >= 0
    share = canvas.images["T1"][10, 10, :].max()
    assert share <= 3 + 1e-5


# --- the anatomy ---------------------------------------------------------------------------------


def test_the_parts_lie_where_they_lie_in_people(first: Subject) -> None:
    where = {}
    for name in ("urine", "red_marrow", "yellow_marrow", "couch_foam", "gas"):
        index = np.argwhere(of(first, name))
        where[name] = index @ first.affine[:3, :3].T + first.affine[:3, 3]
    bladder, couch = where["urine"].mean(axis=0), where["couch_foam"].mean(axis=0)
    assert abs(bladder[0]) < 12  # in the middle, in front of the middle of the body
    assert bladder[1] > where["red_marrow"].mean(axis=0)[1]
    assert couch[1] < where["red_marrow"][:, 1].min()
    heads = where["yellow_marrow"]
    heads = heads[np.abs(heads[:, 2]) < 15]
    left, right = heads[heads[:, 0] < 0].mean(axis=0), heads[heads[:, 0] > 0].mean(axis=0)
    assert 150 < right[0] - left[0] < 240  # femoral heads and necks


def test_body_fits_the_view_and_lies_on_the_couch(first: Subject) -> None:
    body = ~np.isin(first.labels, [INDEX[n] for n in ("background", "couch_shell", "couch_foam")])
    assert not body[[0, -1]].any()
    assert not body[:, [0, -1]].any()
    pieces, _ = ndimage.label(body)
    assert np.bincount(pieces.ravel())[1:].max() > 0.99 * body.sum()
    lowest = np.argwhere(body)[:, 1].min()
    couch = np.argwhere(of(first, "couch_shell"))[:, 1].max()
    assert abs(int(lowest) - int(couch)) <= 2


@pytest.mark.parametrize("volume_ml", [80.0, 200.0, 400.0])
def test_the_bladder_holds_what_it_is_filled_with(volume_ml: float) -> None:
    a, b, c = _bladder_radii(volume_ml)
    assert 4 / 3 * np.pi * a * b * c / 1000 == pytest.approx(volume_ml, rel=1e-6)


def test_a_full_bladder_is_larger_and_the_bones_stay() -> None:
    empty, full = (paint(MAN, Day(ml, 14.0, ())) for ml in (80.0, 400.0))
    found = [float((c.labels == INDEX["urine"]).sum() * 0.064) for c in (empty, full)]
    assert found[0] == pytest.approx(80, rel=0.35)  # the warp changes volumes, the wall is thick
    assert found[1] == pytest.approx(400, rel=0.25)
    for bone in ("cortical_bone", "yellow_marrow", "red_marrow"):
        before, after = (c.labels == INDEX[bone] for c in (empty, full))
        assert (before ^ after).sum() < 0.01 * before.sum()  # but for voxels shared with the wall


def test_women_and_men_have_their_own_organs() -> None:
    day = Day(150.0, 15.0, ())
    man, woman = (paint(Build(f, 1.0, (20.0, 20.0, 25.0)), day).labels for f in (False, True))
    for name, here, absent in (
        ("prostate_central", man, woman), ("uterus", woman, man), ("ovary", woman, man),
    ):  # fmt: skip
        assert (here == INDEX[name]).any(), name
        assert not (absent == INDEX[name]).any(), name


def test_people_differ() -> None:
    people = [make_pelvis(i, ("CT",), COARSE) for i in (1, 2, 4)]
    sizes = [int((s.labels > 0).sum() - of(s, "couch_foam").sum()) for s in people]
    assert len(set(sizes)) == 3
    assert of(people[0], "uterus").any() != of(people[1], "uterus").any()
    urine = [int(of(s, "urine").sum()) for s in people]
    assert max(urine) > 1.5 * min(urine)


# --- the scans -----------------------------------------------------------------------------------


def test_contrasts(first: Subject) -> None:
    # Half a voxel of another tissue is no contrast: only what lies inside is looked at.
    inside = {
        name: ndimage.binary_erosion(of(first, name))
        for name in ("background", "fat", "muscle", "urine")
    }
    inside["bone"] = of(first, "cortical_bone")
    t1, t2, ct = ({k: float(np.median(first.scans[m][v])) for k, v in inside.items()} for m in ALL)
    assert t1["fat"] > 1.5 * t1["muscle"] > 1.5 * t1["urine"]
    assert t2["urine"] > 1.5 * t2["fat"] > 3 * t2["muscle"]
    for mr in (t1, t2):
        assert mr["bone"] < mr["fat"]
        assert mr["background"] < 0.15 * mr["muscle"]
    assert ct["bone"] > 250 > ct["muscle"] > ct["urine"] > ct["fat"] > -150
    assert ct["background"] == pytest.approx(-1000, abs=15)
    foam = np.median(first.scans["CT"][ndimage.binary_erosion(of(first, "couch_foam"))])
    assert foam == pytest.approx(TISSUES[INDEX["couch_foam"]].hu, abs=20)
    assert not (first.scans["CT"] % 1).any()  # whole HU
    couch = first.scans["T1"][of(first, "couch_shell") | of(first, "couch_foam")]
    assert np.median(couch) < 0.2 * t1["muscle"]  # no signal in MR


def test_gradient_echo_limits() -> None:
    one = np.array([800.0]), np.array([80.0]), np.array([0.7])
    assert spoiled_echo(*one, te=0, tr=1e9, flip_deg=90) == pytest.approx(0.7)
    # Ernst's angle gives the strongest signal
    ernst = float(np.rad2deg(np.arccos(np.exp(-7.46 / 800.0))))
    at = [float(spoiled_echo(*one, te=0, tr=7.46, flip_deg=ernst + d)[0]) for d in (-1, 0, 1)]
    assert at[1] > max(at[0], at[2])


def test_sites() -> None:
    rng = np.random.default_rng
    for name, site in PROTOCOLS.items():
        assert site_of(rng(0), name) is site
    drawn = {site_of(rng(i), "gold-atlas") for i in range(20)}
    assert drawn == set(PROTOCOLS.values())


def test_organs_move_between_mr_and_ct_only_if_asked(first: Subject) -> None:
    moved = make_pelvis(1, ALL, replace(COARSE, organ_motion=True))
    np.testing.assert_array_equal(moved.scans["T2"], first.scans["T2"])
    np.testing.assert_array_equal(moved.labels, first.labels)
    other = make_pelvis(1, ("CT", "T2"), replace(COARSE, organ_motion=True))
    np.testing.assert_array_equal(other.scans["CT"], moved.scans["CT"])
    for tissue, least, most in (("urine", 0.02, 2), ("gas", 0.3, 2), ("cortical_bone", 0, 0.01)):
        here, there = (of(s, tissue) for s in (other, moved))  # each of the first modality's day
        assert least <= (here ^ there).sum() / (here | there).sum() < most, tissue


def test_scans_do_not_depend_on_the_other_modalities(first: Subject) -> None:
    alone = make_pelvis(1, ("CT",), COARSE)
    np.testing.assert_array_equal(alone.scans["CT"], first.scans["CT"])
    np.testing.assert_array_equal(alone.labels, first.labels)


# --- on disk and from the command line -----------------------------------------------------------


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_bytes_again(tmp_path: Path, first: Subject) -> None:
    coarse = Settings(spacing_mm=8.0)
    write_pelves(tmp_path / "a", subjects=2, modalities=("T2", "CT"), settings=coarse)
    made = write_pelves(tmp_path / "b", subjects=2, modalities=("T2", "CT"), settings=coarse)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert [p.name for p in made] == ["sub-001", "sub-002"]
    scan = formats.read(made[0] / "anat" / "sub-001_CT.nii.gz")
    memory = make_pelvis(1, ("CT",), coarse)
    np.testing.assert_array_equal(scan.array, memory.scans["CT"])
    rows = (tmp_path / "a" / "participants.tsv").read_text().splitlines()
    assert rows[0].split("\t")[2] == "sex"
    assert {row.split("\t")[2] for row in rows[1:]} <= {"F", "M"}
    table = (tmp_path / "a" / "derivatives/labels/dseg.tsv").read_text().splitlines()
    assert table[1 + INDEX["urine"]].split("\t")[1] == "urine"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"modalities": ("T1", "PD")}, "PD"),
        ({"modalities": ()}, "modalities"),
        ({"settings": Settings(protocol="ixi")}, "protocol"),
        ({"settings": Settings(spacing_mm=0.5)}, "spacing"),
        ({"settings": Settings(noise=float("nan"))}, "noise"),
        ({"subjects": 0}, "subjects"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, Any], what: str) -> None:
    with pytest.raises(OptionError, match=what):
        write_pelves(tmp_path / "raw", **options)
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--organ-motion"],
        ["--anatomy", "pelvis", "--lesions", "2"],
        ["--anatomy", "pelvis", "--protocol", "mprage"],
        ["--anatomy", "pelvis", "--modalities", "FLAIR"],
    ],
)
def test_options_of_another_anatomy_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    assert call(monkeypatch, "phantom", tmp_path / "raw", *words) == 2
    assert not (tmp_path / "raw").exists()


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--anatomy", "pelvis", "--subjects", "1"]
    words += ["--modalities", "T2,CT", "--spacing-mm", "8", "--protocol", "gold-atlas-spin-echo"]
    assert call(monkeypatch, "phantom", tmp_path / "raw", *words) == 0
    assert (tmp_path / "raw/sub-001/anat/sub-001_CT.nii.gz").is_file()
