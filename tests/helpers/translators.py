"""SynDiff's translator with its smallest network, untrained."""

from __future__ import annotations

import torch

from syndiff.diffusion.large_steps import Schedule
from syndiff.networks.denoisers import build_denoiser, denoiser_arguments
from syndiff.translators import AdversarialDiffusionTranslator
from tests.helpers.tiny import TINY


def intensity(unit: str = "a.u.") -> dict:
    if unit == "HU":
        return {
            "rule": "window",
            "unit": "HU",
            "scale": 1.0,
            "training_mean": 0.0,
            "window": [-1024, 3000],
        }
    return {"rule": "robust", "unit": "a.u.", "scale": 2.0, "training_mean": 300.0, "window": None}


def build(target: str = "T2", spacing_mm: float = 4.0) -> AdversarialDiffusionTranslator:
    torch.manual_seed(0)
    arguments = denoiser_arguments(TINY.generator, in_channels=2)
    network = build_denoiser(arguments)
    for p in network.parameters():  # layers that start silent would hide the source
        if p.dim() > 1:
            torch.nn.init.normal_(p, 0, 0.15)
    config = {
        "sources": ["T1"],
        "target": target,
        "spacing_mm": spacing_mm,
        "size": [32, 32],
        "network": arguments,
        "schedule": TINY.schedule,
        "method": "syndiff",
        "intensity": {"T1": intensity(), target: intensity("HU" if target == "CT" else "a.u.")},
    }
    return AdversarialDiffusionTranslator(network, Schedule(**TINY.schedule), config).eval()
