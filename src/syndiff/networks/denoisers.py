"""The networks that can be SynDiff's diffusive generator, by name.

To add one, write its class and its settings in a file of their own and name both here. A run then
selects it by `SynDiffSettings(generator=...)`, or by its name on the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from syndiff.networks.ncsnpp import NCSNpp, NCSNppSettings


class DenoiserSettings(Protocol):
    """Size of a denoiser; a frozen dataclass of numbers, tuples of numbers and strings.

    Attributes:
        name: name of the network, a key of DENOISERS.
        latent_dim: size of the random latent z.
    """

    @property
    def name(self) -> str: ...

    @property
    def latent_dim(self) -> int: ...


class Denoiser(Protocol):
    """G_θ(x_t, source, t, z): an nn.Module that estimates x_0; see `NCSNpp.forward`.

    Attributes:
        latent_dim: size of z.
        size_multiple: heights and widths must be multiples of this.
    """

    latent_dim: int

    @property
    def size_multiple(self) -> int: ...

    def __call__(self, x_t: Tensor, source: Tensor, t: Tensor, z: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class DenoiserKind:
    """A network and the class of its settings."""

    network: Callable[..., nn.Module]
    settings: type[Any]


DENOISERS: dict[str, DenoiserKind] = {"ncsnpp": DenoiserKind(NCSNpp, NCSNppSettings)}


def denoiser_arguments(settings: DenoiserSettings, in_channels: int) -> dict[str, Any]:
    """Name and arguments of a denoiser, as a translator's configuration keeps them.

    NCSN++ has no name there, as in the configurations of earlier versions.
    """
    arguments = {"in_channels": in_channels, **asdict(settings)}  # type: ignore[call-overload]
    if arguments["name"] == "ncsnpp":
        del arguments["name"]
    return arguments


def build_denoiser(arguments: Mapping[str, Any]) -> Any:
    """The denoiser that `denoiser_arguments` describes, with newly initialised weights."""
    given = dict(arguments)
    return DENOISERS[given.pop("name", "ncsnpp")].network(**given)
