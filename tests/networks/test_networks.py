"""Networks: shapes, conditions, resampling, and agreement with the reference implementation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from syndiff.networks import step_discriminator
from syndiff.networks.blocks import FIR_TAPS, fir_down, fir_up
from syndiff.networks.ncsnpp import NCSNpp, norm_silu
from syndiff.networks.patchgan import PatchDiscriminator
from syndiff.networks.resnet import ResNetGenerator
from syndiff.networks.step_discriminator import StepDiscriminator, leaky_relu, minibatch_deviation
from tests.helpers.networks import awake
from tests.helpers.tolerance import of_results, rounding

TINY = {
    "channels": 8,
    "multipliers": (1, 2),
    "blocks": 1,
    "attention_levels": (1,),
    "time_dim": 8,
    "latent_dim": 6,
    "latent_embedding": 8,
    "latent_layers": 2,
}


def upfirdn(x: torch.Tensor, up: int, down: int, pad: tuple[int, int]) -> torch.Tensor:
    """Definition of FIR resampling: insert zeros, pad, filter, take every n-th pixel."""
    b, c, h, w = x.shape
    zeros = x.new_zeros(b, c, h, up, w, up)
    zeros[:, :, :, 0, :, 0] = x
    zeros = zeros.reshape(b, c, h * up, w * up)
    zeros = F.pad(zeros, [pad[0], pad[1], pad[0], pad[1]])
    taps = torch.tensor(FIR_TAPS) / 8
    kernel = torch.outer(taps, taps)[None, None] * up**2
    filtered = F.conv2d(zeros.reshape(b * c, 1, *zeros.shape[2:]), kernel)
    return filtered.reshape(b, c, *filtered.shape[2:])[:, :, ::down, ::down]


def test_fir_resampling_is_upfirdn() -> None:
    x = torch.randn(2, 3, 8, 12)
    torch.testing.assert_close(fir_down(x), upfirdn(x, 1, 2, (1, 1)))
    torch.testing.assert_close(fir_up(x), upfirdn(x, 2, 1, (2, 1)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_fir_resampling_keeps_type_and_layout(dtype: torch.dtype) -> None:
    exact = torch.randn(2, 3, 8, 12)
    x = exact.to(dtype).contiguous(memory_format=torch.channels_last)
    for resample in (fir_down, fir_up):
        with torch.autocast("cpu", torch.bfloat16):  # which is not asked
            y = resample(x)
        assert y.dtype == dtype
        assert y.is_contiguous(memory_format=torch.channels_last)
        coarser = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32
        # Each of the two directions ends in one rounding to the type.
        tolerance = rounding(2, exact.abs().max().item(), coarser)
        torch.testing.assert_close(y.float(), resample(exact), atol=tolerance, rtol=0)


@pytest.mark.parametrize("resample", [fir_down, fir_up])
def test_fir_resampling_has_its_first_two_derivatives(resample) -> None:
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(resample, x)
    assert torch.autograd.gradgradcheck(lambda v: resample(v) ** 2, x)  # the gradient penalty's


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalisation_takes_each_samples_own_weights(
    batch: int, layout: torch.memory_format
) -> None:
    x = torch.randn(batch, 8, 4, 6).contiguous(memory_format=layout)
    modulation = torch.randn(batch, 16)
    scale, shift = modulation[:, :, None, None].chunk(2, dim=1)
    normal = F.group_norm(x, 2, eps=1e-6)  # four channels a group
    torch.testing.assert_close(norm_silu(x, modulation), F.silu(normal * scale + shift))
    with torch.no_grad():  # there it works in place, on what is its own
        before = x.clone()
        torch.testing.assert_close(norm_silu(x, modulation), F.silu(normal * scale + shift))
        torch.testing.assert_close(x, before)


def test_the_layout_changes_no_value() -> None:
    network = awake(NCSNpp(**TINY))
    inputs = (
        torch.randn(2, 1, 8, 8),
        torch.randn(2, 1, 8, 8),
        torch.tensor([0, 3]),
        torch.randn(2, 6),
    )
    with torch.no_grad():  # channels innermost
        fast = network(*inputs)
    tolerance = of_results(lambda net: net(*inputs), network)
    torch.testing.assert_close(fast, network(*inputs).detach(), atol=tolerance, rtol=0)


def test_generator_uses_every_input() -> None:
    network = awake(NCSNpp(**TINY))
    x, y, t, z = (
        torch.randn(2, 1, 8, 8),
        torch.randn(2, 1, 8, 8),
        torch.tensor([0, 3]),
        torch.randn(2, 6),
    )
    out = network(x, y, t, z)
    assert out.shape == (2, 1, 8, 8)
    assert out.abs().max() <= 1
    for changed in (
        network(x + 1, y, t, z),
        network(x, y + 1, t, z),
        network(x, y, t + 1, z),
        network(x, y, t, z + torch.randn(2, 6)),
    ):
        assert (changed - out).abs().max() > 1e-4


def test_generator_treats_samples_apart() -> None:
    network = awake(NCSNpp(**TINY))
    x, y, t, z = (
        torch.randn(3, 1, 8, 8),
        torch.randn(3, 1, 8, 8),
        torch.tensor([0, 1, 2]),
        torch.randn(3, 6),
    )
    alone = torch.cat(
        [network(x[i : i + 1], y[i : i + 1], t[i : i + 1], z[i : i + 1]) for i in range(3)]
    )
    tolerance = of_results(lambda net: net(x, y, t, z), network)
    torch.testing.assert_close(network(x, y, t, z), alone, atol=tolerance, rtol=0)


def test_paper_sizes() -> None:
    # The counts of the official networks (docs/architecture.md), less the unused second output.
    millions = [
        sum(p.numel() for p in n.parameters()) / 1e6
        for n in (NCSNpp(), StepDiscriminator(), ResNetGenerator(), PatchDiscriminator())
    ]
    assert millions == pytest.approx([39.7, 27.7, 7.8, 2.8], abs=0.06)


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_one_shot_generator_keeps_the_shape(upsampling: str) -> None:
    network = ResNetGenerator(channels=4, blocks=1, upsampling=upsampling)
    out = network(torch.randn(2, 1, 16, 20))
    assert out.shape == (2, 1, 16, 20)
    assert out.abs().max() <= 1


def test_patch_discriminator_sees_seventy_pixels() -> None:
    network = PatchDiscriminator(channels=4)
    for layer in network.layers:  # instance normalisation would spread any change over the image
        if isinstance(layer, torch.nn.InstanceNorm2d):
            layer.forward = lambda x: x  # type: ignore[method-assign]
    image = torch.randn(1, 1, 128, 128, requires_grad=True)
    logits = network(image)
    (gradient,) = torch.autograd.grad(logits[0, 0, 7, 7], image)
    rows = gradient[0, 0].abs().sum(1).nonzero()
    assert int(rows.max() - rows.min()) + 1 == 70


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 8])
def test_step_discriminator_takes_any_batch(batch: int) -> None:
    network = StepDiscriminator(stem=4, widths=(8, 8), time_dim=8)
    x = torch.randn(batch, 1, 16, 16)
    assert network(x, x, torch.zeros(batch, dtype=torch.long)).shape == (batch, 1)


def test_minibatch_deviation_by_hand() -> None:
    x = torch.stack([torch.zeros(1, 2, 2), torch.full((1, 2, 2), 2.0)])
    torch.testing.assert_close(minibatch_deviation(x, 4), torch.ones(2, 1, 2, 2))
    assert minibatch_deviation(x, 1).max() < 1e-3


def test_leaky_relu_and_its_first_two_derivatives() -> None:
    x = torch.linspace(-1.97, 2.03, 41, dtype=torch.float64).requires_grad_()  # not at the kinks
    ours, theirs = leaky_relu(x), torch.nn.functional.leaky_relu(x, 0.2)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(y.sum(), x)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*gradients)
    # a function whose gradient's gradient is not trivial
    assert torch.autograd.gradgradcheck(lambda v: leaky_relu(v**2 - 1) * v, x)


def test_a_gradient_penalty_of_the_discriminator_is_that_of_plain_torch(monkeypatch) -> None:
    torch.manual_seed(0)
    network = StepDiscriminator(stem=4, widths=(8, 8), time_dim=8)
    for p in network.parameters():
        torch.nn.init.normal_(p, 0, 0.2)
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([0, 2])

    def gradients() -> list[torch.Tensor]:
        real = x.clone().requires_grad_()
        (g,) = torch.autograd.grad(network(real, x, t).sum(), real, create_graph=True)
        return torch.autograd.grad(
            g.square().sum(), network.blocks.parameters(), allow_unused=True
        )

    ours = gradients()
    monkeypatch.setattr(
        step_discriminator, "leaky_relu", lambda v: torch.nn.functional.leaky_relu(v, 0.2)
    )
    for a, b in zip(ours, gradients(), strict=True):
        if a is None:  # biases: the penalty does not depend on them
            assert b is None or float(b.abs().max()) == 0
        else:
            torch.testing.assert_close(a, b)
