"""What every translator has: a configuration, weights, and a forward pass on slices."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from syndiff import __version__
from syndiff.errors import ModelError, OptionError
from syndiff.io.atomic import whole_file, write_json
from syndiff.translators.explicit import Explicit, Noise

FORMAT = 1
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
        own = ((seed + 1) * 1_000_003 + int(i) for i in indices)
        seeds = [seed] if shared else [s & 0x7FFF_FFFF_FFFF_FFFF for s in own]  # 63 bits
        self.generators = [torch.Generator().manual_seed(s) for s in seeds]

    def normal(self, *shape: int) -> Tensor:
        """(b, *shape), contiguous as a chain's later images, so that networks compile once."""
        drawn = [torch.randn(shape, generator=g) for g in self.generators]
        return torch.stack(drawn).to(self.device).expand(self.size, *shape).contiguous()


class Translator(nn.Module, ABC):
    """Makes slices of one modality from slices of others.

    The options of a translation are arguments of each call. A translator keeps no state except its
    weights.

    Attributes:
        config: everything but the weights; JSON.
        kind: name by which `load_translator` finds the class.
        stochastic: whether the noise changes the result.
        respaceable: whether an image can be made in fewer steps than `sampling_steps`.
        weights: name of the file with the weights.
        precision: of the layers' weights; "bf16" only in a copy that `for_precision` made.
    """

    kind: str
    stochastic: bool
    respaceable: bool = False
    weights: str = WEIGHTS

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        plain = {"format": FORMAT, "kind": self.kind, "syndiff_version": __version__}
        self.config: dict[str, Any] = plain | dict(config)
        self.precision = "32"

    @abstractmethod
    def forward(self, source: Tensor, noise: Noise, steps: int = 0) -> Tensor:
        """Make a batch of slices.

        Args:
            source: (b, ca, h, w) in [-1, 1]; h and w are multiples of `size_multiple`.
            noise: of this batch.
            steps: reverse steps of the chain, see `chain_steps`.

        Returns:
            (b, 1, h, w) in [-1, 1].
        """

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
        """The source modalities in the order of the channels; none if unconditional."""
        return tuple(self.config["sources"])

    @property
    def source(self) -> str:
        """The source modality; several are joined by "+"."""
        return "+".join(self.sources)

    def require_source(self) -> None:
        """Make sure that the translator takes a source.

        Raises:
            OptionError: the translator is unconditional.
        """
        if not self.sources:
            raise OptionError(
                f"{self.name} makes images from noise alone and translates nothing",
                "a translator with a source",
                "use 'syndiff sample'",
            )

    @property
    def target(self) -> str:
        """The target modality."""
        return cast(str, self.config["target"])

    @property
    def spacing_mm(self) -> float:
        """In-plane spacing of the training slices, in mm."""
        return float(self.config["spacing_mm"])

    @property
    def name(self) -> str:
        """Name of the folder: "T1_to_T2"; "T2" if unconditional."""
        return f"{self.source}_to_{self.target}" if self.sources else self.target

    @property
    def parameter_count(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.parameters())

    @property
    def sampling_steps(self) -> int:
        """Reverse steps of a translation as trained; 0 where an image takes one pass."""
        return 0

    def chain_steps(self, wanted: int = 0) -> int:
        """How many reverse steps a translation takes if `wanted` are asked for.

        Args:
            wanted: 0 for the translator's own number, `sampling_steps`; a respaceable chain can
                take fewer, evenly spaced. The time per slice is proportional to this number.

        Raises:
            OptionError: the number of steps is fixed, or smaller than `wanted`.
        """
        own = self.sampling_steps
        if wanted in (0, own) or (self.respaceable and 1 <= wanted <= own):
            return wanted or own
        method = self.config.get("method", self.kind)
        if not own:
            raise OptionError(
                f"{wanted} sampling steps with {method}", "none given: it makes its image at once"
            )
        fewer = "1 to " if self.respaceable else ""
        raise OptionError(f"{wanted} sampling steps with {method}", f"{fewer}{own}, as trained")

    def estimate(self, source: Tensor, noise: Noise) -> Tensor:
        """The first reverse step's estimate of the image, as `forward` takes and returns.

        Raises:
            OptionError: the method has no such estimate.
        """
        method = self.config.get("method", self.kind)
        raise OptionError(f"`sampling` regression with {method}", "chain")

    @property
    def compilable(self) -> list[nn.Module]:
        """Modules that can be compiled: every child with weights; none if torch runs none."""
        children: list[nn.Module] = []
        for child in self.children():
            children += child.values() if isinstance(child, nn.ModuleDict) else [child]
        return [child for child in children if any(True for _ in child.parameters())]

    def for_precision(self, precision: str) -> Translator:
        """The translator to use: for "bf16" a copy whose layers' weights are bf16, else itself.

        Autocast would convert every weight again in each pass, because weights without gradients
        are not cached. The images are the same, bit for bit. Each call makes a new copy, which a
        caller with many batches should keep.
        """
        if precision in ("32", self.precision) or not self.compilable:
            return self
        lowered = copy.deepcopy(self)
        for module in lowered.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                module.to(torch.bfloat16)
        lowered.precision = precision
        return lowered

    def explicit(self, steps: int = 0) -> Explicit:
        """`forward` as a function that takes its noise as arguments, for `syndiff export`.

        Args:
            steps: of the chain, see `chain_steps`.

        Raises:
            ModelError: translators of this kind cannot be exported.
            OptionError: the chain cannot take this number of steps.
        """
        self.chain_steps(steps)
        if self.stochastic:
            raise ModelError(f"translators of kind {self.kind} cannot be exported")
        return Explicit(lambda source: self(source, SliceNoise(0, [], shared=True)))

    def load_weights(self, folder: Path) -> None:
        """Read the weights that `save` wrote into `folder`."""
        self.load_state_dict(load_file(folder / self.weights))

    def save(self, folder: str | Path) -> Path:
        """Write `config.json` and `model.safetensors`; the configuration comes last.

        Killed in between, it leaves a folder without a configuration, which is no translator.
        """
        folder = Path(folder)
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.state_dict().items()}
        with whole_file(folder / WEIGHTS) as temporary:
            temporary.write_bytes(save(tensors))
            (folder / CONFIG).unlink(missing_ok=True)  # of weights that go now
        write_json(folder / CONFIG, self.config)
        return folder
