"""Translators of one pass: a generator network applied to the source, without noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, asdict
from typing import Any, ClassVar, Protocol, cast

from torch import Tensor, nn

from syndiff.networks.attention_unet import AttentionUNet
from syndiff.networks.context_unet import ContextUNet
from syndiff.networks.resnet import ResNetGenerator
from syndiff.networks.shared_latent import SharedLatentGenerator
from syndiff.translators.base import Translator
from syndiff.translators.explicit import Noise

GENERATORS: dict[str, Callable[..., nn.Module]] = {
    "resnet": ResNetGenerator,
    "attention_unet": AttentionUNet,
    "context_unet": ContextUNet,
    "shared_latent": SharedLatentGenerator.build,
}


class GeneratorSettings(Protocol):
    """Size of a one-shot generator; a frozen dataclass of numbers and strings.

    Attributes:
        name: name of the network, a key of GENERATORS.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def name(self) -> str: ...


def generator_arguments(
    settings: GeneratorSettings, in_channels: int = 1, out_channels: int = 1
) -> dict[str, Any]:
    """Name and arguments of a generator, as a translator's configuration keeps them."""
    return {"in_channels": in_channels, "out_channels": out_channels, **asdict(settings)}


def generator(network: Mapping[str, Any]) -> nn.Module:
    """The generator that a configuration describes: its "name" and its keyword arguments."""
    arguments = dict(network)
    return GENERATORS[arguments.pop("name")](**arguments)


class OneShotTranslator(Translator):
    """A generator G(x) in one pass: cGAN's, AttGAN's, SAGAN's and UNIT's."""

    kind = "one_shot"
    stochastic = False

    def __init__(self, network: nn.Module, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.network = network

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> OneShotTranslator:
        return cls(generator(config["network"]), config)

    @property
    def size_multiple(self) -> int:
        return cast(int, self.network.size_multiple)

    def forward(self, source: Tensor, noise: Noise, steps: int = 0) -> Tensor:
        self.chain_steps(steps)
        return cast(Tensor, self.network(source))
