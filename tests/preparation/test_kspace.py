"""Accelerated MRI against numpy's FFT, Parseval and closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndiff.errors import OptionError
from syndiff.inference.acquired import Acquired
from syndiff.io.formats import read
from syndiff.preparation.kspace import Acceleration, image_of, kspace_of
from syndiff.preparation.recipe import prepare
from syndiff.preparation.settings import Settings

ROUNDING = 1e-9  # of float64 transforms of a few hundred samples
factors = st.sampled_from([1.0, 1.5, 2.0, 4.0, 8.0])
sides = st.integers(1, 33)


def some(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.abs(np.random.default_rng(seed).normal(size=shape))


@given(sides, sides)
def test_the_transform_is_numpys_and_unitary(h: int, w: int) -> None:
    slices = some((2, h, w))
    kspace = kspace_of(slices)
    plain = np.fft.fft2(slices) / np.sqrt(h * w)
    np.testing.assert_allclose(np.abs(np.fft.ifftshift(kspace, (-2, -1))), np.abs(plain))
    centre = kspace[:, h // 2, w // 2]
    np.testing.assert_allclose(centre, slices.sum((1, 2)) / np.sqrt(h * w), rtol=ROUNDING)
    assert np.sum(np.abs(kspace) ** 2) == pytest.approx(np.sum(slices**2), rel=ROUNDING)
    np.testing.assert_allclose(image_of(kspace), slices, atol=ROUNDING)


@given(sides, sides, factors, factors, st.sampled_from(["central", "variable"]))
def test_so_many_samples_are_kept_and_their_energy(
    h: int, w: int, fy: float, fx: float, pattern: str
) -> None:
    how = Acceleration((fy, fx), pattern, seed=3)  # type: ignore[arg-type]
    kept = how.kept((h, w))
    assert kept[h // 2, w // 2]
    assert kept.sum() == max(1, round(h / fy)) * max(1, round(w / fx))
    slices = some((2, h, w))
    energy = np.sum(np.abs(kspace_of(slices) * kept) ** 2)  # Parseval
    low = how.undersampled(slices).astype(np.float64)
    assert np.sum(low**2) == pytest.approx(energy, rel=1e-5)  # float32
    if fy == fx == 1:
        np.testing.assert_allclose(low, slices, rtol=1e-5)


def test_waves_below_the_cut_off_stay_and_those_above_vanish() -> None:
    n = 64  # 4-fold: 16 samples remain, the frequencies -8 … 7
    x = np.arange(n) / n
    how = Acceleration.parse("1x4")
    for cycles, left in ((3, 1.0), (7, 1.0), (9, 0.0), (20, 0.0)):
        wave = np.cos(2 * np.pi * cycles * x)
        found = how.undersampled(np.broadcast_to(2 + wave, (1, n, n)))
        np.testing.assert_allclose(found[0, 5], 2 + left * wave, atol=1e-5)


def test_variable_density_follows_its_seed_and_thins_out() -> None:
    shape = (128, 96)
    one, same, other = (Acceleration((4, 4), "variable", seed).kept(shape) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
    y, x = (np.abs(np.arange(n) - n // 2) / (n / 2) for n in shape)
    radius = np.maximum(y[:, None], x[None, :])
    rings = [one[(radius >= low) & (radius < low + 0.25)].mean() for low in (0, 0.25, 0.5, 0.75)]
    assert rings == sorted(rings, reverse=True)
    assert one[radius >= 0.5].any()  # beyond what "central" keeps
    lines = Acceleration((4, 1), "variable", 1).kept(shape)
    assert (lines == lines[:, :1]).all()  # whole lines


@pytest.mark.parametrize("text", ["4", "4x", "axb", "0x4", "4x65", "4x4x4", "nanx4"])
def test_factors_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="4x4"):
        Acceleration.parse(text)


def test_only_mr_is_accelerated() -> None:
    with pytest.raises(OptionError, match="`accelerate` of CT"):
        Settings(("T1", "CT"), accelerate={"CT": Acceleration((4, 4))})


def test_prepared_scans_are_what_translate_makes_of_full_ones(
    cohort: Path, tmp_path: Path
) -> None:
    how = Acceleration((4, 4))
    options = {"split": {"train": 5, "test": 1}, "size": 32, "spacing_mm": 7.0, "register": False}
    full, low = (
        prepare(cohort, tmp_path / name, modalities=("T1", "T2"), accelerate=chosen, **options)
        for name, chosen in (("full", {}), ("low", {"T1": how}))
    )
    assert "accelerate" not in full.content
    assert low.content["accelerate"] == {"T1": how.to_dict()}
    (scan,) = low.scans("test", "T1")
    acquired = Acquired.of(
        "T1", read(cohort / scan.record["file"]), low.scale("T1").to_dict(), 224.0, how
    )
    assert acquired.mean == pytest.approx(scan.foreground_mean, rel=1e-5)
    again = scan.grid.forward(acquired.normal(list(scan.slice_indices)), 0.0)
    np.testing.assert_allclose(scan.load(), np.clip(again, 0, 1), atol=1e-6)
    for a, b in zip(full.scans("test", "T2"), low.scans("test", "T2"), strict=True):
        np.testing.assert_array_equal(a.load(), b.load())  # T2 was fully sampled in both
