"""Translators: what remains of a method after training.

A translator is a folder that explains itself: `config.json` (modalities, grid, intensity scales,
network, where it comes from) and `model.safetensors` (weights, nothing executable).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from syndiff import __version__
from syndiff.diffusion import Schedule, reverse
from syndiff.errors import ModelError, UserError
from syndiff.files import read_json, whole_file, write_json
from syndiff.networks.ncsnpp import NCSNpp

FORMAT = 1
SHIPPED = Path(__file__).parent / "demo" / "T1_to_T2"
CONFIG, WEIGHTS = "config.json", "model.safetensors"


class SliceNoise:
    """Standard normal values for a batch of slices, the same whatever the batch size or device.

    Args:
        seed: of the whole volume.
        indices: each slice's index in its volume.
        shared: one noise for all slices, so that a volume is coherent along z; otherwise each
            slice has its own, a function of seed and index.
        device: where the values go; they are drawn on the CPU.
    """

    def __init__(
        self, seed: int, indices: Sequence[int], shared: bool, device: torch.device | str = "cpu"
    ) -> None:
        self.size, self.device = len(indices), device
        seeds = [seed] if shared else [(seed + 1) * 1_000_003 + int(i) for i in indices]
        self.generators = [torch.Generator().manual_seed(s) for s in seeds]

    def normal(self, *shape: int) -> Tensor:
        """(b, *shape)."""
        drawn = [torch.randn(shape, generator=g) for g in self.generators]
        return torch.stack(drawn).to(self.device).expand(self.size, *shape)


class Translator(nn.Module, ABC):
    """Makes slices of one modality from slices of others.

    Attributes:
        config: everything but the weights; JSON.
        kind: name under which `load_translator` finds the class.
        stochastic: whether the noise changes the result.
    """

    kind: str
    stochastic: bool

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        plain = {"format": FORMAT, "kind": self.kind, "syndiff_version": __version__}
        self.config: dict[str, Any] = plain | dict(config)

    @abstractmethod
    def forward(self, source: Tensor, noise: SliceNoise) -> Tensor:
        """(b, ca, h, w) → (b, 1, h, w), both in [-1, 1]; h, w multiples of `size_multiple`."""

    @property
    @abstractmethod
    def size_multiple(self) -> int:
        """Heights and widths must be multiples of this."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any]) -> Translator:
        """A translator of this configuration with weights still to be loaded."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The source modalities in the order of the channels."""
        return tuple(self.config["sources"])

    @property
    def source(self) -> str:
        """The source modality; several are joined by "+"."""
        return "+".join(self.sources)

    @property
    def target(self) -> str:
        return self.config["target"]

    @property
    def spacing_mm(self) -> float:
        """In-plane spacing at which it was trained."""
        return float(self.config["spacing_mm"])

    @property
    def name(self) -> str:
        return f"{self.source}_to_{self.target}"

    def save(self, folder: str | Path) -> Path:
        """Write `config.json` and `model.safetensors`; the configuration comes last."""
        folder = Path(folder)
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.state_dict().items()}
        with whole_file(folder / WEIGHTS) as temporary:
            temporary.write_bytes(save(tensors))
        write_json(folder / CONFIG, self.config)
        return folder


class AdversarialDiffusionTranslator(Translator):
    """SynDiff's: the diffusive generator run through the reverse process (Sec. III-B.3)."""

    kind = "adversarial_diffusion"
    stochastic = True

    def __init__(self, network: NCSNpp, schedule: Schedule, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.network, self.schedule = network, schedule

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> AdversarialDiffusionTranslator:
        return cls(NCSNpp(**config["network"]), Schedule(**config["schedule"]), config)

    @property
    def size_multiple(self) -> int:
        return self.network.size_multiple

    def forward(self, source: Tensor, noise: SliceNoise) -> Tensor:
        h, w = source.shape[-2:]

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            return self.network(x_t, source, t, noise.normal(self.network.latent_dim))

        x_T = noise.normal(1, h, w)
        return reverse(self.schedule, denoise, x_T, lambda: noise.normal(1, h, w))


KINDS: dict[str, type[Translator]] = {
    kind.kind: kind for kind in (AdversarialDiffusionTranslator,)
}


def load_translator(path: str | Path, device: str = "cpu") -> Translator:
    """Load a translator folder, ready to translate.

    Args:
        path: a folder with `config.json` and `model.safetensors`, or "demo" for the shipped one.
        device: "cpu", "cuda", "cuda:1", …

    Raises:
        ModelError: the folder is no translator, is damaged, or is of a newer format.
    """
    folder = locate(path)
    config = read_config(folder)
    try:
        translator = KINDS[config["kind"]].from_config(config)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"the configuration {folder / CONFIG} does not describe a translator ({error!r})",
            "one written by this version of syndiff",
        ) from error
    try:
        translator.load_state_dict(load_file(folder / WEIGHTS))
    except FileNotFoundError as error:
        raise ModelError(f"no weights at {folder / WEIGHTS}", remedy="export it again") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(f"the weights {folder / WEIGHTS} are damaged ({error})") from error
    except RuntimeError as error:
        raise ModelError(
            f"the weights {folder / WEIGHTS} do not fit the network in {CONFIG}"
            f" ({str(error).splitlines()[-1].strip()[:120]})"
        ) from error
    return translator.to(device).eval().requires_grad_(False)


def locate(path: str | Path) -> Path:
    """The folder of a translator; "demo" is the one that ships with the package."""
    if str(path) == "demo" and not (Path(path) / CONFIG).is_file():
        return SHIPPED  # also where `make demo` has made a folder of that name
    return Path(path)


def read_config(folder: str | Path) -> dict[str, Any]:
    """A translator's configuration, checked for what every translator must say.

    Raises:
        ModelError: it is missing, damaged, or of a newer format.
    """
    folder = Path(folder)
    hint = "give a translator folder such as RUN/translators/T1_to_T2"
    if not folder.is_dir():
        raise ModelError(f"no translator folder {folder}", remedy=hint)
    try:
        config = read_json(folder / CONFIG, "translator configuration", hint)
    except UserError as error:
        raise ModelError(error.found, error.expected, error.remedy) from error
    needed = {"format", "kind", "sources", "target", "spacing_mm", "size", "intensity"}
    missing = needed - set(config) if isinstance(config, dict) else needed
    if missing:
        raise ModelError(
            f"{folder / CONFIG} lacks {', '.join(sorted(missing))}", "a translator", hint
        )
    if config["format"] != FORMAT:
        raise ModelError(
            f"{folder} has format {config['format']}", f"format {FORMAT}", "update syndiff"
        )
    return config
