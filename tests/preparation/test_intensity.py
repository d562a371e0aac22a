"""Intensities: the head is found, and values come back as they went."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from syndiff.errors import OptionError, VolumeError
from syndiff.preparation.intensity import (
    HU_WINDOW,
    IntensityScale,
    fit_scale,
    foreground_mask,
    is_ct,
    peak_value,
    reference_mean,
    window_scale,
)


def head(shape: tuple[int, int, int] = (48, 56, 24), noise: float = 3.0) -> np.ndarray:
    """A bright ellipsoid with a dark hole, in noisy air."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt(sum((a / r) ** 2 for a, r in zip(axes, (0.7, 0.8, 0.8), strict=True)))
    values = np.where(radius < 1, 100.0, 0.0)
    values[radius < 0.3] = 5.0
    return np.abs(values + np.random.default_rng(0).normal(0, noise, shape)).astype(np.float32)


@given(st.floats(1e-3, 1e5), st.floats(0.5, 10.0))
def test_mri_round_trip(mean, scale) -> None:
    rule = IntensityScale("robust", "a.u.", scale, mean)
    values = np.linspace(0, mean * scale, 50, dtype=np.float32)
    normal = rule.normalise(values, mean)
    assert normal.min() >= 0
    assert normal.max() <= 1
    np.testing.assert_allclose(rule.restore(normal), values, rtol=1e-4, atol=mean * 1e-4)
    assert rule.peak == pytest.approx(mean * scale, rel=1e-4)


@given(st.floats(-1024, 3000))
def test_ct_round_trip(hounsfield) -> None:
    rule = window_scale()
    values = np.array([hounsfield], np.float32)
    assert rule.restore(rule.normalise(values, 1.0))[0] == pytest.approx(hounsfield, abs=0.01)
    assert rule.peak == pytest.approx(HU_WINDOW[1])
    assert rule.background == 0.0


def test_dictionary_round_trip() -> None:
    for rule in (window_scale(), IntensityScale("robust", "a.u.", 2.0, 30.0)):
        content = rule.to_dict()
        content["window"] = list(content["window"]) if content["window"] else None  # as JSON does
        assert IntensityScale.from_dict(content) == rule


def test_one_hot_voxel_does_not_darken_the_rest() -> None:
    plain, hot = head(), head()
    hot[24, 28, 18] = 1e5
    scales = []
    for array in (plain, hot):
        mask = foreground_mask(array)
        mean = reference_mean(array, "robust", mask)
        scales.append(fit_scale("robust", [mean], [peak_value(array, mask, "robust") / mean]))
    inside = foreground_mask(plain)
    bright = [
        s.normalise(a, reference_mean(a, "robust"))[inside]
        for s, a in zip(scales, (plain, hot), strict=True)
    ]
    assert np.median(bright[1]) == pytest.approx(np.median(bright[0]), rel=0.05)


def test_one_hot_subject_does_not_darken_the_cohort() -> None:
    assert fit_scale("robust", [10, 11, 12], [2.0, 2.1, 30.0]).scale == pytest.approx(2.1)


def test_paper_rule_is_literal() -> None:
    """Each volume's mean becomes 1, then the cohort's maximum becomes 1 (paper, Sec. IV-A)."""
    volumes = [head(noise=3.0), 2 * head(noise=5.0)]
    whole = np.ones(volumes[0].shape, bool)
    means = [reference_mean(v, "paper") for v in volumes]
    assert means == pytest.approx([v.mean(dtype=np.float64) for v in volumes])
    rule = fit_scale(
        "paper",
        means,
        [peak_value(v, whole, "paper") / m for v, m in zip(volumes, means, strict=True)],
    )
    normal = [rule.normalise(v, m) for v, m in zip(volumes, means, strict=True)]
    top = max((v / v.mean()).max() for v in volumes)
    for made, volume in zip(normal, volumes, strict=True):
        np.testing.assert_allclose(made, volume / volume.mean() / top, rtol=1e-4, atol=1e-6)
    assert max(n.max() for n in normal) == pytest.approx(1.0)


def test_the_mean_hardly_depends_on_the_margin_of_air() -> None:
    array = head()
    margins = ((30, 30), (10, 30), (0, 0))
    shape = tuple(n + sum(m) for n, m in zip(array.shape, margins, strict=True))
    padded = np.abs(np.random.default_rng(3).normal(0, 3, shape)).astype(np.float32)
    padded[30:-30, 10:-30] = array
    assert reference_mean(padded, "robust") == pytest.approx(
        reference_mean(array, "robust"), rel=0.02
    )


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e4])
def test_foreground_is_the_head_without_holes(factor) -> None:
    array = head() * np.float32(factor)
    mask = foreground_mask(array, "a.u.")
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in array.shape), indexing="ij")
    truth = sum((a / r) ** 2 for a, r in zip(axes, (0.7, 0.8, 0.8), strict=True)) < 1
    assert (mask & truth).sum() / truth.sum() > 0.97
    outside = ndimage.distance_transform_edt(~truth)  # voxels
    assert outside[mask].max() < 1.5
    assert mask[24, 28, 12]


def test_foreground_of_ct_leaves_out_the_table() -> None:
    array = np.full((60, 60, 20), -1000, np.float32)
    array[15:45, 15:45] = 40
    array[5:55, 3:5] = 100  # a table, apart
    mask = foreground_mask(array, "HU")
    assert mask[30, 30, 10]
    assert not mask[:, :6].any()


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(OptionError, match="robust or paper"):
        fit_scale("other", [1.0], [1.0])
    with pytest.raises(OptionError, match="no training subject"):
        fit_scale("robust", [], [])
    with pytest.raises(VolumeError, match="no foreground"):
        reference_mean(np.zeros((8, 8, 8), np.float32), "robust")
    with pytest.raises(VolumeError, match="positive mean"):
        reference_mean(-np.ones((8, 8, 8), np.float32), "paper")


def test_which_modalities_are_ct() -> None:
    assert is_ct("CT")
    assert is_ct("ct")
    assert not is_ct("T1")
