"""What the numbers in a scan mean: nothing is cut away in silence, and every advice works."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import ndimage

from syndiff.errors import OptionError, VolumeError
from syndiff.phantom import make_subject
from syndiff.preparation.intensity import (
    HU_WINDOW,
    IntensityScale,
    ct_window,
    fit_scale,
    foreground_mask,
    is_ct,
    window_scale,
)
from syndiff.preparation.values import field_doubts, looks_like_hounsfield, understood


@pytest.fixture(scope="module")
def scans() -> dict[str, np.ndarray]:
    return make_subject(1, ("T1", "CT"), spacing_mm=6.0).scans


@pytest.fixture
def mr(scans) -> np.ndarray:
    return scans["T1"].copy()


@pytest.fixture
def ct(scans) -> np.ndarray:
    return scans["CT"].copy()


def normal(array: np.ndarray) -> np.ndarray:
    """As training sees an MR: divided by the mean over its head."""
    rule = IntensityScale("robust", "a.u.", 2.0, 1.0)
    return rule.normalise(array, rule.reference_mean(array))


@pytest.mark.parametrize(
    "change",
    [
        lambda a: (a - a.mean()) / a.std(),  # z-scored
        lambda a: 2 * (a - a.min()) / np.ptp(a) - 1,  # min-max to [-1, 1]
        lambda a: a - 300,  # an offset
    ],
)
def test_negative_scans_come_out_as_their_original(mr, change) -> None:
    values = understood(change(mr).astype(np.float32), "a.u.")
    (note,) = values.notes
    assert "negative" in note
    # The lowest 0.1 % of air became 0; tissue is as it was.
    np.testing.assert_allclose(normal(values.array), normal(mr), atol=0.02)


def test_ringing_below_zero_is_no_matter(mr) -> None:
    mr[5, 5, 5:9] = -0.02 * mr.max()
    values = understood(mr, "a.u.")
    assert values.notes == ()
    assert values.array.min() == 0
    np.testing.assert_array_equal(values.array[mr >= 0], mr[mr >= 0])


def test_an_mr_without_negative_values_is_left_alone(mr) -> None:
    values = understood(mr, "a.u.")
    assert values.array is mr
    assert values.notes == ()


def test_a_masked_background_is_taken_as_air(mr) -> None:
    mask = foreground_mask(mr)
    values = understood(np.where(mask, mr, -32768).astype(np.float32), "a.u.")
    assert "-32768" in values.notes[0]
    np.testing.assert_array_equal(values.array, np.where(mask, mr, 0))


def test_z_scores_within_a_mask_are_refused_and_the_advice_works(mr) -> None:
    mask = foreground_mask(mr)
    scores = (mr - mr[mask].mean()) / mr[mask].std()
    scan = np.where(mask, scores, 0).astype(np.float32)
    with pytest.raises(VolumeError, match="set what lies around the head to its lowest value"):
        understood(scan, "a.u.")
    understood(np.where(mask, scan, scan.min()), "a.u.")


def test_hounsfield_units_given_as_an_mr_are_refused_and_the_advice_works(ct) -> None:
    with pytest.raises(VolumeError, match=r"look like Hounsfield units.*add 1024") as caught:
        understood(ct, "a.u.")
    assert "\n" not in str(caught.value)
    assert understood(np.maximum(ct + 1024, 0), "a.u.").array.min() >= 0


def test_mr_does_not_look_like_hounsfield_units(mr) -> None:
    for scan in (mr, mr - mr.mean(), mr + 1000):
        assert not looks_like_hounsfield(scan)


def test_hu_plus_1024_is_refused_and_the_advice_works(ct) -> None:
    stored = np.maximum(ct + 1024, 0)
    with pytest.raises(VolumeError, match=r"look like HU \+ 1024: subtract 1024"):
        understood(stored, "HU")
    back = understood(stored - 1024, "HU").array
    np.testing.assert_allclose(back, np.maximum(ct, -1024), atol=1e-3)


def test_padding_below_air_is_raised_to_air(ct) -> None:
    ct[:3] = -2000
    assert understood(ct, "HU").array.min() == HU_WINDOW[0]


def test_a_ct_masked_by_0_keeps_its_head(ct) -> None:
    head = foreground_mask(ct, "HU")
    ct[10:12, 16:18, 15] = -1000  # air inside the head
    masked = np.where(head, ct, 0).astype(np.float32)
    values = understood(masked, "HU")
    assert "taken as air" in values.notes[0]
    np.testing.assert_array_equal(values.array[head], np.maximum(ct, -1024)[head])
    assert (values.array[~head] == -1024).all()


def test_a_ct_without_air_needs_a_word(ct) -> None:
    inside = ct[10:20, 14:22, 10:18].clip(-100, 1500)
    with pytest.raises(VolumeError, match="set a rim of the scan to -1024, or prepare it"):
        understood(inside, "HU")
    np.testing.assert_array_equal(understood(inside, "HU", certain=True).array, inside)
    rim = np.pad(inside, 1, constant_values=-1024)
    np.testing.assert_array_equal(understood(rim, "HU").array, rim)


@pytest.mark.parametrize("pedestal", [False, True])
def test_air_that_is_not_dark_is_doubted(mr, pedestal: bool) -> None:
    mask = foreground_mask(mr)
    noise = np.random.default_rng(0).uniform(0, 4095, mr.shape)
    inside = 1500 + 1500 * mr / mr.max()
    scan = (mr + 1000 if pedestal else np.where(mask, inside, noise)).astype(np.float32)
    (doubt,) = field_doubts(scan, foreground_mask(scan), "a.u.")
    assert re.search("mask the air|subtract the air's level", doubt)


def test_an_ordinary_scan_is_not_doubted(mr, ct) -> None:
    assert field_doubts(mr, foreground_mask(mr), "a.u.") == []
    assert field_doubts(ct, foreground_mask(ct, "HU"), "HU") == []


def test_names_of_ct() -> None:
    for name in ("CT", "ct", "NCCT", "CTA", "CECT", "LDCT", "CT-bone", "low_dose_CT"):
        assert is_ct(name)
    for name in ("T1", "SPECT", "PET", "FLAIR", "OCT", "CTX"):
        assert not is_ct(name)


def test_windows_by_name_and_by_numbers() -> None:
    assert ct_window("full") == HU_WINDOW
    assert ct_window("-200,400") == (-200.0, 400.0)
    for text in ("wide", "400,-200", "1", "nan,3", "-2000,0"):
        with pytest.raises(OptionError, match="soft, bone, full"):
            ct_window(text)


def test_a_narrow_window_keeps_soft_tissue_apart_and_finds_the_head(ct) -> None:
    rule = window_scale(ct_window("soft"))
    fat, muscle = rule.normalise(np.array([-100.0, 50.0]), 1.0)
    assert muscle - fat == pytest.approx(150 / 400, rel=1e-5)
    restored = rule.restore(rule.normalise(ct, 1.0))
    found = foreground_mask(restored, rule.unit, rule.tissue_above)
    head = foreground_mask(ct, "HU")
    assert found[head].mean() > 0.97
    assert ndimage.distance_transform_edt(~head)[found].max() < 2  # voxels; the blur of an edge


def test_ct_by_the_rule_of_the_paper_comes_back(ct) -> None:
    rule = IntensityScale("paper", "HU", 1.0, 0.0)
    mean = rule.reference_mean(ct)
    assert mean == pytest.approx((ct + 1024).mean(dtype=np.float64), rel=1e-5)
    rule = fit_scale("paper", [mean], [float(ct.max() + 1024) / mean], "HU")
    values = rule.normalise(ct, mean)
    assert values.max() == pytest.approx(1.0)
    np.testing.assert_allclose(rule.restore(values), np.maximum(ct, -1024), atol=0.01)
