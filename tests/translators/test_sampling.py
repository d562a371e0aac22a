"""Ways of sampling: a chain, the expectation of several, a regression."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from syndiff.diffusion.large_steps import Schedule
from syndiff.errors import OptionError
from syndiff.inference import TranslationOptions, translate_slices
from syndiff.translators import SliceNoise
from syndiff.translators.sampling import Sampling
from tests.helpers.methods import METHODS, translator_of
from tests.helpers.tolerance import of_translation
from tests.helpers.translators import build as build_syndiff

SLICES = np.random.default_rng(0).random((5, 32, 32), dtype=np.float32)


def run(sampling: Sampling, **options: Any) -> np.ndarray:
    how = TranslationOptions(device="cpu", sampling=sampling, **options)
    return translate_slices(build_syndiff(), SLICES, how)


def test_an_expectation_is_the_mean_of_its_chains() -> None:
    chains = [run(Sampling(), seed=seed) for seed in (4, 5, 6)]
    expected = np.mean(chains, axis=0)
    got = run(Sampling("expectation", samples=3), seed=4)
    np.testing.assert_allclose(got, expected, rtol=0, atol=of_translation(build_syndiff(), SLICES))


def test_an_expectation_does_not_depend_on_the_batch() -> None:
    way = Sampling("expectation", samples=4)
    tolerance = of_translation(build_syndiff(), SLICES, sampling=way)
    one, many = (run(way, batch_size=n) for n in (1, 20))
    np.testing.assert_allclose(one, many, rtol=0, atol=tolerance)


def test_a_regression_is_the_estimate_at_the_noisiest_step() -> None:
    translator = build_syndiff()
    source = torch.from_numpy(SLICES[:2])[:, None] * 2 - 1
    noise = SliceNoise(0, [0, 1], shared=True)
    x_T, z = noise.normal(1, 32, 32), noise.normal(translator.network.latent_dim)
    last = torch.full((2,), translator.schedule.steps - 1)
    with torch.no_grad():
        expected = translator.network(x_T, source, last, z)[:, 0]
    got = torch.from_numpy(run(Sampling("regression"))[:2]) * 2 - 1
    tolerance = 2 * of_translation(translator, SLICES[:2], sampling=Sampling("regression"))
    torch.testing.assert_close(got, expected.clamp(-1, 1), atol=tolerance, rtol=0)


def test_of_one_step_chain_and_regression_are_the_same() -> None:
    translator = build_syndiff()
    translator.schedule = Schedule(steps=1)
    images = [
        translate_slices(
            translator, SLICES, TranslationOptions(device="cpu", sampling=Sampling(way))
        )
        for way in ("chain", "regression")
    ]
    np.testing.assert_allclose(*images, rtol=0, atol=of_translation(translator, SLICES))


def test_unknown_ways_are_refused() -> None:
    with pytest.raises(OptionError, match="expected one of chain"):
        Sampling("median")
    with pytest.raises(OptionError, match="`samples`"):
        Sampling("expectation", samples=0)


@pytest.mark.parametrize("name", METHODS)
def test_sampling_steps_shorten_long_chains_only(name: str) -> None:
    translator = translator_of(name)
    few = TranslationOptions(device="cpu", sampling=Sampling(steps=2))
    if name in ("ddpm", "unit_ddpm"):
        assert translator.chain_steps(2) == 2 < translator.sampling_steps
        translate_slices(translator, SLICES, few)
    else:
        with pytest.raises(OptionError, match="sampling steps"):
            translate_slices(translator, SLICES, few)
