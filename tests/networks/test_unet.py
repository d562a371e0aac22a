"""The U-Net of the many-step methods: shapes, conditions, attention, starting point."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from syndiff.networks.unet import Attention, UNet, group_norm
from tests.helpers.networks import awake
from tests.helpers.tolerance import of_results

TINY = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention_levels": (1,), "heads": 2}


@pytest.mark.parametrize("out_channels", [1, 2])
def test_shape(out_channels: int) -> None:
    network = UNet(out_channels=out_channels, **TINY)
    assert network.size_multiple == 2
    x = torch.randn(3, 1, 6, 10)
    assert network(x, x, torch.tensor([0, 5, 999])).shape == (3, out_channels, 6, 10)


@pytest.mark.parametrize("multipliers", [(1,), (1, 2, 3), (1, 1, 2, 2)])
@pytest.mark.parametrize("blocks", [1, 2])
def test_any_depth(multipliers: tuple[int, ...], blocks: int) -> None:
    network = UNet(channels=12, multipliers=multipliers, blocks=blocks, attention_levels=(0,))
    size = 2 * network.size_multiple
    x = torch.randn(1, 1, size, size)
    assert network(x, x, torch.tensor([1])).shape == (1, 2, size, size)


def test_several_sources() -> None:
    network = UNet(in_channels=4, **TINY)
    x = torch.randn(1, 1, 8, 8)
    assert network(x, torch.randn(1, 3, 8, 8), torch.tensor([1])).shape == (1, 2, 8, 8)


def test_it_uses_every_input() -> None:
    network = awake(UNet(**TINY))
    x, y, t = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8), torch.tensor([0, 500])
    out = network(x, y, t)
    for changed in (network(-x, y, t), network(x, -y, t), network(x, y, t + 1)):
        assert (changed - out).abs().amax(dim=(1, 2, 3)).min() > 1e-4


def test_it_treats_samples_apart() -> None:
    network = awake(UNet(**TINY))
    x, y, t = torch.randn(3, 1, 8, 8), torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 700])
    parts = [network(x[i : i + 1], y[i : i + 1], t[i : i + 1]) for i in range(3)]
    tolerance = of_results(lambda net: net(x, y, t), network)
    torch.testing.assert_close(network(x, y, t), torch.cat(parts), atol=tolerance, rtol=0)


def test_it_starts_with_no_noise_and_the_smallest_variance() -> None:
    # The last layer starts silent, so that training starts from ε = 0 and v = 0.
    x = torch.randn(1, 1, 8, 8)
    assert UNet(**TINY)(x, x, torch.tensor([3])).abs().max() < 1e-3


def test_attention_by_hand() -> None:
    layer = awake(Attention(8, heads=2))
    x = torch.randn(2, 8, 3, 5)
    q, k, v = layer.query_key_value(layer.norm(x)).flatten(2).chunk(3, dim=1)  # b c hw
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        weights = F.softmax(q[:, head].mT @ k[:, head] / 2, dim=-1)  # b hw hw; √4 = 2
        heads.append(v[:, head] @ weights.mT)
    expected = x + layer.out(torch.cat(heads, dim=1).reshape(x.shape))
    tolerance = of_results(lambda attention: attention(x), layer)
    torch.testing.assert_close(layer(x), expected, atol=tolerance, rtol=0)


def test_attention_levels_see_the_whole_image() -> None:
    # Without attention the two 3×3 convolutions of each block reach some pixels only.
    def reach(levels: tuple[int, ...]) -> int:
        network = awake(UNet(**TINY | {"attention_levels": levels}))
        network.middle[1] = torch.nn.Identity()  # the middle always attends
        for module in network.modules():  # group normalisation sees the whole image too
            if isinstance(module, torch.nn.GroupNorm):
                module.forward = lambda x: x  # type: ignore[method-assign]
        x = torch.randn(1, 1, 64, 64, requires_grad=True)
        out = network(x, x.detach(), torch.tensor([1]))
        (gradient,) = torch.autograd.grad(out[0, 0, 0, 0], x)
        return int((gradient != 0).sum())

    assert reach(()) < 64 * 64 / 2
    assert reach((1,)) > 64 * 64 * 0.9


@pytest.mark.parametrize("channels", [8, 12, 24, 96, 128, 144, 512])
def test_groups_divide_the_channels(channels: int) -> None:
    groups = group_norm(channels).num_groups
    assert channels % groups == 0
    assert channels // groups >= 4
    assert groups <= 32
