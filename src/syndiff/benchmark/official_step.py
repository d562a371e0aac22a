"""A plain rendition of the official training step and sampling, for comparison on one machine.

It follows the official implementation of SynDiff on this package's networks and contains none of
its code. It keeps on purpose what the official code does beyond need:

- the generators run again in each of three updates, with new draws for the generators' update, and
  gradients flow through them in both discriminators' updates and are then discarded;
- autograd's anomaly detection is on;
- everything is float32 and NCHW; resampling is a depth-wise convolution;
- eight optimizers, none fused, and a moving average that is updated parameter by parameter.

Sampling computes the posterior at the last step too, under `no_grad`. The networks are this
package's: they lack the official second output channel and have no conditioning layer per block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from syndiff.diffusion.large_steps import Schedule
from syndiff.networks import blocks, ncsnpp, step_discriminator
from syndiff.objectives.base import DIRECTIONS, Batch, Draw
from syndiff.objectives.syndiff import SynDiff
from syndiff.training.presets import TrainSettings


@dataclass(frozen=True)
class Diffused:
    """One modality's draws of an update: t, x_{t-k}, x_t, the latent, the posterior's noise."""

    t: Tensor
    x_prev: Tensor
    x_t: Tensor
    z: Tensor
    noise: Tensor


class OfficialStep:
    """The official training step.

    Args:
        objective: the networks, on their device.
        settings: settings of a preset; structure terms are ignored.
        anomaly: whether autograd's anomaly detection is on, as in the official code.
    """

    def __init__(self, objective: SynDiff, settings: TrainSettings, anomaly: bool = True) -> None:
        self.objective, self.settings, self.anomaly = objective, settings, anomaly
        self.G, self.D = objective.generators, objective.discriminators
        self.optimizers = {
            network: torch.optim.Adam(network.parameters(), lr, betas=settings.adam_betas)
            for group, lr in (
                (self.G, settings.generator_lr),
                (self.D, settings.discriminator_lr),
            )
            for network in group.values()
        }
        self.ema = {p: p.detach().clone() for p in self.G.parameters()}

    def step(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """Make all updates of a step and return the weighted loss terms, by "group/term"."""
        draw = Draw(self.settings.seed, number, batch.source.device)
        with plain_layers(), torch.autograd.set_detect_anomaly(self.anomaly):
            terms = self.diffusive_discriminators(batch, draw)
            terms |= self.one_shot_discriminators(batch)
            terms |= self.all_generators(batch, draw)
        return terms

    def diffusive_discriminators(self, batch: Batch, draw: Draw) -> dict[str, Tensor]:
        """First update: Eq. 12, in two backward passes and a third for the penalty."""
        s, terms, real_logits = self.objective.settings, {}, {}
        diffused = {m: self._diffuse(batch[m], draw) for m, _ in DIRECTIONS}
        group = [self.D[f"diffusive_{m}"] for m, _ in DIRECTIONS]
        self._clear(group)
        for m, d in diffused.items():
            d.x_prev.requires_grad_(True)
            real_logits[m] = self.D[f"diffusive_{m}"](d.x_prev, d.x_t, d.t)
        real = {m: F.softplus(-logits).mean() for m, logits in real_logits.items()}
        (s.adversarial_diffusive * total(real)).backward(retain_graph=True)

        if draw.step % s.gradient_penalty_interval == 0:
            for m, d in diffused.items():
                (gradient,) = torch.autograd.grad(
                    real_logits[m].sum(), d.x_prev, create_graph=True
                )
                squared = gradient.square().sum(dim=(1, 2, 3)).mean()
                weight = s.adversarial_diffusive * s.gradient_penalty
                terms[f"discriminators/penalty_{m}"] = weight * squared
            total(terms).backward()

        guess = {m: self.G[f"one_shot_to_{o}"](batch[m]) for m, o in DIRECTIONS}
        fake = {}
        for m, d in diffused.items():
            _, denoised_prev = self._denoise(m, d, guess[m])
            fake[m] = F.softplus(self.D[f"diffusive_{m}"](denoised_prev, d.x_t, d.t)).mean()
        (s.adversarial_diffusive * total(fake)).backward()
        self._advance(group)
        return terms | {
            f"discriminators/diffusive_{m}": s.adversarial_diffusive * (real[m] + fake[m])
            for m, _ in DIRECTIONS
        }

    def one_shot_discriminators(self, batch: Batch) -> dict[str, Tensor]:
        """Second update: Eq. 18."""
        weight = self.objective.settings.adversarial_one_shot
        group = [self.D[f"one_shot_{m}"] for m, _ in DIRECTIONS]
        self._clear(group)
        real = {m: F.softplus(-self.D[f"one_shot_{m}"](batch[m])).mean() for m, _ in DIRECTIONS}
        (weight * total(real)).backward()
        fake = {}
        for m, o in DIRECTIONS:
            guess = self.G[f"one_shot_to_{m}"](batch[o])
            fake[m] = F.softplus(self.D[f"one_shot_{m}"](guess)).mean()
        (weight * total(fake)).backward()
        self._advance(group)
        return {f"discriminators/one_shot_{m}": weight * (real[m] + fake[m]) for m in real}

    def all_generators(self, batch: Batch, draw: Draw) -> dict[str, Tensor]:
        """Third update, with draws of its own: Eqs. 11, 17 and 22."""
        s = self.objective.settings
        terms: dict[str, Tensor] = {}
        group = list(self.G.values())
        self.D.requires_grad_(False)
        self._clear(group)
        diffused = {m: self._diffuse(batch[m], draw) for m, _ in DIRECTIONS}
        for m, o in DIRECTIONS:
            d, x_0 = diffused[m], batch[m]
            guess = self.G[f"one_shot_to_{o}"](x_0)  # Eq. 16
            round_trip = self.G[f"one_shot_to_{m}"](guess)  # Eq. 21
            denoised, denoised_prev = self._denoise(m, d, guess)
            adversarial = F.softplus(-self.D[f"diffusive_{m}"](denoised_prev, d.x_t, d.t)).mean()
            adversarial_guess = F.softplus(-self.D[f"one_shot_{o}"](guess)).mean()
            terms |= {
                f"diffusive_{m}": s.adversarial_diffusive * adversarial,
                f"one_shot_{o}": s.adversarial_one_shot * adversarial_guess,
                f"cycle_one_shot_{m}": s.cycle_one_shot * F.l1_loss(round_trip, x_0),
                f"cycle_diffusive_{m}": s.cycle_diffusive * F.l1_loss(denoised, x_0),
            }
        total(terms).backward()
        self._advance(group)
        self._average()
        self.D.requires_grad_(True)
        return {f"generators/{name}": term for name, term in terms.items()}

    def _diffuse(self, x_0: Tensor, draw: Draw) -> Diffused:
        """Draw in this package's order, so that equal seeds give equal losses."""
        b = len(x_0)
        t = draw.integers(self.objective.settings.steps, b)
        noises = draw.normal(*x_0.shape), draw.normal(*x_0.shape)
        x_prev, x_t = self.objective.schedule.diffuse(x_0, t, *noises)  # Eqs. 8, 9
        z = draw.normal(b, self.objective.settings.generator.latent_dim)
        return Diffused(t, x_prev, x_t, z, draw.normal(*x_0.shape))

    def _denoise(self, m: str, d: Diffused, guess: Tensor) -> tuple[Tensor, Tensor]:
        """The estimate of x_0 and x_{t-k} drawn through it, Eqs. 19 and 20."""
        denoised = self.G[f"diffusive_{m}"](d.x_t, guess, d.t, d.z)
        return denoised, self.objective.schedule.sample_posterior(denoised, d.x_t, d.t, d.noise)

    def _clear(self, group: list[nn.Module]) -> None:
        for network in group:
            self.optimizers[network].zero_grad()

    def _advance(self, group: list[nn.Module]) -> None:
        for network in group:
            self.optimizers[network].step()

    @torch.no_grad()
    def _average(self) -> None:
        decay = self.settings.ema_decay
        for parameter, average in self.ema.items():
            average.mul_(decay).add_(parameter, alpha=1 - decay)


@torch.no_grad()
def official_sampling(network: ncsnpp.NCSNpp, schedule: Schedule, source: Tensor) -> Tensor:
    """The reverse process from noise to an image, Eqs. 15, 19 and 20; b 1 h w in [-1, 1]."""
    with plain_layers():
        x = torch.randn_like(source)
        for index in reversed(range(schedule.steps)):
            t = torch.full((len(x),), index, dtype=torch.long, device=x.device)
            z = torch.randn(len(x), network.latent_dim, device=x.device)
            x_0 = network(x, source, t, z)
            x = schedule.sample_posterior(x_0, x, t, torch.randn_like(x))
    return x


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of the terms of a group of networks."""
    return torch.stack(list(terms.values())).sum()


def _kernel(x: Tensor) -> Tensor:
    """The binomial filter [1, 3, 3, 1] in two dimensions, for each channel of x; c 1 4 4."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=x.device) / 8
    return torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)


def _filter(x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
    """b c h w, FIR-filtered by one depth-wise convolution."""
    return F.conv2d(x, _kernel(x), stride=stride, padding=padding, groups=x.shape[1])


def _down(x: Tensor) -> Tensor:
    return _filter(x, stride=2)


def _up(x: Tensor) -> Tensor:
    return F.conv_transpose2d(x, 4 * _kernel(x), stride=2, padding=1, groups=x.shape[1])


def _norm_silu(x: Tensor, modulation: Tensor) -> Tensor:
    scale, shift = modulation[:, :, None, None].chunk(2, dim=1)
    return F.silu(scale * F.group_norm(x, blocks.groups_of(x.shape[1]), eps=1e-6) + shift)


@contextmanager
def plain_layers() -> Iterator[None]:
    """Replace the networks' layers by these plain ones inside the context.

    Otherwise a faster layer of this package would speed up the baseline too.
    """
    plain = {
        "fir_filter": _filter,
        "fir_down": _down,
        "fir_up": _up,
        "norm_silu": _norm_silu,
        "to_channels_last": lambda x: x,
        "leaky_relu": partial(F.leaky_relu, negative_slope=0.2),
    }
    places = [
        (module, name)
        for module in (blocks, ncsnpp, step_discriminator)
        for name in plain
        if hasattr(module, name)
    ]
    usual = [getattr(module, name) for module, name in places]
    for module, name in places:
        setattr(module, name, plain[name])
    try:
        yield
    finally:
        for (module, name), function in zip(places, usual, strict=True):
            setattr(module, name, function)
