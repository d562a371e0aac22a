"""DDPM and UNIT-DDPM: whom their losses move, how their translators step, tiny trainings."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from syndiff.diffusion.small_steps import GaussianDiffusion
from syndiff.errors import OptionError
from syndiff.inference import TranslationOptions, translate_slices
from syndiff.objectives.base import Batch, Draw, Objective
from syndiff.objectives.ddpm import DDPM
from syndiff.objectives.unit_ddpm import UnitDDPM
from syndiff.translators import ParallelDiffusionTranslator, SliceNoise, load_translator
from syndiff.translators.sampling import Sampling
from tests.helpers.methods import CARD, METHODS, translator_of

# --- losses ---------------------------------------------------------------------------------


def objective_of(name: str) -> Objective:
    method, settings = METHODS[name]
    torch.manual_seed(0)
    return method(settings)


def pictures(size: int = 2) -> Batch:
    draw = torch.Generator().manual_seed(2)
    return Batch(*(torch.rand(2, size, 1, 16, 16, generator=draw) * 2 - 1))


def gradient_in(objective: Objective, term: str, network: str) -> bool:
    """Whether a term moves a network."""
    draw = Draw(seed=0, step=0)
    objective.zero_grad(set_to_none=True)
    fakes = objective.generate(pictures(), draw)
    objective.generator_losses(pictures(), fakes, draw)[term].backward()
    grads = [p.grad for p in objective.generators[network].parameters()]
    return any(g is not None and bool(g.any()) for g in grads)


def test_the_bound_moves_the_variance_and_not_the_noise_estimate() -> None:
    objective = objective_of("ddpm")
    draw = Draw(seed=0, step=0)
    fakes = objective.generate(pictures(), draw)
    terms = objective.generator_losses(pictures(), fakes, draw)
    (terms["variational_target"] + terms["variational_source"]).backward()
    for m in ("source", "target"):
        noise, variance = objective.generators[f"diffusive_{m}"].out_conv.weight.grad
        assert not noise.any()
        assert variance.any()


def test_the_hybrid_loss_by_hand() -> None:
    objective = objective_of("ddpm")
    assert isinstance(objective, DDPM)
    draw, batch = Draw(seed=0, step=0), pictures()
    fakes = objective.generate(batch, draw)
    terms = objective.generator_losses(batch, fakes, draw)
    q, t = objective.diffusion, fakes["t"]["target"]
    x_t, epsilon, v = (fakes[k]["target"] for k in ("x_t", "epsilon", "v"))
    torch.testing.assert_close(x_t, q.diffuse(batch.target, t, fakes["noise"]["target"]))
    simple = (epsilon - fakes["noise"]["target"]).square().mean()
    torch.testing.assert_close(terms["simple_target"], simple)
    term = q.bound_term(
        batch.target, x_t, t, q.mean(x_t, t, epsilon), q.reverse_log_variance(v, t)
    )
    torch.testing.assert_close(terms["variational_target"], 0.001 * q.T * term.mean())
    objective.settings = replace(objective.settings, variational=0.0, cycle=0.0, adversarial=0.0)
    silent = objective.generator_losses(batch, fakes, draw)
    zero = [k for k, value in silent.items() if not value.any()]
    assert {k.rsplit("_", 1)[0] for k in zero} == {"variational", "cycle", "one_shot"}


def test_the_denoiser_is_conditioned_on_the_one_shot_guess() -> None:
    # Joint training as in SynDiff: the diffusion's loss reaches the one-shot generator.
    assert gradient_in(objective_of("ddpm"), "simple_target", "one_shot_to_source")


def test_each_loss_of_unit_ddpm_moves_its_own_networks() -> None:
    objective = objective_of("unit_ddpm")
    assert not len(objective.discriminators)
    for term, moved in {
        "denoise_target": {"denoise_target"},
        "translate_to_source": {"translate_to_source"},
        "cycle_target": {"translate_to_source", "translate_to_target"},
    }.items():
        found = {k for k in objective.generators if gradient_in(objective, term, k)}
        assert found == moved, term


# --- translating ----------------------------------------------------------------------------


class Counting(nn.Module):
    """A denoiser that remembers what it was asked and estimates no noise."""

    size_multiple = 2

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.times: list[int] = []
        self.conditions: list[Tensor] = []

    def forward(self, x_t: Tensor, source: Tensor, time: Tensor) -> Tensor:
        self.times.append(int(time[0]))
        self.conditions.append(source)
        return x_t.new_zeros(len(x_t), self.out_channels, *x_t.shape[2:])


def noise_for(batch: int) -> SliceNoise:
    return SliceNoise(0, range(batch), shared=False)


@pytest.mark.parametrize("name", ["ddpm", "unit_ddpm"])
def test_a_chain_takes_fewer_steps_when_asked(name: str, tmp_path: Path) -> None:
    translator = load_translator(translator_of(name).save(tmp_path / "model"))
    assert translator.sampling_steps == METHODS[name][1].steps
    slices = np.random.default_rng(0).random((2, 16, 16), np.float32)
    cpu = TranslationOptions(device="cpu")
    whole = translate_slices(translator, slices, cpu)
    few = replace(cpu, sampling=Sampling(steps=2))
    assert np.abs(translate_slices(translator, slices, few) - whole).max() > 1e-3
    own = replace(cpu, sampling=Sampling(steps=METHODS[name][1].steps))
    np.testing.assert_array_equal(translate_slices(translator, slices, own), whole)
    with pytest.raises(OptionError, match=r"7 sampling steps .* expected 1 to"):
        translator.chain_steps(7)


@pytest.mark.parametrize("name", ["ddpm", "unit_ddpm"])
def test_a_thousand_steps_unless_told_otherwise(name: str) -> None:
    translator, settings = translator_of(name), type(METHODS[name][1])()
    translator.diffusion = GaussianDiffusion(**settings.diffusion)
    assert translator.sampling_steps == 1000
    translator.networks["target"] = counting = Counting(2 if name == "ddpm" else 1)
    translator(torch.zeros(2, 1, 4, 4), noise_for(2), steps=20)
    assert len(counting.times) == 20
    assert counting.times[0] == 999
    assert counting.times[-1] == 0
    assert counting.times == sorted(counting.times, reverse=True)


def parallel(
    release_time: int, steps: int
) -> tuple[ParallelDiffusionTranslator, Counting, Counting]:
    target, source = Counting(1), Counting(1)
    networks = {"target": target} | ({"source": source} if release_time > 1 else {})
    q = GaussianDiffusion(100, steps)
    config = CARD | {"release_time": release_time}
    return ParallelDiffusionTranslator(networks, q, config), target, source


@pytest.mark.parametrize("steps", [100, 10])
def test_released_at_one_the_source_is_noised_anew_at_every_step(steps: int) -> None:
    translator, target, _ = parallel(release_time=1, steps=steps)
    source = torch.linspace(-1, 1, 32 * 32).reshape(1, 1, 32, 32)
    translator(source, noise_for(1))
    q = translator.diffusion
    residues = []
    for index, condition in zip(reversed(range(steps)), target.conditions, strict=True):
        a = float(q.alpha_bar[index])
        residues.append((condition - math.sqrt(a) * source).flatten() / math.sqrt(1 - a))
    noise = torch.stack(residues)
    # Standard normal, and no step's like another's: four standard errors of 1024 pixels.
    assert noise.std(dim=1).sub(1).abs().max() < 4 / math.sqrt(2 * 1024)
    likeness = torch.corrcoef(noise) - torch.eye(steps)
    assert likeness.abs().max() < 5 / math.sqrt(1024)


@pytest.mark.parametrize(("steps", "taken"), [(100, 30), (10, 3)])
def test_below_the_release_time_the_source_is_denoised_along(steps: int, taken: int) -> None:
    translator, target, source = parallel(release_time=31, steps=steps)
    translator(torch.zeros(1, 1, 8, 8), noise_for(1))
    assert len(target.times) == steps
    assert len(source.times) == taken  # once for each of the target's steps below
    below = [t for t in target.times if t + 1 < 31]
    assert len(below) == taken
    assert source.times == target.times[-taken - 1 : -1]


def test_a_released_source_needs_its_own_denoiser(tmp_path: Path) -> None:
    settings = METHODS["unit_ddpm"][1]
    kept = {}
    for release_time in (1, 4):
        objective = UnitDDPM(replace(settings, release_time=release_time))
        made = objective.translator(objective.generators, "target", CARD)
        kept[release_time] = load_translator(made.save(tmp_path / str(release_time)))
        image = translate_slices(kept[release_time], np.zeros((1, 16, 16), np.float32))
        assert np.isfinite(image).all()
    assert set(kept[1].networks) == {"target"}
    assert set(kept[4].networks) == {"target", "source"}


@pytest.mark.parametrize("name", ["ddpm", "unit_ddpm"])
def test_noise_is_drawn_as_it_is_needed(name: str) -> None:
    # Nothing is held for later steps: the network is asked between any two draws of a step.
    translator, events = translator_of(name), []
    network = Counting(2 if name == "ddpm" else 1)
    network.register_forward_hook(lambda *_: events.append("network"))
    translator.networks["target"] = network

    class Listening(SliceNoise):
        def normal(self, *shape: int) -> Tensor:
            events.append("draw")
            return super().normal(*shape)

    translator(torch.zeros(3, 1, 4, 4), Listening(0, range(3), shared=False))
    most = max(len(run) for run in "".join(e[0] for e in events).split("n"))
    assert most <= 3
    assert events.count("network") == METHODS[name][1].steps


# --- tiny trainings -------------------------------------------------------------------------


def blobs(step: int, size: int = 32) -> Batch:
    """Discs on air; bright with a dark rim in one modality, the reverse in the other."""
    draw = torch.Generator().manual_seed(step)
    grid = torch.linspace(-1, 1, size)
    y, x = grid[:, None], grid[None, :]

    def slices(inside: float, rim: float) -> Tensor:
        made = []
        for cx, cy, r in (torch.rand(2, 3, generator=draw) * 0.4).tolist():
            distance = ((x - cx + 0.2) ** 2 + (y - cy + 0.2) ** 2).sqrt() - r - 0.3
            image = torch.where(distance < 0, inside, -1.0)
            made.append(torch.where(distance.abs() < 0.12, rim, image))
        return torch.stack(made)[:, None]

    return Batch(slices(0.7, -0.2), slices(-0.2, 0.7))


def train(objective: Objective, steps: int, rate: float) -> list[dict[str, float]]:
    """The terms of every step; the generators alone, as the discriminators' are theirs."""
    optimizer = torch.optim.Adam(objective.generators.parameters(), rate, betas=(0.5, 0.9))
    history = []
    for step in range(steps):
        batch, draw = blobs(step), Draw(seed=0, step=step)
        terms = objective.generator_losses(batch, objective.generate(batch, draw), draw)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        history.append({k: float(v.detach()) for k, v in terms.items()})
    return history


@pytest.mark.slow  # test_contract.py has a shorter training
@pytest.mark.parametrize("name", ["ddpm", "unit_ddpm"])
def test_tiny_training_lowers_its_own_losses(name: str) -> None:
    method, settings = METHODS[name]
    torch.manual_seed(0)
    one_shot = replace(settings.one_shot, channels=8, upsampling="resize")
    objective = method(replace(settings, steps=1000, one_shot=one_shot))
    history = train(objective, steps=30, rate=4e-3)

    def mean(term: str, part: slice) -> float:
        return float(np.mean([terms[term] for terms in history[part]]))

    noise = "simple" if name == "ddpm" else "denoise"
    for m in ("source", "target"):
        assert mean(f"{noise}_{m}", slice(0, 3)) > 0.8  # to estimate nothing costs 1
        assert mean(f"{noise}_{m}", slice(-15, None)) < 0.45
        assert mean(f"cycle_{m}", slice(-15, None)) < 0.75 * mean(f"cycle_{m}", slice(0, 3))
