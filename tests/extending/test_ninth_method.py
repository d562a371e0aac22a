"""A ninth method, from its objective to a translated volume, as docs/extending.md describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from syndiff import losses
from syndiff.inference import TranslationOptions, translate_file
from syndiff.networks.patchgan import PatchDiscriminator
from syndiff.networks.resnet import ResNetSettings
from syndiff.objectives.base import Batch, Draw, Fakes, Objective
from syndiff.objectives.method import Method
from syndiff.objectives.methods import METHODS
from syndiff.training.presets import choose
from syndiff.training.run import train
from syndiff.translators import Translator
from syndiff.translators.one_shot import OneShotTranslator, generator, generator_arguments


@dataclass(frozen=True)
class OneWaySettings:
    """Hyper-parameters; weight of the identity, the generators' network."""

    identity: float = 1.0
    generator: ResNetSettings = field(default_factory=lambda: ResNetSettings(channels=4, blocks=1))


class OneWay(Objective):
    """L_G = Σ_m softplus(-D_m(G_m(x_o))) + λ |G_m(x_m) - x_m|_1, no cycle."""

    def __init__(self, settings: OneWaySettings) -> None:
        super().__init__()
        self.settings = settings
        sides = ("source", "target")
        network = generator_arguments(settings.generator)
        self.generators = nn.ModuleDict({m: generator(network) for m in sides})
        self.discriminators = nn.ModuleDict(
            {m: PatchDiscriminator(channels=4, halvings=2) for m in sides}
        )

    def generate(self, batch: Batch, draw: Draw) -> Fakes:
        made = {
            "source": self.generators["source"](batch.target),
            "target": self.generators["target"](batch.source),
        }
        return Fakes({"made": made})

    def discriminator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        return {
            m: losses.adversarial_discriminator(D(batch[m]), D(fakes["made"][m]))
            for m, D in self.discriminators.items()
        }

    def generator_losses(self, batch: Batch, fakes: Fakes, draw: Draw) -> dict[str, Tensor]:
        terms = {}
        for m, D in self.discriminators.items():
            terms[f"adversarial_{m}"] = losses.adversarial_generator(D(fakes["made"][m]))
            same = losses.cycle(self.generators[m](batch[m]), batch[m])
            terms[f"identity_{m}"] = self.settings.identity * same
        return terms

    def translator(
        self, generators: nn.ModuleDict, to: str, card: Mapping[str, Any]
    ) -> Translator:
        network = generator_arguments(self.settings.generator)
        config = {**card, "method": "one_way", "network": network}
        return OneShotTranslator(generators[to], config | {"settings": asdict(self.settings)})


def test_a_ninth_method_needs_its_class_and_one_line(
    prepared: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Method(
        name="one_way",
        title="one way",
        paper="nobody",
        objective=OneWay,
        settings=OneWaySettings,
        small=OneWaySettings(),
        training={"epochs": 2, "generator_lr": 1e-4},
        stochastic=False,
        several_sources=False,
    )
    monkeypatch.setitem(METHODS, "one_way", line)
    settings = choose("small", method="one_way", assignments=["identity=2"], max_steps=2)
    assert replace(settings.objective) == OneWaySettings(identity=2.0)
    outcome = train(
        prepared, tmp_path / "run", source="T1", target="T2", settings=settings, devices="cpu"
    )
    scan = cohort / "sub-006" / "anat" / "sub-006_T1w.nii.gz"
    made = translate_file(
        outcome.translators[0], scan, tmp_path / "T2w.nii.gz", TranslationOptions(device="cpu")
    )
    assert np.isfinite(made.volume.array).all()
