"""Training on virtual pairs: it learns, goes on after a stop, and its network can be folded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from experiments.real_pairs import MixedPairs
from experiments.virtual_pairs import VirtualTraining, loss_of, train

from syndiff.networks.context_unet import ContextUNet, folded
from syndiff.phantom.head_slices import Head, draw_pair
from syndiff.phantom.label_maps import tissues_of_labels
from tests.helpers import label_maps

WIDTHS = (4, 8, 8)


def heads() -> list[Head]:
    return [Head(tissues_of_labels(label_maps.head(label_maps.SYNTHSEG), 4.0), 4.0)]


def test_folding_changes_nothing_and_needs_no_normalisation() -> None:
    torch.manual_seed(0)
    network = ContextUNet(widths=WIDTHS)
    network.train()
    for _ in range(3):  # statistics that are not 0 and 1
        network(torch.randn(4, 1, 16, 16) * 2 + 1)
    for norm in (m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
        torch.nn.init.normal_(norm.bias)
    network.eval()
    plain = folded(network)
    assert not any("norm" in type(m).__name__.lower() for m in plain.modules())
    assert all(w.is_floating_point() for w in plain.state_dict().values())
    image = torch.randn(2, 1, 24, 40)
    torch.testing.assert_close(plain(image), network(image), rtol=1e-4, atol=1e-4)


def test_air_far_from_the_head_changes_nothing() -> None:
    torch.manual_seed(0)
    network = folded(ContextUNet(widths=WIDTHS).eval())
    image = torch.full((1, 1, 48, 48), -1.0)
    image[..., 16:32, 16:32] = torch.rand(16, 16)
    wide = torch.nn.functional.pad(image, (32, 32, 32, 32), value=-1.0)
    torch.testing.assert_close(
        network(wide)[..., 48:64, 48:64], network(image)[..., 16:32, 16:32], rtol=1e-4, atol=1e-5
    )


def test_the_loss_is_nothing_for_equal_images_only() -> None:
    image = torch.rand(1, 1, 16, 16) * 2 - 1
    assert loss_of(image, image, 0.1) < 1e-6
    assert loss_of(image.flip(-1), image, 0.1) > 0.1


def test_what_is_bright_counts_three_times() -> None:
    target = torch.full((1, 2, 16, 16), 0.5)
    difference = loss_of(target + 0.1, target, 0.0, (1.0, 1.0))
    torch.testing.assert_close(difference, torch.tensor(0.1))
    torch.testing.assert_close(loss_of(target + 0.1, target, 0.0, (1.0, 0.7)), 2 * difference)


def test_a_run_learns_and_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    torch.manual_seed(0)
    how = VirtualTraining(
        minutes=0.02, batch_size=2, size=32, checkpoint_minutes=0.005, mixed=False
    )
    network = ContextUNet(widths=WIDTHS)
    before = [p.clone() for p in network.parameters()]
    train(network, heads(), tmp_path / "a", how, say=said.append)
    first = torch.load(tmp_path / "a" / "last.pt", weights_only=True)
    assert first["step"] > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    other = ContextUNet(widths=WIDTHS)
    train(other, heads(), tmp_path / "b", how, resume=tmp_path / "a" / "last.pt", say=said.append)
    second = torch.load(tmp_path / "b" / "last.pt", weights_only=True)
    assert second["step"] > first["step"]


def test_real_pairs_are_drawn_in_their_share() -> None:
    pair = np.zeros((1, 2, 64, 64), np.float32)
    pair[:, :, 16:48, 16:48] = 0.5
    drawn = MixedPairs(pair, 1.0, draw_pair)(np.random.default_rng(0), [], 32)
    assert all(image.shape == (32, 32) and image.max() <= 1 for image in drawn)
    assert drawn[1].max() == np.float32(0.5)
    blank = MixedPairs(np.zeros((1, 2, 64, 64), np.float32), 1.0, draw_pair)
    assert blank(np.random.default_rng(0), heads(), 32)[0].shape == (32, 32)  # a virtual one
