"""Every method with its smallest networks, on small images: what tests of methods share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from syndiff.benchmark.workloads import BenchmarkSetup, OurStep
from syndiff.inference import TranslationOptions, translate_slices
from syndiff.networks.attention_unet import AttentionUNetSettings
from syndiff.networks.content_style import ContentStyleSettings
from syndiff.networks.patchgan import CascadeSettings, MultiScaleSettings, PatchSettings
from syndiff.networks.resnet import AttendingResNetSettings, ResNetSettings
from syndiff.networks.shared_latent import SharedLatentSettings
from syndiff.networks.unet import UNetSettings
from syndiff.objectives.attgan import AttGAN, AttGANSettings
from syndiff.objectives.base import Batch, Draw, Objective
from syndiff.objectives.cyclegan import CycleGAN, CycleGANSettings
from syndiff.objectives.ddpm import DDPM, DDPMSettings
from syndiff.objectives.munit import MUNIT, MUNITSettings
from syndiff.objectives.sagan import SAGAN, SAGANSettings
from syndiff.objectives.syndiff import SynDiff
from syndiff.objectives.unit import UNIT, UNITSettings
from syndiff.objectives.unit_ddpm import UnitDDPM, UnitDDPMSettings
from syndiff.training.presets import TrainSettings
from syndiff.translators import Translator
from tests.helpers.tiny import TINY
from tests.helpers.translators import intensity

_PATCH = PatchSettings(channels=4, halvings=2)
_DIFFUSION: dict[str, Any] = {
    "steps": 6,
    "denoiser": UNetSettings(
        channels=8, multipliers=(1, 2), blocks=1, attention_levels=(1,), heads=2
    ),
    "one_shot": ResNetSettings(channels=4, blocks=1),
}

METHODS: dict[str, tuple[type[Objective], Any]] = {
    "syndiff": (SynDiff, TINY),
    "cyclegan": (
        CycleGAN,
        CycleGANSettings(generator=ResNetSettings(channels=4, blocks=2), discriminator=_PATCH),
    ),
    "attgan": (
        AttGAN,
        AttGANSettings(
            generator=AttentionUNetSettings(channels=4, levels=3), discriminator=_PATCH
        ),
    ),
    "sagan": (
        SAGAN,
        SAGANSettings(
            generator=AttendingResNetSettings(channels=4, blocks=2), discriminator=_PATCH
        ),
    ),
    "unit": (
        UNIT,
        UNITSettings(
            generator=SharedLatentSettings(channels=4, blocks=2),
            discriminator=CascadeSettings(channels=4, halvings=2),
        ),
    ),
    "munit": (
        MUNIT,
        MUNITSettings(
            generator=ContentStyleSettings(channels=4, blocks=1, hidden=8),
            discriminator=MultiScaleSettings(channels=4, halvings=2, scales=2),
        ),
    ),
    "ddpm": (DDPM, DDPMSettings(structure=1.0, **_DIFFUSION, discriminator=_PATCH)),
    "unit_ddpm": (UnitDDPM, UnitDDPMSettings(**_DIFFUSION)),
}

SIZE = 32
CARD = {
    "sources": ["T1"],
    "target": "T2",
    "spacing_mm": 4.0,
    "size": [SIZE, SIZE],
    "intensity": {"T1": intensity(), "T2": intensity()},
}

every_method = pytest.mark.parametrize("name", METHODS)


def build(name: str, awake: bool = False) -> Objective:
    """The method with its smallest networks.

    Args:
        awake: give every weight a size; layers that start silent would hide the image.
    """
    torch.manual_seed(0)
    method, settings = METHODS[name]
    objective = method(settings)
    if awake:
        for p in objective.parameters():
            if p.dim() > 1:
                torch.nn.init.normal_(p, 0, 0.15)
    return objective


def batch(size: int = 2) -> Batch:
    values = torch.Generator().manual_seed(1)
    source, target = torch.rand(2, size, 1, SIZE, SIZE, generator=values) * 2 - 1
    return Batch(source, target)


def losses_of(objective: Objective, images: Batch, step: int = 0) -> dict[str, torch.Tensor]:
    """Every term of both players in one step."""
    draw = Draw(seed=0, step=step)
    fakes = objective.generate(images, draw)
    first = objective.discriminator_losses(images, fakes.detached(), draw)
    second = objective.generator_losses(images, fakes, draw)
    return {f"discriminators/{k}": v for k, v in first.items()} | {
        f"generators/{k}": v for k, v in second.items()
    }


def gradients(network: torch.nn.Module) -> torch.Tensor:
    """All gradients of a network in one vector; 0 where there is none."""
    each = [
        (p.grad if p.grad is not None else torch.zeros_like(p)).ravel()
        for p in network.parameters()
    ]
    return torch.cat([torch.zeros(0), *each])  # a method may have no discriminators


def slices(count: int = 2, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    return np.random.default_rng(0).random((count, height, width), np.float32)


def translate(translator: Translator, images: np.ndarray, **options: Any) -> np.ndarray:
    return translate_slices(translator, images, TranslationOptions(**{"device": "cpu"} | options))


def translator_of(name: str, to: str = "target") -> Translator:
    objective = build(name, awake=True)
    return objective.translator(objective.generators, to, CARD)


def tethered(name: str, precision: str = "32", **changes: Any) -> OurStep:
    """The training module's own step on a fixed batch, with the method's smallest networks."""
    base = TrainSettings(objective=METHODS[name][1], generator_lr=3e-3, discriminator_lr=1e-3)
    setup = BenchmarkSetup(name, replace(base, **changes), SIZE, 2, precision)
    return OurStep(setup, torch.device("cpu"))
