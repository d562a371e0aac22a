"""Diffusion in many small steps against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from syndiff.diffusion.small_steps import (
    MAX_BETA,
    GaussianDiffusion,
    cosine_alpha_bar,
    gaussian_kl,
    kept_times,
    level_nll,
    reverse,
)

MEAN, SPREAD = 0.3, 0.1  # Gaussian data that stay within [-1, 1]: the bounds are nine sigma away


def images(*values: float) -> Tensor:
    """One-pixel images, b 1 1 1."""
    return torch.tensor(values)[:, None, None, None]


# --- schedule -------------------------------------------------------------------------------


def test_what_is_left_follows_the_cosine() -> None:
    alpha_bar = cosine_alpha_bar(1000)

    def f(t: int) -> float:  # Eq. 17
        return math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    for t in (1, 2, 250, 500, 999):
        assert float(alpha_bar[t - 1]) == pytest.approx(f(t) / f(0), rel=1e-9)
    assert float(alpha_bar[999] / alpha_bar[998]) == pytest.approx(1 - MAX_BETA, rel=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 20, 50, 999, 1000])
def test_fewer_steps_keep_what_is_left_at_theirs(steps: int) -> None:
    whole, few = GaussianDiffusion(1000), GaussianDiffusion(1000).respaced(steps)
    assert few.steps == steps == len(set(few.time.tolist()))
    assert few.time[-1] == 999  # every chain starts from pure noise
    assert steps == 1 or few.time[0] == 0
    torch.testing.assert_close(few.alpha_bar, whole.alpha_bar[few.time])
    torch.testing.assert_close((1 - few.beta).double().cumprod(0).float(), few.alpha_bar)
    gaps = few.time.diff()
    assert steps < 3 or gaps.max() - gaps.min() <= 1


def test_there_is_no_more_than_all_and_no_less_than_one() -> None:
    for steps in (0, 11):
        with pytest.raises(ValueError, match="of 10 steps"):
            kept_times(10, steps)


@pytest.mark.parametrize("steps", [4, 50, 1000])
def test_posterior_is_bayes_rule(steps: int) -> None:
    # q(x_{t-1} | x_t, x_0) by completing the square of q(x_t | x_{t-1}) q(x_{t-1} | x_0).
    q = GaussianDiffusion(1000, steps)
    left = cosine_alpha_bar(1000)[q.time].tolist()
    x_0, x_t = 0.4, -0.7
    for i in range(1, steps, max(1, steps // 7)):
        before, kept = left[i - 1], left[i] / left[i - 1]  # ᾱ_{t-1}, 1 - β_t
        precision = kept / (1 - kept) + 1 / (1 - before)
        mean = math.sqrt(kept) / (1 - kept) * x_t + math.sqrt(before) / (1 - before) * x_0
        found = q.posterior_mean(images(x_0), images(x_t), torch.tensor([i]))
        assert float(found) == pytest.approx(mean / precision, abs=1e-5)
        assert float(q.variance[i]) == pytest.approx(1 / precision, rel=1e-5)


def test_the_mean_is_that_of_the_paper() -> None:
    # Eq. 13, wherever the implied image is within bounds.
    q = GaussianDiffusion(1000)
    x_0, noise = torch.rand(8, 1, 1, 1) * 2 - 1, torch.randn(8, 1, 1, 1)
    t = torch.tensor([0, 1, 9, 99, 300, 500, 700, 900])
    x_t = q.diffuse(x_0, t, noise)
    beta, alpha_bar = (v[t][:, None, None, None] for v in (q.beta, q.alpha_bar))
    mean = (x_t - beta / (1 - alpha_bar).sqrt() * noise) / (1 - beta).sqrt()
    torch.testing.assert_close(q.mean(x_t, t, noise), mean, atol=1e-4, rtol=0)
    torch.testing.assert_close(q.estimate(x_t, t, noise), x_0, atol=1e-3, rtol=0)


def test_an_estimate_stays_within_the_range_of_images() -> None:
    q = GaussianDiffusion(1000)
    x = torch.randn(4, 1, 1, 1) * 5
    assert q.estimate(x, torch.full((4,), 999), torch.zeros_like(x)).abs().max() == 1


# --- variance and bound ---------------------------------------------------------------------


def test_the_learned_variance_lies_between_its_bounds() -> None:
    q, t = GaussianDiffusion(1000), torch.tensor([1, 100, 900])
    lower, upper = q.reverse_log_variance(0, t), q.reverse_log_variance(1, t)
    torch.testing.assert_close(lower.exp().flatten(), q.variance[t])
    torch.testing.assert_close(upper.exp().flatten(), q.beta[t])
    middle = q.reverse_log_variance(torch.full((3, 1, 1, 1), 0.5), t)
    torch.testing.assert_close(middle, (lower + upper) / 2)
    assert (lower < middle).all()
    assert (middle < upper).all()
    first = q.reverse_log_variance(0, torch.tensor([0]))  # β̃_1 is 0: the next stands in
    assert float(first.exp()) == pytest.approx(float(q.variance[1]))


def test_divergence_and_likelihood_of_gaussians() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b, log_a, log_b = torch.randn(4, 50, generator=draw)
    p, r = Normal(a, (log_a / 2).exp()), Normal(b, (log_b / 2).exp())
    torch.testing.assert_close(gaussian_kl(a, log_a, b, log_b), kl_divergence(p, r))


def test_the_likelihood_is_that_of_a_grey_level() -> None:
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64)
    for mean, log_variance in ((0.2, -9.0), (-0.97, -4.0), (0.5, -1.0), (1.0, -14.0)):
        nll = level_nll(levels, torch.tensor(mean).double(), torch.tensor(log_variance).double())
        # The levels share out the whole line, so their probabilities sum to 1.
        assert float((-nll).exp().sum()) == pytest.approx(1, rel=1e-9)
        assert nll.min() >= 0
    wide = Normal(torch.tensor(0.1).double(), torch.tensor(0.3).double())
    inside = levels[20:-20]
    density = -wide.log_prob(inside) - math.log(2 / 255)
    found = level_nll(inside, wide.loc, 2 * wide.scale.log())
    torch.testing.assert_close(found, density, atol=5e-4, rtol=0)  # 10 (level / σ)² / 24


@pytest.mark.parametrize("log_variance", [-60.0, -14.0, -9.0, 2.0])
@pytest.mark.parametrize("off", [0.0, 0.01, -1.9])
def test_the_likelihood_has_a_bound_and_a_finite_gradient(log_variance: float, off: float) -> None:
    x = torch.tensor([-1.0, 0.3, 1.0])
    mean = (x + off).requires_grad_()
    spread = torch.full((3,), log_variance, requires_grad=True)
    nll = level_nll(x, mean, spread)
    nll.sum().backward()
    assert nll.min() >= 0
    for value in (nll, mean.grad, spread.grad):
        assert value is not None
        assert value.isfinite().all()


def test_terms_of_the_bound() -> None:
    # At the first step the likelihood of the image, elsewhere the divergence from the posterior.
    q, t = GaussianDiffusion(1000), torch.tensor([0, 400])
    x_0, x_t = images(0.2, 0.2), images(0.21, -0.5)
    mean, log_variance = images(0.19, 0.3), images(-9.0, -4.0)
    found = q.bound_term(x_0, x_t, t, mean, log_variance)
    level = Normal(0.19, math.exp(-4.5)).cdf(torch.tensor([0.2 - 1 / 255, 0.2 + 1 / 255]))
    posterior = Normal(q.posterior_mean(x_0, x_t, t)[1, 0, 0, 0], q.variance[400].sqrt())
    torch.testing.assert_close(found[0], -(level[1] - level[0]).log2())
    divergence = kl_divergence(posterior, Normal(0.3, math.exp(-2.0)))
    torch.testing.assert_close(found[1], divergence / math.log(2))  # bits


def test_the_bound_vanishes_for_the_posterior_itself() -> None:
    q, t = GaussianDiffusion(1000), torch.tensor([3, 400])
    x_0, noise = images(0.2, -0.6), images(0.5, -1.5)
    x_t = q.diffuse(x_0, t, noise)
    term = q.bound_term(x_0, x_t, t, q.mean(x_t, t, noise), q.reverse_log_variance(0, t))
    torch.testing.assert_close(term, torch.zeros(2), atol=1e-4, rtol=0)


def test_only_the_last_step_draws_nothing() -> None:
    q, t = GaussianDiffusion(1000), torch.tensor([0, 1])
    x, log_variance = images(0.1, 0.2), images(-4.0, -6.0)
    zero = torch.zeros_like(x)
    moved = q.step(x, t, zero, log_variance, zero + 1) - q.step(x, t, zero, log_variance, zero)
    torch.testing.assert_close(moved.flatten(), torch.tensor([0.0, math.exp(-3.0)]))


# --- sampling -------------------------------------------------------------------------------


def oracle(q: GaussianDiffusion, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The best ε estimate and the true reverse variance for data from N(MEAN, SPREAD²).

    E[x_0 | x_t] gives the estimate; p(x_{t-1} | x_t) is the posterior spread by Var[x_0 | x_t].
    """
    a = q.alpha_bar.double()[t][:, None, None, None]
    variance_0 = 1 / (1 / SPREAD**2 + a / (1 - a))
    x_0 = variance_0 * (MEAN / SPREAD**2 + a.sqrt() / (1 - a) * x_t.double())
    epsilon = (x_t - a.sqrt() * x_0) / (1 - a).sqrt()
    weight = q.mean_x0.double()[t][:, None, None, None]
    variance = q.variance.double()[t][:, None, None, None] + weight**2 * variance_0
    return epsilon.float(), variance.log().float()


def sample(q: GaussianDiffusion, learned: bool, n: int = 40_000) -> Tensor:
    """One-pixel images made by the oracle, with its variance or with the lower bound."""
    draw = torch.Generator().manual_seed(1)

    def normal() -> Tensor:
        return torch.randn(n, 1, 1, 1, generator=draw)

    def predict(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        epsilon, log_variance = oracle(q, x_t, t)
        return epsilon, log_variance if learned else q.reverse_log_variance(0, t)

    return reverse(q, predict, normal(), normal)


@pytest.mark.parametrize("steps", [1000, 50, 20, 3])
def test_an_oracle_reproduces_the_data_in_any_number_of_steps(steps: int) -> None:
    """With Gaussian data every reverse step is exactly Gaussian, however large.

    Only the last step adds no noise, so that Var[x_0 | x_1] is missing. What remains is the
    Monte Carlo error: four standard errors of a mean and of a standard deviation.
    """
    q, n = GaussianDiffusion(1000, steps), 40_000
    made = sample(q, learned=True, n=n).double()
    a = float(cosine_alpha_bar(1000)[0])
    spread = math.sqrt(SPREAD**2 - 1 / (1 / SPREAD**2 + a / (1 - a)))
    assert float(made.mean()) == pytest.approx(MEAN, abs=4 * SPREAD / math.sqrt(n))
    assert float(made.std()) == pytest.approx(spread, abs=4 * SPREAD / math.sqrt(2 * n))


def test_few_steps_need_the_learned_variance() -> None:
    # With the lower bound, as with a fixed variance, 20 steps lose spread and 1000 hardly any.
    few, many = (float(sample(GaussianDiffusion(1000, n), False).std()) for n in (20, 1000))
    assert few < 0.9 * SPREAD
    assert many == pytest.approx(SPREAD, rel=0.03)
