"""Virtual subjects: exact equations, exact labels, the same bytes every time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from syndiff.errors import OptionError
from syndiff.io import formats
from syndiff.io.volume import same_grid
from syndiff.phantom import MODALITIES, Subject, make_subject, write_cohort
from syndiff.phantom import signal as sig
from syndiff.phantom.fields import Grid, integrate, rotation, smooth_field
from syndiff.phantom.tissues import CENTRE_MM, displaced, invent, view
from syndiff.reporting import Silent

COARSE: dict[str, Any] = {"spacing_mm": 4.0}
CLEAN: dict[str, Any] = {**COARSE, "noise": 0.0, "bias": 0.0}


@pytest.fixture(scope="module")
def first() -> Subject:
    return make_subject(1, MODALITIES, **COARSE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects on disk."""
    out = tmp_path_factory.mktemp("phantom") / "raw"
    write_cohort(out, subjects=2, **COARSE)
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def median(subject: Subject, modality: str, tissue: str) -> float:
    return float(np.median(subject.scans[modality][subject.labels == sig.INDEX[tissue]]))


# --- the equations -----------------------------------------------------------------------------


def test_spin_echo_limits() -> None:
    one = np.array([1000.0]), np.array([100.0]), np.array([0.8])
    assert sig.spin_echo(*one, te=0, tr=1e9) == pytest.approx(0.8)
    assert sig.spin_echo(*one, te=100 * np.log(2), tr=1000 * np.log(2)) == pytest.approx(0.2)


@pytest.mark.parametrize("tr", [3000.0, 9000.0])
def test_inversion_nulls_the_tissue_that_it_is_set_for(tr: float) -> None:
    t1, t2, pd = np.array([4200.0, 1000.0]), np.array([1800.0, 90.0]), np.array([1.0, 0.8])
    ti = sig.nulling_inversion_ms(4200.0, tr)
    fluid, tissue = sig.inversion_spin_echo(t1, t2, pd, ti=ti, te=100, tr=tr)
    assert fluid == pytest.approx(0, abs=1e-12)
    assert tissue > 0.05


def gradient_echo(t1: float, *, flip: float, pulses: int, shot: float = 2300.0) -> float:
    """M(TI) for PD 1 without the echo's decay, divided by sin α."""
    value = sig.inversion_gradient_echo(
        np.array([t1]), np.array([1e12]), np.array([1.0]),
        ti=900.0, te=0.0, tr=10.0, shot=shot, flip_deg=flip, pulses=pulses,
    )  # fmt: skip
    return float(value[0] / np.sin(np.deg2rad(flip)))


@pytest.mark.parametrize("t1", [300.0, 700.0, 1100.0, 4200.0])
def test_gradient_echo_without_disturbance_is_inversion_recovery(t1: float) -> None:
    expected = abs(1 - 2 * np.exp(-900 / t1) / (1 + np.exp(-2300 / t1)))
    assert gradient_echo(t1, flip=1e-4, pulses=120) == pytest.approx(expected, abs=1e-6)


def test_gradient_echo_agrees_with_playing_it_pulse_by_pulse() -> None:
    t1, alpha, pulses, tr, shot = 800.0, np.deg2rad(8.0), 100, 10.0, 2300.0
    m, centre = 1.0, np.nan
    for _ in range(30):  # many shots: the steady state
        m = 1 + (-m - 1) * np.exp(-(900 - 50 * tr) / t1)
        for pulse in range(pulses):
            centre = m if pulse == 50 else centre
            m = 1 + (m * np.cos(alpha) - 1) * np.exp(-tr / t1)
        m = 1 + (m - 1) * np.exp(-(shot - 900 - 50 * tr) / t1)
    assert gradient_echo(t1, flip=8.0, pulses=pulses) == pytest.approx(abs(centre), rel=1e-9)


@pytest.mark.parametrize("modality", MODALITIES)
def test_partial_volume_mixes_linearly(modality: str) -> None:
    table = sig.signal_table(modality, sig.TISSUES)
    maps = np.zeros((2, len(sig.TISSUES)), np.float32)
    maps[0, 2], maps[1, [1, 2, 3]] = 1.0, [0.2, 0.5, 0.3]
    image = sig.scan(maps, np.zeros((2, 2), np.float32), table)
    assert image == pytest.approx([table[2, 0], table[1:4, 0] @ [0.2, 0.5, 0.3]], rel=1e-5)


def test_texture_is_a_small_change_of_relaxation_times() -> None:
    maps = np.eye(len(sig.TISSUES), dtype=np.float32)
    for modality in ("T1", "T2", "PD", "FLAIR"):
        table = sig.signal_table(modality, sig.TISSUES)
        textured = sig.scan(maps, np.full((len(maps), 2), 0.01, np.float32), table)
        grey = sig.TISSUES[2]
        exact = sig.PROTOCOLS[modality].signal(
            np.array(grey.t1_ms * 1.01), np.array(grey.t2_ms * 1.01), np.array(grey.pd)
        )
        assert textured[2] == pytest.approx(float(exact), rel=2e-3)


# --- fields and anatomy ------------------------------------------------------------------------


def test_fields_do_not_depend_on_the_grid() -> None:
    fine = Grid((-60.0, -60.0, -60.0), 2.0, (61, 61, 61))
    coarse = Grid((-60.0, -60.0, -60.0), 4.0, (31, 31, 31))
    a, b = (smooth_field(np.random.default_rng(3), g, 20.0) for g in (fine, coarse))
    np.testing.assert_allclose(a[::2, ::2, ::2], b, atol=1e-5)
    assert abs(a.mean()) < 0.2
    assert a.std() == pytest.approx(1, abs=0.2)


def test_the_flow_of_a_linear_field_is_its_matrix_exponential() -> None:
    grid = Grid((-50.0, -50.0, -50.0), 5.0, (21, 21, 21))
    spin = np.array([0.0, 0.0, 0.2])  # v = ω × p, whose flow is a rotation by |ω|
    points = grid.points_mm()
    flow = points + integrate(np.cross(spin, points).astype(np.float32), grid, squarings=8)
    middle = (slice(5, 16),) * 3
    expected = points[middle] @ rotation(spin).T
    np.testing.assert_allclose(flow[middle], expected, atol=0.05)


def test_maps_are_fractions() -> None:
    rng = np.random.default_rng
    maps = invent(rng(1), view(4.0), rng(2), lesions=3).maps
    assert maps.min() >= 0
    np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=1e-5)


def test_a_person_is_the_same_at_every_spacing(first: Subject) -> None:
    """4 mm against 5 mm: volumes of the tissues agree."""
    other = make_subject(1, ("T1",), spacing_mm=5.0)
    for tissue in ("csf", "grey_matter", "white_matter", "fat"):
        small, large = (
            float((s.labels == sig.INDEX[tissue]).sum() * edge**3)
            for s, edge in ((first, 4.0), (other, 5.0))
        )
        assert small == pytest.approx(large, rel=0.15), tissue


def test_heads_fit_the_view_and_the_networks_grid() -> None:
    for index in range(1, 7):
        head = make_subject(index, ("T1",), **COARSE).labels > 0
        width, length, _ = (np.ptp(np.argwhere(head), axis=0) + 1) * 4
        assert width < 180  # 175 mm and a voxel
        assert length < 209  # 205 mm and a voxel
        border = head.copy()
        border[1:-1, 1:-1, :-1] = False  # air all around, but for the neck
        assert not border[:, :, 1:].any()


def test_anatomies_differ(first: Subject) -> None:
    second = make_subject(2, ("T1",), **COARSE)
    for tissue in ("csf", "grey_matter", "white_matter"):
        a, b = (s.labels == sig.INDEX[tissue] for s in (first, second))
        overlap = 2 * (a & b).sum() / (a.sum() + b.sum())
        assert 0.1 < overlap < 0.8, tissue


def test_ventricles_vary() -> None:
    volumes = []
    for index in range(1, 7):
        labels = make_subject(index, ("T1",), **COARSE).labels
        middle = np.zeros(labels.shape, bool)
        middle[20:28, 20:37, 19:28] = True  # the lateral ventricles and their surroundings
        volumes.append(int(((labels == sig.INDEX["csf"]) & middle).sum()))
    assert max(volumes) > 1.5 * min(volumes) > 0


# --- the scans ---------------------------------------------------------------------------------


def test_contrasts(first: Subject) -> None:
    t1, t2, pd, flair, ct = (
        {t.name: median(first, m, t.name) for t in sig.TISSUES[:8]} for m in MODALITIES
    )
    assert t1["fat"] > t1["white_matter"] > 1.2 * t1["grey_matter"] > 2 * t1["csf"]
    assert t2["csf"] > 1.8 * t2["grey_matter"]
    assert t2["grey_matter"] > 1.15 * t2["white_matter"]
    assert pd["grey_matter"] > pd["white_matter"]
    assert flair["grey_matter"] > 4 * flair["csf"]
    for mr in (t1, t2, pd, flair):
        assert mr["bone"] < 0.5 * mr["fat"]
        assert mr["background"] < 0.1 * mr["grey_matter"]
    assert ct["bone"] > 300 > ct["grey_matter"] > ct["white_matter"] > ct["csf"] > ct["fat"]
    assert ct["background"] == pytest.approx(-1000, abs=5)


def test_lesions_show() -> None:
    healthy = make_subject(3, ("T1", "T2", "FLAIR"), **CLEAN)
    ill = make_subject(3, ("T1", "T2", "FLAIR"), lesions=12, **CLEAN)
    assert not (healthy.labels == sig.INDEX["lesion"]).any()
    spots = ill.labels == sig.INDEX["lesion"]
    assert spots.sum() >= 5
    changed = healthy.labels != ill.labels
    assert set(healthy.labels[changed]) == {sig.INDEX["white_matter"]}
    for modality, sign in (("T1", -1), ("T2", 1), ("FLAIR", 1)):
        white = median(ill, modality, "white_matter")
        assert sign * (median(ill, modality, "lesion") - white) > 0.1 * white, modality


def centre_mm(weights: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Centre of mass of `weights` in mm."""
    return affine[:3, :3] @ np.array(ndimage.center_of_mass(weights)) + affine[:3, 3]


def test_a_displaced_head_lies_where_it_was_put() -> None:
    rng = np.random.default_rng
    person = invent(rng(1), view(4.0), rng(2))
    shift, turn = np.array([3.0, -4.0, 5.0]), np.deg2rad([2.0, 5.0, -3.0])
    moved = displaced(person, shift, turn)
    brain = [sig.INDEX["grey_matter"], sig.INDEX["white_matter"]]
    before, after = (
        centre_mm(p.maps[..., brain].sum(axis=-1), person.grid.affine) for p in (person, moved)
    )
    expected = rotation(turn) @ (before - CENTRE_MM) + CENTRE_MM + shift
    np.testing.assert_allclose(after, expected, atol=0.3)


def test_misregistration_moves_all_but_the_first() -> None:
    still = make_subject(2, ("CT", "PD"), misregistration_mm=5.0, **CLEAN)
    moved = make_subject(2, ("PD", "CT"), misregistration_mm=5.0, **CLEAN)
    plain = make_subject(2, ("PD", "CT"), **CLEAN)
    np.testing.assert_array_equal(still.scans["CT"], plain.scans["CT"])
    np.testing.assert_array_equal(moved.scans["PD"], plain.scans["PD"])
    np.testing.assert_array_equal(moved.labels, plain.labels)
    np.testing.assert_array_equal(moved.affine, plain.affine)
    before, after = (centre_mm(s.scans["CT"] > 300, s.affine) for s in (plain, moved))
    # the shift, give or take what the turn does to the skull, whose centre is not CENTRE_MM
    assert np.linalg.norm(after - before) == pytest.approx(5, abs=2)


def test_noise_and_bias_are_what_was_asked_for() -> None:
    plain = make_subject(1, ("T2", "CT"), **CLEAN)
    noisy = make_subject(1, ("T2", "CT"), spacing_mm=4.0, noise=0.05, bias=0.0)
    air = plain.labels == 0
    difference = noisy.scans["CT"] - plain.scans["CT"]
    assert difference.std() == pytest.approx(0.05 * 300, rel=0.05)
    assert difference.mean() == pytest.approx(0, abs=0.5)
    brain = np.isin(plain.labels, [2, 3])
    level = plain.scans["T2"][brain].mean()
    deep_air = ndimage.binary_erosion(air, iterations=2)
    rayleigh = 0.05 * level * np.sqrt(np.pi / 2)  # the mean of Rician noise without signal
    assert noisy.scans["T2"][deep_air].mean() == pytest.approx(rayleigh, rel=0.15)
    biased = make_subject(1, ("T2", "CT"), spacing_mm=4.0, noise=0.0, bias=0.4)
    ratio = biased.scans["T2"][brain] / plain.scans["T2"][brain]
    assert 0.05 < np.log(ratio).std() < 0.4
    np.testing.assert_array_equal(biased.scans["CT"], plain.scans["CT"])


def test_scans_do_not_depend_on_the_other_modalities(first: Subject) -> None:
    for modality in ("T2", "CT"):
        alone = make_subject(1, (modality,), **COARSE)
        np.testing.assert_array_equal(alone.scans[modality], first.scans[modality])
        np.testing.assert_array_equal(alone.labels, first.labels)
    other_seed = make_subject(1, ("T2",), seed=1, **COARSE)
    assert (other_seed.labels != first.labels).mean() > 0.02


# --- on disk -----------------------------------------------------------------------------------


def test_layout(folder: Path) -> None:
    names = {
        "dataset_description.json",
        "participants.tsv",
        "derivatives/labels/dseg.tsv",
        *(f"{s}/anat/{s}_{m}.nii.gz" for s in ("sub-001", "sub-002") for m in ("T1w", "T2w")),
        *(f"derivatives/labels/{s}/anat/{s}_dseg.nii.gz" for s in ("sub-001", "sub-002")),
    }
    assert set(files(folder)) == names
    scan = formats.read(folder / "sub-001/anat/sub-001_T1w.nii.gz")
    labels = formats.read(folder / "derivatives/labels/sub-001/anat/sub-001_dseg.nii.gz")
    memory = make_subject(1, ("T1",), **COARSE)
    assert same_grid(scan, labels)
    np.testing.assert_array_equal(scan.array, memory.scans["T1"])
    np.testing.assert_array_equal(labels.array, memory.labels)
    np.testing.assert_allclose(scan.affine, memory.affine)
    rows = (folder / "derivatives/labels/dseg.tsv").read_text().splitlines()
    assert rows[:3] == ["index\tname", "0\tbackground", "1\tcsf"]
    described = json.loads((folder / "dataset_description.json").read_text())
    assert described["SyndiffPhantom"]["modalities"] == ["T1", "T2"]


def test_the_same_bytes_again_whatever_the_number_of_subjects(
    folder: Path, tmp_path: Path
) -> None:
    calls: list[tuple[int, int]] = []

    class Counting(Silent):
        def progress(self, done: int, total: int, detail: str = "") -> None:
            calls.append((done, total))

    made = write_cohort(tmp_path / "raw", subjects=3, report=Counting(), **COARSE)
    assert made == [tmp_path / "raw" / f"sub-00{i}" for i in (1, 2, 3)]
    assert calls == [(1, 3), (2, 3), (3, 3)]
    again, before = files(tmp_path / "raw"), files(folder)
    images = [name for name in before if name.endswith(".nii.gz")]
    assert len(images) == 6
    assert all(again[name] == before[name] for name in images)


def test_a_cohort_that_was_begun_is_finished(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "raw"
    for name, content in files(folder).items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    scan = out / "sub-001/anat/sub-001_T1w.nii.gz"
    scan.write_bytes(b"left alone")  # a finished subject is not made again
    (out / "sub-002/anat/sub-002_T2w.nii.gz").unlink()
    write_cohort(out, subjects=2, **COARSE)
    assert scan.read_bytes() == b"left alone"
    scan.write_bytes(files(folder)["sub-001/anat/sub-001_T1w.nii.gz"])
    assert files(out) == files(folder)


@pytest.mark.parametrize("change", [{"seed": 1}, {"subjects": 3}, {"lesions": 1}, {"noise": 0.1}])
def test_a_cohort_of_other_parameters_is_refused(folder: Path, change: dict[str, Any]) -> None:
    before = files(folder)
    with pytest.raises(OptionError, match=next(iter(change))):
        write_cohort(folder, **{"subjects": 2, **COARSE, **change})
    assert files(folder) == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("thesis.txt", "years of work"),
        ("dataset_description.json", '{"Name": "IXI"}'),
        ("dataset_description.json", "[]"),
        ("dataset_description.json", "no JSON"),
    ],
)
def test_a_folder_with_something_else_is_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(OptionError, match="new folder"):
        write_cohort(tmp_path, subjects=1, **COARSE)
    assert files(tmp_path) == {name: content.encode()}


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("a file")
    with pytest.raises(OptionError):
        write_cohort(tmp_path / "raw", subjects=1, **COARSE)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"modalities": ("T1", "PET")}, "PET"),
        ({"modalities": ()}, "modalities"),
        ({"modalities": "T1"}, "modalities"),
        ({"modalities": ("T1", "T1")}, "once"),
        ({"subjects": 0}, "subjects"),
        ({"seed": -1}, "seed"),
        ({"spacing_mm": 0.0}, "spacing"),
        ({"spacing_mm": float("nan")}, "spacing"),
        ({"lesions": -1}, "lesions"),
        ({"misregistration_mm": -1.0}, "misregistration"),
        ({"noise": float("inf")}, "noise"),
        ({"bias": -0.1}, "bias"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, Any], what: str) -> None:
    with pytest.raises(OptionError, match=what):
        write_cohort(tmp_path / "raw", **options)
    assert not (tmp_path / "raw").exists()
