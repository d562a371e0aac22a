"""A second network for SynDiff's diffusive generator: its own file, and a line in the table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from syndiff.errors import OptionError
from syndiff.inference import TranslationOptions, translate_slices
from syndiff.networks.blocks import Recomputable, recompute_blocks
from syndiff.networks.denoisers import DENOISERS, DenoiserKind
from syndiff.objectives.methods import METHODS
from syndiff.objectives.syndiff import SynDiff
from syndiff.training.hyperparameters import changed, from_plain
from syndiff.training.module import TranslationModule
from syndiff.training.presets import TrainSettings
from syndiff.translators import load_translator
from tests.helpers.tiny import TINY
from tests.helpers.translators import intensity


@dataclass(frozen=True)
class PlainSettings:
    """Width of a `PlainDenoiser`."""

    width: int = 4
    latent_dim: int = 3
    name: str = "plain"


class PlainDenoiser(nn.Module):
    """Two convolutions; the latent shifts the features between them."""

    size_multiple = 1

    def __init__(self, in_channels: int, width: int, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.shift = nn.Linear(latent_dim, width)
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x_t: Tensor, source: Tensor, t: Tensor, z: Tensor) -> Tensor:
        h = self.first(torch.cat([x_t, source], dim=1)) + self.shift(z)[:, :, None, None]
        return torch.tanh(self.last(torch.relu(h)))


@pytest.fixture
def plain() -> Iterator[None]:
    DENOISERS["plain"] = DenoiserKind(PlainDenoiser, PlainSettings)
    yield
    del DENOISERS["plain"]


def test_it_is_chosen_by_name_built_kept_and_loaded(plain: None, tmp_path: Path) -> None:
    method = METHODS["syndiff"]
    settings = changed(TINY, "generator", "plain", method)
    settings = changed(settings, "generator.width", "6", method)
    assert settings == replace(TINY, generator=PlainSettings(width=6))
    assert from_plain(json.loads(json.dumps(asdict(settings))), method) == settings
    objective = SynDiff(settings)
    card = {"sources": ["T1"], "target": "T2", "spacing_mm": 4.0, "size": [16, 16]}
    card["intensity"] = {m: intensity() for m in ("T1", "T2")}
    made = objective.translator(objective.generators, "target", card)
    loaded = load_translator(made.save(tmp_path / "T1_to_T2"))
    images = np.random.default_rng(0).random((2, 16, 16), np.float32)
    a, b = (
        translate_slices(t, images, TranslationOptions(seed=1, device="cpu"))
        for t in (made, loaded)
    )
    np.testing.assert_array_equal(a, b)


def test_recomputing_says_where_it_saves_nothing(plain: None) -> None:
    settings = TrainSettings(objective=replace(TINY, generator=PlainSettings()), recompute=True)
    module = TranslationModule(SynDiff(settings.objective), settings, total_steps=1)
    assert set(module.not_recomputed) == {"diffusive_source", "diffusive_target"}
    alone = SynDiff(settings.objective, supervised=True)  # no one-shot generators either
    with pytest.raises(OptionError, match="none of whose blocks can be recomputed"):
        TranslationModule(alone, settings, total_steps=1)


def test_a_block_declares_that_it_can_be_recomputed() -> None:
    class Block(Recomputable):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0
            self.layer = nn.Conv2d(1, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return torch.sin(self.layer(x))

    network = nn.Sequential(nn.Conv2d(1, 1, 1), Block())
    x = torch.rand(1, 1, 4, 4)
    network(x).sum().backward()
    block = network[1]
    assert isinstance(block, Block)
    plain_gradient = block.layer.weight.grad
    network.zero_grad()
    assert recompute_blocks(network) == 1
    block.calls = 0
    network(x).sum().backward()
    assert block.calls == 2  # forth, and once more on the way back
    assert plain_gradient is not None
    torch.testing.assert_close(block.layer.weight.grad, plain_gradient)
