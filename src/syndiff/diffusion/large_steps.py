"""Adversarial diffusion with few, large steps: Eqs. 8–15 of SynDiff.

Steps are counted by an index t = 0 … steps - 1. Index t stands for the transition between x_{t-k}
(called `x_prev`) and x_t of the paper, so index 0 is the one next to the image and the paper's
t = k. `steps` is the paper's T/k.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

EPSILON = 1e-3  # the continuous time at which the schedule starts; avoids γ = 0


class Schedule(nn.Module):
    """Noise variances γ_t of the large steps and the coefficients that follow from them.

    With continuous time s from ε to 1 and B(s) = β_min s + (β_max - β_min) s² / 2, the share of
    the image's variance that is left is exp(-B(s)); a step between s' and s removes

        γ = 1 - exp(-(B(s) - B(s')))                                                     # Eq. 10

    which is Eq. 10 with both terms negative (as printed, the first has a plus; γ would then be
    negative for small t).

    A chain may be respaced: it then takes fewer and larger steps between some of the times that
    the network was trained on.

    Args:
        steps: T/k of the training.
        beta_min, beta_max: bounds of the noise (Eq. 10).
        kept: how many steps this chain takes; 0 takes all.

    Attributes:
        steps: number of steps of this chain.
        time: (steps,) each step's index, counted as in training, for the network.
        gamma: (steps,) γ_t, entry i for step i + 1.
        alpha_bar: (steps,) ᾱ_t = Π (1 - γ), entry i for step i + 1.
    """

    time: Tensor
    gamma: Tensor
    alpha_bar: Tensor

    def __init__(
        self, steps: int = 4, beta_min: float = 0.1, beta_max: float = 20.0, kept: int = 0
    ) -> None:
        super().__init__()
        self.trained = (steps, beta_min, beta_max)
        self.steps = kept or steps
        # Downwards, so that a single step is the last one, which starts from pure noise.
        time = torch.linspace(steps - 1, 0, self.steps, dtype=torch.float64).round().long().flip(0)
        self.register_buffer("time", time, persistent=False)
        s = torch.linspace(0, 1, steps + 1, dtype=torch.float64) * (1 - EPSILON) + EPSILON
        s = torch.cat([s[:1], s[time + 1]])  # where the steps of this chain begin and end
        integral = beta_min * s + (beta_max - beta_min) * s.square() / 2
        gamma = -torch.expm1(-integral.diff())  # Eq. 10
        alpha_bar = (1 - gamma).cumprod(0)
        alpha_bar_prev = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])  # ᾱ_{t-k}
        self._keep("gamma", gamma)
        self._keep("alpha_bar", alpha_bar)
        self._keep("alpha_bar_prev", alpha_bar_prev)
        # Eq. 14; the factor of x_t is printed with √ᾱ_t, Bayes' rule gives √α_t.
        self._keep("mean_x0", alpha_bar_prev.sqrt() * gamma / (1 - alpha_bar))
        self._keep("mean_xt", (1 - gamma).sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar))
        self._keep("variance", (1 - alpha_bar_prev) / (1 - alpha_bar) * gamma)

    def _keep(self, name: str, values: Tensor) -> None:
        self.register_buffer(name, values.float(), persistent=False)

    def _at(self, name: str, t: Tensor) -> Tensor:
        """One coefficient per sample, shaped to multiply images: b → b 1 1 1."""
        return getattr(self, name)[t][:, None, None, None]

    def respaced(self, steps: int) -> Schedule:
        """The same process in fewer steps, on the same device."""
        return Schedule(*self.trained, kept=steps).to(self.gamma.device)

    def diffuse(
        self, x_0: Tensor, t: Tensor, noise_prev: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Draw (x_{t-k}, x_t) from the forward process.

        Args:
            x_0: (b, 1, h, w) images.
            t: (b,) step index.
            noise_prev, noise: (b, 1, h, w) standard normal.

        Returns:
            x_{t-k} and x_t. For t = 0, x_{t-k} is x_0 itself.
        """
        alpha_bar_prev, gamma = self._at("alpha_bar_prev", t), self._at("gamma", t)
        x_prev = alpha_bar_prev.sqrt() * x_0 + (1 - alpha_bar_prev).sqrt() * noise_prev
        return x_prev, (1 - gamma).sqrt() * x_prev + gamma.sqrt() * noise  # Eq. 8

    def sample_posterior(self, x_0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Draw x_{t-k} from q(x_{t-k} | x_t, x_0), Eq. 14; at t = 0 this is x_0 itself."""
        mean = self._at("mean_x0", t) * x_0 + self._at("mean_xt", t) * x_t
        return mean + self._at("variance", t).sqrt() * noise


def reverse(
    schedule: Schedule,
    denoise: Callable[[Tensor, Tensor], Tensor],
    x_T: Tensor,
    normal: Callable[[], Tensor],
) -> Tensor:
    """Run the reverse process from noise to an image, Eqs. 15, 19 and 20.

    Args:
        schedule: the steps.
        denoise: (x_t, t) → estimate of x_0, t being (b,) step indices.
        x_T: (b, 1, h, w) standard normal.
        normal: returns a fresh standard normal tensor of the shape of `x_T`.

    Returns:
        (b, 1, h, w) the image at time 0.
    """
    x = x_T
    for index in reversed(range(schedule.steps)):
        t = torch.full((x.shape[0],), index, dtype=torch.long, device=x.device)
        x_0 = denoise(x, t)  # Eq. 19
        # The last step's posterior has no variance: its sample is the estimate itself.
        x = schedule.sample_posterior(x_0, x, t, normal()) if index else x_0  # Eqs. 15, 20
    return x
