"""Each profile against its procedure written out in numpy, and what each must not depend on."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from syndiff.errors import OptionError
from syndiff.evaluation.metrics import METRICS, mae, ms_ssim, nmse, psnr, ssim
from syndiff.evaluation.profiles import MS_SSIM_WEIGHTS, PROFILES, check_unit

SHAPE = (12, 16, 14)


@pytest.fixture(scope="module")
def pair():
    """A body (12, 16, 14) in [0, 1] in air, a disturbed copy, and the body's mask."""
    rng = np.random.default_rng(0)
    z, y, x = np.mgrid[-1:1:12j, -1:1:16j, -1:1:14j]
    inside = x**2 + y**2 + z**2 < 0.7
    reference = np.where(inside, 0.4 + 0.3 * np.sin(4 * x + 3 * y), 0.02)
    image = np.clip(reference + 0.05 * rng.standard_normal(SHAPE), 0, 1)
    return image, reference, inside


def windowed_ssim(x, y, centre, weights, peak, unbiased=1.0):
    """SSIM of the window around one position, from its definition with explicit weights."""
    half = weights.shape[0] // 2
    box = tuple(slice(c - half, c + half + 1) for c in centre)
    a, b = x[box], y[box]
    ma, mb = (weights * a).sum(), (weights * b).sum()
    va = unbiased * (weights * (a - ma) ** 2).sum()
    vb = unbiased * (weights * (b - mb) ** 2).sum()
    ab = unbiased * (weights * (a - ma) * (b - mb)).sum()
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    return ((2 * ma * mb + c1) * (2 * ab + c2)) / ((ma**2 + mb**2 + c1) * (va + vb + c2))


def gaussian(axes):
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights = math.prod(np.meshgrid(*[line] * axes, indexing="ij"))
    return weights / weights.sum()


def test_subject_is_the_mask_alone_in_three_dimensions(pair):
    image, reference, inside = pair
    error = (image - reference)[inside]
    assert psnr(image, reference, "subject", inside) == pytest.approx(
        10 * np.log10(1 / np.mean(error**2)), abs=1e-9
    )
    assert mae(image, reference, "subject", inside) == pytest.approx(np.abs(error).mean())
    power = (reference[inside] ** 2).sum()
    assert nmse(image, reference, "subject", inside) == pytest.approx((error**2).sum() / power)
    x, y = (np.pad(np.where(inside, v, 0), 5) for v in (image, reference))
    expected = [windowed_ssim(x, y, np.add(at, 5), gaussian(3), 1.0) for at in np.argwhere(inside)]
    assert ssim(image, reference, "subject", inside) == pytest.approx(np.mean(expected), abs=1e-9)


def test_paper_divides_by_the_mean_and_then_by_the_references_maximum(pair):
    image, reference = pair[0][6], pair[1][6]
    x, y = image / image.mean(), reference / reference.mean()
    x, y = x / y.max(), y / y.max()
    expected = 10 * np.log10(1 / np.mean((x - y) ** 2))
    assert psnr(image, reference, "paper") == pytest.approx(expected, abs=1e-9)
    centres = [(i, j) for i in range(5, 11) for j in range(5, 9)]
    values = [windowed_ssim(x, y, at, gaussian(2), 1.0) for at in centres]
    assert ssim(image, reference, "paper") == pytest.approx(np.mean(values), abs=1e-9)


def test_github_takes_its_peak_from_the_synthetic_image_and_crops():
    """As test.py prints it: ÷ own maximum, the middle 256 × 152, peak of the cropped fake."""
    rng = np.random.default_rng(1)
    fake, real = rng.uniform(0, 0.8, (2, 256, 256))
    fake[0, 0] = 0.9  # the maximum lies outside the crop
    x, y = fake / fake.max(), real / real.max()
    x, y = x[:, 52:204], y[:, 52:204]
    expected = 20 * np.log10(x.max() / np.sqrt(np.mean((x - y) ** 2)))
    assert psnr(fake, real, "github") == pytest.approx(expected, abs=1e-9)


def test_selfrdb_clips_divides_by_the_mean_and_has_the_maximum_as_range(pair):
    image, reference = 1.2 * pair[0][6], pair[1][6]
    x, y = (v.clip(0, 1) / v.clip(0, 1).mean() for v in (image, reference))
    expected = 10 * np.log10(y.max() ** 2 / np.mean((x - y) ** 2))
    assert psnr(image, reference, "selfrdb") == pytest.approx(expected, abs=1e-9)
    flat = np.full((7, 7), 1 / 49)
    centres = [(i, j) for i in range(3, 13) for j in range(3, 11)]
    values = [windowed_ssim(x, y, at, flat, y.max(), 49 / 48) for at in centres]
    assert ssim(image, reference, "selfrdb") == pytest.approx(np.mean(values), abs=1e-9)


def test_synthrad_clips_for_psnr_and_ssim_and_not_for_the_mean_error(pair):
    inside = pair[2]
    image, reference = (4500 * v - 1200 for v in pair[:2])  # beyond both ends of the window
    image[6, 8, 7] = 3600
    x, y = image.clip(-1024, 3000), reference.clip(-1024, 3000)
    mse = np.mean((x - y)[inside] ** 2)
    expected = np.abs(image - reference)[inside].mean()
    for name in ("synthrad2023", "synthrad2025"):
        assert psnr(image, reference, name, inside) == pytest.approx(10 * np.log10(4024**2 / mse))
        assert 4024 * mae(image, reference, name, inside) == pytest.approx(expected)
    x, y = (np.where(inside, v, -1024) + 1024 for v in (x, y))
    flat = np.full((7, 7, 7), 1 / 343)
    inner = np.zeros(SHAPE, bool)
    inner[3:-3, 3:-3, 3:-3] = True
    values = [windowed_ssim(x, y, at, flat, 4024, 343 / 342) for at in np.argwhere(inside & inner)]
    found = ssim(image, reference, "synthrad2023", inside)
    assert found == pytest.approx(np.mean(values), abs=1e-9)


def test_ms_ssim_has_luminance_at_the_coarsest_scale_alone():
    """Written out for a uniform window of 7, sides of 112: no padding, four exact halvings."""
    rng = np.random.default_rng(2)
    y = np.kron(rng.uniform(0.2, 0.8, (14, 14)), np.ones((8, 8)))
    x = np.clip(0.9 * y + 0.05 * rng.standard_normal(y.shape), 0, 1)
    profile = replace(PROFILES["synthrad2025"], unit="normal", low=0.0, high=1.0)
    expected, a, b = 1.0, x, y
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        views = [np.lib.stride_tricks.sliding_window_view(v, (7, 7)) for v in (a, b)]
        ma, mb = (v.mean(axis=(2, 3)) for v in views)
        va, vb = (v.var(axis=(2, 3), ddof=1) for v in views)
        ab = (views[0] * views[1]).mean(axis=(2, 3)) - ma * mb
        cs = (2 * ab * 49 / 48 + 9e-4) / (va + vb + 9e-4)
        full = cs * (2 * ma * mb + 1e-4) / (ma**2 + mb**2 + 1e-4)
        expected *= (full if scale == 4 else cs).mean() ** weight
        if scale < 4:
            a, b = (v.reshape(len(v) // 2, 2, -1, 2).mean(axis=(1, 3)) for v in (a, b))
    found = ms_ssim(x, y, profile, np.ones(x.shape, bool))
    assert found == pytest.approx(expected, abs=1e-9)


def test_a_small_image_is_continued_to_97_for_synthrad_and_has_no_value_elsewhere(pair):
    image, reference, inside = pair
    hu = [4024 * v - 1024 for v in (image, reference)]
    assert 0 < ms_ssim(*hu, "synthrad2025", inside) < 1
    assert ms_ssim(hu[1], hu[1], "synthrad2025", inside) == pytest.approx(1)
    assert math.isnan(ms_ssim(*hu, "synthrad2023", inside))
    assert math.isnan(ms_ssim(image[6], reference[6], "paper"))


def test_brasyn_normalises_each_image_by_its_own_percentiles(pair):
    torch = pytest.importorskip("torch")
    from torchmetrics.functional.image import structural_similarity_index_measure

    image, reference = 300 * pair[0] + 7, 90 * pair[1]
    x, y = (
        np.clip((v - low) / (high - low), 0, 1)
        for v in (image, reference)
        for low, high in [np.percentile(v, [0.5, 99.5])]
    )
    theirs = structural_similarity_index_measure(
        torch.from_numpy(x)[None, None], torch.from_numpy(y)[None, None], data_range=1.0
    )
    assert ssim(image, reference, "brasyn") == pytest.approx(float(theirs), abs=1e-9)
    assert psnr(image, reference, "brasyn") == pytest.approx(-10 * np.log10(np.mean((x - y) ** 2)))


# ---- what scores must and must not depend on ----------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
def test_padding_and_outside_change_nothing_of_the_subjects_score(pair, name):
    image, reference, inside = pair
    score = METRICS[name].function
    before = score(image, reference, PROFILES["subject"], inside)
    padded = [np.pad(v, ((1, 2), (5, 0), (3, 8))) for v in pair]
    assert score(padded[0], padded[1], PROFILES["subject"], padded[2]) == pytest.approx(before)
    other = np.where(inside, image, 0.9)
    assert score(other, reference, PROFILES["subject"], inside) == before


def test_padding_raises_the_papers_psnr(pair):
    """The reason for the mask: the same noise, in more air."""
    image, reference = pair[0][6], pair[1][6]
    wide = [np.pad(v, 20) for v in (image, reference)]
    assert psnr(*wide, "fixed") > psnr(image, reference, "fixed") + 5


def test_a_gain_counts_with_a_fixed_range_and_not_after_normalisation(pair):
    _, reference, inside = pair
    assert psnr(0.8 * reference, reference, "subject", inside) < 25
    for name in ("paper", "github", "selfrdb", "brasyn"):
        assert psnr(0.8 * reference[6], reference[6], name) > 99


def test_a_shift_is_punished_by_every_profile(pair):
    _, reference, inside = pair
    for name, profile in PROFILES.items():
        unit = profile.low + profile.width * reference
        moved = np.roll(unit, 2, axis=2)
        assert psnr(moved, unit, name, inside) < 26, name
        if profile.columns < 1:  # too narrow for the window here
            continue
        assert ssim(moved[:, 2:-2], unit[:, 2:-2], name, inside[:, 2:-2]) < 0.9, name


def test_one_hot_pixel_moves_maxima_and_not_means(pair):
    """Below 15 dB by maximum and over 44 by mean: normalisation belongs to the result."""
    rng = np.random.default_rng(3)
    reference = rng.uniform(0.4, 0.5, (256, 256))
    hot = reference.copy()
    hot[100, 100] = 1.0
    assert psnr(hot, reference, "github") < 15 < 44 < psnr(hot, reference, "paper")
    assert psnr(hot, reference, "fixed") > 50


def test_results_can_hold_every_parameter_and_profiles_of_ct_refuse_mr():
    for profile in PROFILES.values():
        stored = json.loads(json.dumps(profile.parameters(), allow_nan=False))
        assert {"name", "about", "mask", "low", "high", "ms_ssim_weights"} <= set(stored)
    check_unit(PROFILES["synthrad2023"], "HU")
    with pytest.raises(OptionError, match="a CT in HU"):
        check_unit(PROFILES["synthrad2023"], "a.u.")
