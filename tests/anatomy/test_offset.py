"""The offset between a slice and its reference, on shifts that are known exactly."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from syndiff.anatomy import offset
from syndiff.anatomy.offset import Offset, median_offset, median_vector, offset_between
from syndiff.errors import DataError


def head(contrast: tuple[float, ...], size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """Nested ellipses with blobs, as a head has scalp, skull, cortex, ventricles: (h, w)."""
    y, x = np.mgrid[-1 : 1 : size[0] * 4 * 1j, -1 : 1 : size[1] * 4 * 1j]
    shapes = [
        np.hypot(y / 0.72, x / 0.6) < 1,
        np.hypot(y / 0.67, x / 0.55) < 1,
        np.hypot(y / 0.6, x / 0.48) < 1 + 0.06 * np.cos(14 * np.arctan2(y, x)),
        np.hypot((y - 0.05) / 0.25, (abs(x) - 0.13) / 0.08) < 1,
        np.hypot((y + 0.3) / 0.1, (x - 0.2) / 0.14) < 1,
    ]
    image = np.zeros_like(y)
    for inside, value in zip(shapes, contrast, strict=True):
        image[inside] = value
    return gaussian_filter(image, 3.0)[::4, ::4]


T1_LIKE, T2_LIKE = (0.9, 0.1, 0.6, 0.15, 0.5), (0.35, 0.05, 0.45, 1.0, 0.6)


def shifted(image: np.ndarray, dy: float, dx: float) -> np.ndarray:
    """The image's content moved by (dy, dx) pixels, exactly, by its Fourier series."""
    fy, fx = (np.fft.fftfreq(n) for n in image.shape)
    phase = np.exp(-2j * np.pi * (fy[:, None] * dy + fx * dx))
    return np.fft.ifft2(np.fft.fft2(image) * phase).real


shifts = st.floats(-5, 5, allow_nan=False)


@settings(max_examples=40, deadline=None)
@given(dy=shifts, dx=shifts)
def test_planted_shifts_are_found_to_a_tenth_of_a_pixel(dy, dx):
    image = head(T1_LIKE)
    found = offset_between(shifted(image, dy, dx), image)
    assert found.dy == pytest.approx(dy, abs=0.1)
    assert found.dx == pytest.approx(dx, abs=0.1)
    assert found.confidence > 0.5


@settings(max_examples=20, deadline=None)
@given(dy=shifts, dx=shifts)
def test_planted_shifts_are_found_across_contrasts(dy, dx):
    found = offset_between(shifted(head(T2_LIKE), dy, dx), head(T1_LIKE))
    assert math.hypot(found.dy - dy, found.dx - dx) < 0.2


@pytest.mark.parametrize("size", [(64, 64), (65, 80), (128, 96)])
def test_odd_and_oblong_slices(size):
    image = head(T1_LIKE, size)
    found = offset_between(shifted(image, 2.3, -1.6), image)
    assert (found.dy, found.dx) == pytest.approx((2.3, -1.6), abs=0.1)
    assert found.magnitude == pytest.approx(math.hypot(2.3, 1.6), abs=0.1)


def test_noise_and_blur_leave_the_offset_alone():
    rng = np.random.default_rng(0)
    image = head(T1_LIKE)
    worse = gaussian_filter(shifted(image, 1.5, 0.5), 1.0)
    worse += 0.02 * rng.standard_normal(image.shape)
    found = offset_between(worse, image)
    assert (found.dy, found.dx) == pytest.approx((1.5, 0.5), abs=0.2)


def test_no_shift_is_no_offset_whatever_the_scale():
    image = head(T1_LIKE)
    assert offset_between(image * 1e-3, image).magnitude < 1e-4
    assert offset_between(image, image).confidence == pytest.approx(1)


def test_confidence_falls_for_unrelated_images():
    rng = np.random.default_rng(1)
    image = head(T1_LIKE)
    assert offset_between(rng.random((64, 64)), image).confidence < 0.3


def test_blank_slices_have_no_offset():
    image = head(T1_LIKE)
    for blank in (np.zeros((64, 64)), np.full((64, 64), 0.3), np.full((64, 64), np.nan)):
        for found in (offset_between(blank, image), offset_between(image, blank)):
            assert not found.known
            assert math.isnan(found.magnitude)
            assert found.confidence == 0


def test_the_median_over_slices_is_of_vectors_and_skips_blank_slices():
    image = head(T1_LIKE)
    references = np.stack([image, image, image, np.zeros_like(image)])
    images = np.stack([shifted(image, 1, 0), shifted(image, 1.2, 0.1), shifted(image, 1.1, 0)])
    images = np.concatenate([images, image[None]])
    assert median_offset(images, references) == pytest.approx(1.1, abs=0.1)
    assert math.isnan(median_offset(references[3:], references[3:]))
    around = [Offset(math.cos(a), math.sin(a), 1.0) for a in np.linspace(0, 2 * math.pi, 9)[:-1]]
    assert math.hypot(*median_vector(around)) < 1e-9  # noise of length 1 is no offset


def test_shapes_must_agree():
    with pytest.raises(DataError, match="one shape"):
        offset_between(np.ones((8, 8)), np.ones((8, 9)))
    with pytest.raises(DataError):
        offset_between(np.ones((2, 8, 8)), np.ones((2, 8, 8)))


def test_the_search_stays_within_its_limit():
    image = head(T1_LIKE)
    assert abs(offset_between(shifted(image, 9, 0), image, max_shift_px=3).dy) <= 3
    assert offset.UNKNOWN.confidence == 0
