"""PSNR, SSIM and MAE against closed forms and against other implementations."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syndiff.errors import DataError, OptionError
from syndiff.evaluation import metrics
from syndiff.evaluation.profiles import PROFILES, profile_for


@pytest.fixture(scope="module")
def pair():
    """A smooth image in [0, 1] with background, and a disturbed copy of it: (48, 40)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:48j, -1:1:40j]
    reference = np.clip(1.1 - 1.3 * np.hypot(y, 1.2 * x), 0, 1) * (0.7 + 0.3 * np.sin(9 * x))
    image = np.clip(reference + 0.05 * rng.standard_normal(reference.shape), 0, 1)
    return image, reference


def in_unit(image, profile):
    """The image in the profile's unit: as it is, or over the range of HU."""
    return PROFILES[profile].low + PROFILES[profile].width * image


def test_psnr_of_a_constant_error_is_its_logarithm():
    reference = np.zeros((16, 16))
    reference[4:12, 4:12] = 1.0
    assert metrics.psnr(reference + 0.1, reference, "fixed") == pytest.approx(20.0)
    assert metrics.mae(reference + 0.1, reference, "fixed") == pytest.approx(0.1)


def test_psnr_after_the_papers_normalisation_in_closed_form():
    # Reference: half 2a, half 0, so mean a and normalised values 2, 0 -> 1, 0.
    # Image: constant, so 1 everywhere after its mean and 1/2 after the reference's maximum.
    reference = np.zeros((16, 16))
    reference[:, :8] = 0.6
    image = np.full((16, 16), 0.123)
    assert metrics.psnr(image, reference) == pytest.approx(10 * np.log10(4))
    assert metrics.mae(image, reference) == pytest.approx(0.5)


def test_normalised_reference_has_maximum_one_and_both_one_mean(pair):
    image, reference = metrics.paper_normalise(*pair)
    assert reference.max() == pytest.approx(1)
    assert image.mean() == pytest.approx(reference.mean())


@settings(max_examples=25, deadline=None)
@given(gain=st.floats(0.05, 20), reference_gain=st.floats(0.05, 20))
def test_a_gain_does_not_matter_to_the_paper_profile(pair, gain, reference_gain):
    image, reference = pair
    for score in (metrics.psnr, metrics.ssim, metrics.mae):
        assert score(gain * image, reference_gain * reference) == pytest.approx(
            score(image, reference), rel=1e-6
        )


def test_the_official_score_crops_and_takes_its_peak_from_the_image():
    reference = np.zeros((16, 256))
    reference[:, 52:204] = 0.5  # the middle 152 columns, which become 1
    image = np.where(reference > 0, 0.4, 0.0)
    image[:, :52] = 0.8  # outside: sets the maximum, so that the middle becomes 1/2
    assert metrics.psnr(image, reference, "github") == pytest.approx(0.0)  # peak 1/2, error 1/2
    assert metrics.mae(image, reference, "github") == pytest.approx(0.5)
    assert metrics.psnr(0 * image, reference, "github") < -50


def test_a_gain_matters_to_the_fixed_profile(pair):
    image, reference = pair
    assert metrics.psnr(0.8 * image, reference, "fixed") < metrics.psnr(image, reference, "fixed")


@pytest.mark.parametrize("profile", PROFILES)
def test_equal_images_reach_the_ceiling(pair, profile):
    reference, inside = in_unit(pair[1], profile), pair[1] > 0
    assert metrics.psnr(reference, reference, profile, inside) == metrics.PSNR_CEILING_DB
    assert metrics.ssim(reference, reference, profile, inside) == pytest.approx(1)
    assert metrics.mae(reference, reference, profile, inside) == 0
    assert metrics.nmse(reference, reference, profile, inside) == 0


@pytest.mark.parametrize("profile", PROFILES)
def test_blank_references_have_no_score_and_blank_images_a_bad_one(pair, profile):
    reference, inside = in_unit(pair[1], profile), pair[1] > 0
    blank = in_unit(np.zeros_like(reference), profile)
    assert np.isnan(metrics.psnr(reference, blank, profile, inside))
    assert np.isnan(metrics.ssim(reference, blank, profile, inside))
    assert metrics.psnr(blank, reference, profile, inside) < 15


@pytest.mark.parametrize("profile", [p.name for p in PROFILES.values() if p.mask == "inside"])
def test_a_profile_of_the_mask_asks_for_the_mask(pair, profile):
    with pytest.raises(OptionError, match="without a mask"):
        metrics.psnr(*pair, profile)


def test_ssim_equals_that_of_torchmetrics_inside_the_border(pair):
    torch = pytest.importorskip("torch")
    from torchmetrics.functional.image import structural_similarity_index_measure

    image, reference = metrics.paper_normalise(*pair)
    x, y = (torch.from_numpy(a)[None, None] for a in (image, reference))
    _, theirs = structural_similarity_index_measure(x, y, data_range=1.0, return_full_image=True)
    inner = theirs[0, 0, 5:-5, 5:-5]  # they mirror the image at its border, we leave that out
    assert metrics.ssim(*pair) == pytest.approx(float(inner.mean()), abs=1e-9)


def test_uniform_window_ssim_equals_its_definition(pair):
    """The scikit-image default, written out with plain loops over windows."""
    x, y = metrics.paper_normalise(*pair)
    values = []
    for i in range(x.shape[0] - 6):
        for j in range(x.shape[1] - 6):
            a, b = x[i : i + 7, j : j + 7].ravel(), y[i : i + 7, j : j + 7].ravel()
            (va, ab), (_, vb) = np.cov(a, b)
            values.append(
                (2 * a.mean() * b.mean() + 1e-4)
                * (2 * ab + 9e-4)
                / ((a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (va + vb + 9e-4))
            )
    assert metrics.ssim(*pair, profile="selfrdb") == pytest.approx(np.mean(values), abs=1e-9)


def test_psnr_equals_that_of_the_reference_maximum_as_range(pair):
    """Peak 1 after the paper's normalisation is the peak of the mean-normalised reference."""
    image, reference = (a / a.mean() for a in pair)
    expected = 10 * np.log10(reference.max() ** 2 / np.mean((image - reference) ** 2))
    assert metrics.psnr(*pair) == pytest.approx(expected)


def test_profiles_can_be_stored_and_ct_is_never_normalised():
    for profile in PROFILES.values():
        assert json.loads(json.dumps(profile.parameters(), allow_nan=False))["name"]
    assert profile_for("HU").normalise == "none"
    assert profile_for("a.u.").name == "paper"


@pytest.mark.parametrize(
    ("image", "reference", "profile", "error"),
    [
        (np.ones((16, 16)), np.ones((16, 15)), "paper", DataError),
        (np.ones((1, 1, 16, 16)), np.ones((1, 1, 16, 16)), "paper", DataError),
        (np.full((16, 16), np.nan), np.ones((16, 16)), "paper", DataError),
        (np.ones((16, 16)), np.ones((16, 16)), "best", OptionError),
        (np.ones((8, 16)), np.ones((8, 16)), "paper", DataError),
    ],
)
def test_bad_input_is_refused(image, reference, profile, error):
    with pytest.raises(error):
        metrics.ssim(image, reference, profile)
