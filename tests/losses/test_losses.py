"""Losses against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from syndiff import losses
from tests.helpers.pictures import picture


def test_adversarial_terms_by_hand() -> None:
    logits = torch.tensor([[0.0], [2.0]])
    softplus = [math.log(2), math.log1p(math.exp(-2))]
    assert float(losses.adversarial_generator(logits)) == pytest.approx(sum(softplus) / 2)
    value = losses.adversarial_discriminator(logits, torch.zeros(3))
    assert float(value) == pytest.approx(sum(softplus) / 2 + math.log(2))


def test_least_squares_terms_by_hand() -> None:
    logits = torch.tensor([[0.0], [3.0]])
    assert float(losses.least_squares_generator(logits)) == (1 + 4) / 2
    value = losses.least_squares_discriminator(logits, torch.tensor([0.5]))
    assert float(value) == (1 + 4) / 2 + 0.25


def test_gradient_penalty_of_a_known_function() -> None:
    # D(x) = Σ a x²: ∇D = 2 a x, so the penalty is the batch's mean of Σ (2 a x)².
    a = torch.tensor(0.5, requires_grad=True)
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(2, 1, 1, 2).requires_grad_()
    penalty = losses.gradient_penalty((a * x**2).sum(dim=(1, 2, 3)), x)
    assert float(penalty.detach()) == pytest.approx((1 + 4 + 9 + 16) / 2)
    penalty.backward()  # reaches the discriminator's weights: d/da of 4 a² Σx²/2
    assert float(a.grad) == pytest.approx(8 * 0.5 * 30 / 2)


def test_structure_ignores_contrast_but_not_place() -> None:
    same = losses.structure(picture(), picture())
    assert float(same) == 0
    inverted = losses.structure(picture(), -picture())
    moved = losses.structure(picture(), -picture(shift=2))
    assert float(inverted) < 1e-6
    assert float(moved) > 0.01


def test_structure_grows_with_the_shift_and_pulls_back() -> None:
    values = [float(losses.structure(picture(), picture(shift=s))) for s in (0, 1, 2)]
    assert values == sorted(values)
    translation = (-picture(shift=1)).requires_grad_(True)
    losses.structure(picture(), translation).backward()
    assert translation.grad is not None
    assert translation.grad.abs().max() > 0
