"""The diffusion process against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from syndiff.diffusion.large_steps import EPSILON, Schedule, reverse


def test_gamma_follows_the_continuous_schedule() -> None:
    # What is left of the image at time s is exp(-∫β), β linear from 0.1 to 20 (Eq. 10).
    def left(s: float) -> float:
        return math.exp(-(0.1 * s + 19.9 * s * s / 2))

    s = [EPSILON + (1 - EPSILON) * i / 4 for i in range(5)]
    schedule = Schedule(4)
    expected = [1 - left(s[i + 1]) / left(s[i]) for i in range(4)]
    torch.testing.assert_close(schedule.gamma, torch.tensor(expected))
    torch.testing.assert_close(
        schedule.gamma, torch.tensor([0.478, 0.849, 0.956, 0.987]), atol=1e-3, rtol=0
    )
    assert schedule.alpha_bar[-1] == pytest.approx(4.3e-5, rel=0.02)


def test_a_thousand_steps_follow_equation_10() -> None:
    # With k = 1, at t = 1 … T; the schedule starts at ε instead of 0.
    T, schedule = 1000, Schedule(1000)
    t = torch.arange(1, T + 1, dtype=torch.float64) * (1 - EPSILON) + T * EPSILON
    k = 1 - EPSILON
    exponent = 0.1 * k / T + 19.9 * (2 * t * k - k * k) / (2 * T * T)
    torch.testing.assert_close(schedule.gamma, (1 - (-exponent).exp()).float())
    assert schedule.alpha_bar[-1] == pytest.approx(Schedule(4).alpha_bar[-1].item(), rel=1e-5)


def test_a_chain_cut_short_meets_the_same_noise_at_the_times_it_keeps() -> None:
    whole, few = Schedule(1000), Schedule(1000).respaced(20)
    assert few.steps == len(few.gamma) == 20
    assert (few.time[0], few.time[-1]) == (0, 999)
    torch.testing.assert_close(few.alpha_bar, whole.alpha_bar[few.time])
    assert float((1 - few.gamma).prod()) == pytest.approx(float(whole.alpha_bar[-1]), rel=1e-4)
    assert few.respaced(1000).gamma.equal(whole.gamma)
    assert Schedule(1000).respaced(1).time.tolist() == [999]


@pytest.mark.parametrize(
    "schedule",
    [Schedule(1), Schedule(2), Schedule(4), Schedule(8), Schedule(1000).respaced(6)],
    ids=["1", "2", "4", "8", "6 of 1000"],
)
def test_posterior_is_bayes_rule(schedule: Schedule) -> None:
    # q(x_prev | x_t, x_0) of two Gaussians, by completing the square.
    for i in range(schedule.steps):
        gamma = float(schedule.gamma[i])
        prior_variance = 1 - float(schedule.alpha_bar_prev[i])
        precision = (1 - gamma) / gamma + (1 / prior_variance if prior_variance else math.inf)
        assert float(schedule.variance[i]) == pytest.approx(1 / precision, abs=1e-6)
        if prior_variance:
            x0_factor = math.sqrt(schedule.alpha_bar_prev[i]) / prior_variance / precision
            xt_factor = math.sqrt(1 - gamma) / gamma / precision
            assert float(schedule.mean_x0[i]) == pytest.approx(x0_factor, abs=1e-5)
            assert float(schedule.mean_xt[i]) == pytest.approx(xt_factor, abs=1e-5)


def test_forward_pairs_have_the_stated_variances() -> None:
    schedule, n = Schedule(4), 20_000
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.full((n, 1, 1, 1), 0.7)
    for i in range(4):
        noise = torch.randn(2, n, 1, 1, 1, generator=generator)
        x_prev, x_t = schedule.diffuse(x_0, torch.full((n,), i), noise[0], noise[1])
        alpha_bar = float(schedule.alpha_bar[i])
        assert float(x_t.mean()) == pytest.approx(0.7 * math.sqrt(alpha_bar), abs=0.03)
        assert float(x_t.var()) == pytest.approx(1 - alpha_bar, abs=0.03)
        assert float(x_prev.var()) == pytest.approx(
            1 - float(schedule.alpha_bar_prev[i]), abs=0.03
        )


def test_first_step_is_the_image_itself() -> None:
    schedule, x_0 = Schedule(4), torch.rand(3, 1, 2, 2)
    noise = torch.randn(3, 1, 2, 2)
    t = torch.zeros(3, dtype=torch.long)
    x_prev, x_t = schedule.diffuse(x_0, t, noise, noise)
    torch.testing.assert_close(x_prev, x_0)
    torch.testing.assert_close(schedule.sample_posterior(x_0, x_t, t, noise), x_0)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_an_oracle_reproduces_the_data(steps: int) -> None:
    """With x_0 ~ N(m, s²) the oracle p(x_0 | x_t) is Gaussian; the chain must end at N(m, s²)."""
    m, s, n = 0.3, 0.5, 40_000
    schedule = Schedule(steps)
    generator = torch.Generator().manual_seed(1)

    def normal() -> torch.Tensor:
        return torch.randn(n, 1, 1, 1, generator=generator)

    def oracle(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a = schedule.alpha_bar[t][:, None, None, None]
        variance = 1 / (1 / s**2 + a / (1 - a))
        mean = variance * (m / s**2 + a.sqrt() / (1 - a) * x_t)
        return mean + variance.sqrt() * normal()

    sample = reverse(schedule, oracle, normal(), normal)
    assert float(sample.mean()) == pytest.approx(m, abs=0.015)
    assert float(sample.std()) == pytest.approx(s, abs=0.015)
