"""Diffusion in many small steps whose reverse is Gaussian: DDPM and UNIT-DDPM.

Nichol and Dhariwal, Improved Denoising Diffusion Probabilistic Models, ICML 2021; the equation
numbers are theirs. A network estimates the noise ε in x_t and, optionally, where the reverse
variance lies between its two bounds.

Steps are counted by an index t = 0 … steps - 1, index t standing for the transition between
x_{t-1} and x_t of the paper's t + 1. A chain may be respaced: it then keeps some of the T steps
that the network was trained on, and `time` lists their indices, counted as in training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

OFFSET = 0.008  # s of Eq. 17: keeps the first steps from being too small
HALF_LEVEL = 1 / 255  # of 256 grey levels in [-1, 1]
END = 0.999  # beyond it a value is the first or the last level
TINY = 1e-30  # keeps the logarithm of a level that is narrow against sigma finite
MAX_BETA = 0.999  # the cosine reaches 0 at T, but a step must leave something of the image


def cosine_alpha_bar(T: int) -> Tensor:
    """ᾱ_t for t = 1 … T, float64: the share of the image's variance that is left.

    ᾱ_t = f(t) / f(0) with f(t) = cos²((t/T + s) / (1 + s) · π/2)                       # Eq. 17

    except for the last step, whose β_t is limited to `MAX_BETA`.
    """
    s = (torch.arange(T + 1, dtype=torch.float64) / T + OFFSET) / (1 + OFFSET)
    f = (s * math.pi / 2).cos().square()
    beta = (1 - f[1:] / f[:-1]).clamp(max=MAX_BETA)
    return (1 - beta).cumprod(0)


def kept_times(T: int, steps: int) -> Tensor:
    """The indices of `steps` of T steps, evenly spaced from the first to the last (Sec. 4).

    Raises:
        ValueError: `steps` is not between 1 and T.
    """
    if not 1 <= steps <= T:
        raise ValueError(f"{steps} of {T} steps")
    # Downwards, so that a single step is the last one, which starts from pure noise.
    return torch.linspace(T - 1, 0, steps, dtype=torch.float64).round().long().flip(0)


class GaussianDiffusion(nn.Module):
    """The forward process, its posterior, and the reverse process of a noise estimate.

    Args:
        T: steps of the process that the network is trained on.
        steps: how many of them this chain keeps; 0 keeps all.

    Attributes:
        time: (steps,) each step's index, counted as in training, for the network.
        alpha_bar: (steps,) ᾱ_t.
        beta: (steps,) β_t, the upper bound of the reverse variance.
        variance: (steps,) β̃_t, the lower bound and the variance of q(x_{t-1} | x_t, x_0); 0 at
            the first step.
    """

    time: Tensor
    alpha_bar: Tensor
    beta: Tensor
    variance: Tensor

    def __init__(self, T: int = 1000, steps: int = 0) -> None:
        super().__init__()
        self.T, self.steps = T, steps or T
        time = kept_times(T, self.steps)
        alpha_bar = cosine_alpha_bar(T)[time]
        alpha_bar_prev = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])  # ᾱ_{t-1}
        beta = 1 - alpha_bar / alpha_bar_prev  # Eq. 19
        variance = (1 - alpha_bar_prev) / (1 - alpha_bar) * beta  # Eqs. 10, 19
        # β̃_1 = 0 has no logarithm: the first step takes the next step's value.
        floor = torch.cat([variance[1:2] if self.steps > 1 else beta, variance[1:]])
        self.register_buffer("time", time, persistent=False)
        self._keep("alpha_bar", alpha_bar)
        self._keep("beta", beta)
        self._keep("variance", variance)
        self._keep("log_beta", beta.log())
        self._keep("log_variance", floor.log())
        self._keep("mean_x0", alpha_bar_prev.sqrt() * beta / (1 - alpha_bar))  # Eq. 11
        self._keep("mean_xt", (1 - beta).sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar))

    def _keep(self, name: str, values: Tensor) -> None:
        self.register_buffer(name, values.float(), persistent=False)

    def _at(self, name: str, t: Tensor) -> Tensor:
        """One coefficient per sample, shaped to multiply images: b → b 1 1 1."""
        return getattr(self, name)[t][:, None, None, None]

    def respaced(self, steps: int) -> GaussianDiffusion:
        """The same process in fewer steps, on the same device."""
        return GaussianDiffusion(self.T, steps).to(self.alpha_bar.device)

    def diffuse(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Draw x_t from q(x_t | x_0).

        Args:
            x_0: (b, c, h, w) images.
            t: (b,) step index.
            noise: (b, c, h, w) standard normal, ε.
        """
        alpha_bar = self._at("alpha_bar", t)
        return alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * noise  # Eq. 9

    def estimate(self, x_t: Tensor, t: Tensor, epsilon: Tensor) -> Tensor:
        """The x_0 that x_t and a noise estimate imply (Eq. 9 solved), within [-1, 1].

        The bound matters at the noisiest steps, where ᾱ_t is so small that it would amplify
        any error of the estimate. No image lies outside the bound.
        """
        alpha_bar = self._at("alpha_bar", t)
        x_0 = (x_t - (1 - alpha_bar).sqrt() * epsilon) / alpha_bar.sqrt()
        return x_0.clamp(-1, 1)

    def posterior_mean(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The mean of q(x_{t-1} | x_t, x_0), μ̃_t."""
        return self._at("mean_x0", t) * x_0 + self._at("mean_xt", t) * x_t  # Eq. 11

    def mean(self, x_t: Tensor, t: Tensor, epsilon: Tensor) -> Tensor:
        """The mean of the reverse step for a noise estimate, μ_θ.

        Eq. 13 in the form of Eq. 11. Both are equal wherever `estimate` is not clamped.
        """
        return self.posterior_mean(self.estimate(x_t, t, epsilon), x_t, t)

    def reverse_log_variance(self, v: Tensor | float, t: Tensor) -> Tensor:
        """log Σ_θ: for v = 0 the lower bound β̃_t, for v = 1 the upper β_t; v is not clamped."""
        return v * self._at("log_beta", t) + (1 - v) * self._at("log_variance", t)  # Eq. 15

    def bound_term(
        self, x_0: Tensor, x_t: Tensor, t: Tensor, mean: Tensor, log_variance: Tensor
    ) -> Tensor:
        """One term of the variational bound, in bits, mean over the pixels of each sample.

        L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p_θ(x_{t-1} | x_t)) for t > 1               # Eq. 6
        L_0 = -log p_θ(x_0 | x_1)                                                        # Eq. 5

        L_0 is the probability of one of 256 grey levels around the image's value, as in the paper:
        never below 0. The density itself has no bound where a variance shrinks over flat air.

        Args:
            x_0, x_t: (b, c, h, w) images and their noisy versions.
            t: (b,) step index.
            mean, log_variance: (b, c, h, w) of the reverse step.

        Returns:
            (b,).
        """
        kl = gaussian_kl(
            self.posterior_mean(x_0, x_t, t), self._at("log_variance", t), mean, log_variance
        )
        nll = level_nll(x_0, mean, log_variance)
        nats = torch.where(t[:, None, None, None] == 0, nll, kl).mean(dim=(1, 2, 3))
        return nats / math.log(2)

    def step(
        self, x_t: Tensor, t: Tensor, epsilon: Tensor, log_variance: Tensor, noise: Tensor
    ) -> Tensor:
        """Draw x_{t-1} from p_θ(x_{t-1} | x_t), Eq. 3; at t = 0 this is the mean, the image."""
        spread = (t > 0)[:, None, None, None] * (log_variance / 2).exp()
        return self.mean(x_t, t, epsilon) + spread * noise

    def down(self, size: int) -> Iterator[tuple[int, Tensor]]:
        """The steps from the noisiest to the first: the index, as int and as a (size,) tensor."""
        for index in reversed(range(self.steps)):
            yield index, torch.full((size,), index, dtype=torch.long, device=self.time.device)


def reverse(
    diffusion: GaussianDiffusion,
    predict: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    x_T: Tensor,
    normal: Callable[[], Tensor],
) -> Tensor:
    """Run the reverse process from noise to an image (ancestral sampling).

    Args:
        diffusion: the steps.
        predict: (x_t, t) → estimates of ε and log Σ, t being (b,) step indices.
        x_T: (b, c, h, w) standard normal.
        normal: returns a fresh standard normal tensor of the shape of `x_T`.

    Returns:
        (b, c, h, w) in [-1, 1].
    """
    x = x_T
    for _, t in diffusion.down(x.shape[0]):
        epsilon, log_variance = predict(x, t)
        x = diffusion.step(x, t, epsilon, log_variance, normal())
    return x


def gaussian_kl(
    mean_1: Tensor, log_variance_1: Tensor, mean_2: Tensor, log_variance_2: Tensor
) -> Tensor:
    """KL(N(mean_1, e^log_variance_1) || N(mean_2, e^log_variance_2)), elementwise, in nats."""
    ratio = (log_variance_1 - log_variance_2).exp()
    shift = (mean_1 - mean_2).square() * (-log_variance_2).exp()
    return (ratio + shift - 1 + log_variance_2 - log_variance_1) / 2


def level_nll(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """-log of the probability that N(mean, e^log_variance) gives to x's grey level, in nats.

    A level is 2/255 wide and centred at x; at the ends of [-1, 1] it is open, as in Ho et al.,
    Denoising Diffusion Probabilistic Models, NeurIPS 2020, Eq. 13. Elementwise, 0 or more.
    """
    per_sigma = (-log_variance / 2).exp()
    low = ((x - HALF_LEVEL - mean) * per_sigma).masked_fill(x < -END, -math.inf)
    high = ((x + HALF_LEVEL - mean) * per_sigma).masked_fill(x > END, math.inf)
    # Both on the left half, where the logarithm of a tail keeps its precision.
    flipped = low + high > 0
    low, high = torch.where(flipped, -high, low), torch.where(flipped, -low, high)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    return -(log_high + torch.log(-torch.expm1((log_low - log_high).clamp(max=-TINY))))
