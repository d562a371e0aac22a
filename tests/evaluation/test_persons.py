"""Errors in HU by tissue, and scores inside the head."""

import numpy as np
import pytest

from syndiff.errors import OptionError
from syndiff.evaluation.metrics import METRICS, mae, psnr
from syndiff.evaluation.persons import beside, errors_hu
from syndiff.preparation.intensity import window_scale


def test_errors_belong_to_the_reference_tissue_and_to_the_head():
    """Each tissue is wrong by another number of HU; outside the head anything may stand."""
    reference = np.array([-800.0, -100.0, 40.0, 700.0, -1000.0], np.float32).reshape(1, 1, 5)
    synthetic = reference + np.array([1.0, 2.0, 3.0, 4.0, 5000.0], np.float32)
    head = np.array([True, True, True, True, False]).reshape(1, 1, 5)
    found = errors_hu(synthetic, reference, head)
    by_tissue = {"air": 1.0, "fat": 2.0, "soft": 3.0, "bone": 4.0, "head": 2.5}
    assert found == {f"mae_hu_{name}": value for name, value in by_tissue.items()}
    none = errors_hu(synthetic, reference, np.zeros_like(head))
    assert set(none.values()) == {None}


def test_a_ct_of_constant_soft_tissue_is_shown_by_its_soft_tissue():
    """The window is so wide that PSNR hides it; the error in HU is what was taken away."""
    scale = window_scale()
    rng = np.random.default_rng(0)
    truth = np.full((4, 48, 48), -1000.0, np.float32)
    truth[:, 8:40, 8:40] = rng.choice([0.0, 100.0], (4, 32, 32))
    flat = np.where(truth > -500, np.float32(50), truth)
    normal = [scale.normalise(x, 1.0) for x in (flat, truth)]
    head = truth > -500
    assert psnr(normal[0][0], normal[1][0], "subject", head[0]) > 35
    found = beside(scale)(*normal, head)
    assert found["mae_hu_soft"] == pytest.approx(50, abs=0.1)
    assert found["outline_dice"] > 0.99


@pytest.mark.parametrize("name", METRICS)
def test_what_lies_outside_the_head_does_not_count(name):
    rng = np.random.default_rng(0)
    reference = rng.uniform(0.2, 1, (48, 48))
    image = reference + rng.normal(0, 0.05, reference.shape)
    head = np.zeros((48, 48), bool)
    head[12:36, 12:36] = True
    other = image.copy()
    other[:4], other[-4:] = 0.7, 0.1  # farther from the head than SSIM's window looks
    score = METRICS[name].function
    assert score(other, reference, "subject", head) == score(image, reference, "subject", head)
    assert score(other, reference, "paper", None) != score(image, reference, "paper", None)


def test_all_of_a_slice_as_head_is_the_whole_slice():
    """The mean error then is that of `fixed`; the mask adds nothing of its own."""
    rng = np.random.default_rng(0)
    image, reference = rng.uniform(0.1, 1, (2, 32, 32))
    everywhere = np.ones((32, 32), bool)
    assert mae(image, reference, "subject", everywhere) == pytest.approx(
        mae(image, reference, "fixed"), rel=1e-12
    )
    with pytest.raises(OptionError, match="without a mask"):
        mae(image, reference, "subject")
