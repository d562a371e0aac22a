"""Workloads: training step, translation, a volume file to file, and the official renditions.

A case is built on a device to be timed, and of fake tensors to have its operations counted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from syndiff.benchmark.official_step import OfficialStep, official_sampling
from syndiff.export import export
from syndiff.inference import TranslationOptions, translate_file, translate_slices
from syndiff.io import formats as volumes
from syndiff.io.volume import Volume
from syndiff.memory import freed_memory
from syndiff.networks.compiled import compiled
from syndiff.networks.ncsnpp import NCSNpp
from syndiff.objectives.base import Batch, Objective
from syndiff.objectives.methods import METHODS
from syndiff.objectives.syndiff import SynDiff
from syndiff.training.lone_step import StepWithoutTrainer
from syndiff.training.presets import TrainSettings
from syndiff.translators import SliceNoise, Translator, load_translator

OURS, COMPILED, ONNX = "ours", "ours, compiled", "onnxruntime"
OFFICIAL, UNWATCHED = "official", "official, unwatched"
# Variant → the variant that runs the same operations, whose counts it shares.
COUNTED_AS = {COMPILED: OURS, ONNX: OURS, UNWATCHED: OFFICIAL}


class Workload(Protocol):
    """A case that has been built.

    Attributes:
        networks: by name, for the counts.
    """

    networks: dict[str, nn.Module]

    def __call__(self, number: int) -> object:
        """The call that is timed; `number` is that of the training step."""

    def counted(self, number: int) -> object:
        """The call that is counted: the same without transfers between host and device."""


@dataclass(frozen=True)
class BenchmarkSetup:
    """Sizes and settings that the cases of one benchmark share.

    Attributes:
        method: name of the method.
        settings: settings of the preset, with the requested networks.
        size: rows and columns of a cross-section.
        batch: cross-sections of each modality at a time.
        precision: "32" or "bf16"; the official renditions are always float32.
        slices: cross-sections of the volume.
    """

    method: str
    settings: TrainSettings
    size: int
    batch: int
    precision: str
    slices: int = 160

    def objective(self, device: torch.device) -> Objective:
        torch.manual_seed(0)
        with device:  # made there, because fake tensors cannot be moved
            return build_objective(self.method, self.settings)

    def images(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Smooth random images of source and target, each (b, 1, h, w) in [-1, 1]."""
        made = torch.Generator().manual_seed(0)
        shape = (2 * self.batch, 1, max(1, self.size // 8), max(1, self.size // 8))
        coarse = torch.rand(shape, generator=made) * 2 - 1
        size = (self.size, self.size)
        fine = nn.functional.interpolate(coarse, size, mode="bilinear").to(device)
        source, target = fine.chunk(2)
        return source, target


def build_objective(method: str, settings: TrainSettings) -> Objective:
    """The objective of that name, one of METHODS."""
    return METHODS[method].build(settings.objective)


def by_name(objective: Objective) -> dict[str, nn.Module]:
    """All networks of an objective: "generators.diffusive_target" …"""
    groups = {"generators": objective.generators, "discriminators": objective.discriminators}
    return {f"{name}.{n}": net for name, group in groups.items() for n, net in group.items()}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


class OurStep:
    """One training step of the training module."""

    def __init__(self, setup: BenchmarkSetup, device: torch.device) -> None:
        self.precision, self.images = setup.precision, setup.images(device)
        objective = setup.objective(device)
        self.module = StepWithoutTrainer(objective, setup.settings, 1_000_000)
        self.module.place = device
        self.networks = by_name(objective)

    def __call__(self, number: int) -> None:
        self.module.step = number
        self.module.leaving.slow = False  # the copy by which a slow step can be left is no work
        with freed_memory(kept=True), autocast(self.module.device, self.precision):
            self.module.training_step(Batch(*self.images), 0)

    counted = __call__


class CompiledStep(OurStep):
    """The same with networks that torch has compiled."""

    def __init__(self, setup: BenchmarkSetup, device: torch.device) -> None:
        super().__init__(setup, device)
        torch.compiler.reset()  # torch stops compiling after several sizes, those of earlier cases

    def __call__(self, number: int) -> None:
        with compiled(self.networks.values()):
            super().__call__(number)


class OfficialRenditionStep:
    """One training step of the official rendition."""

    def __init__(self, setup: BenchmarkSetup, device: torch.device, anomaly: bool = True) -> None:
        self.images = setup.images(device)
        objective = cast(SynDiff, setup.objective(device))
        self.official = OfficialStep(objective, setup.settings, anomaly)
        self.networks = by_name(objective)

    def __call__(self, number: int) -> None:
        with freed_memory(kept=False):
            self.official.step(Batch(*self.images), number)

    def counted(self, number: int) -> None:
        self.official.anomaly = False  # anomaly detection reads values, which fake tensors lack
        self(number)


def _translator(setup: BenchmarkSetup, device: torch.device) -> Translator:
    """An untrained translator towards the target."""
    scale = {"rule": "robust", "unit": "a.u.", "scale": 2.0, "training_mean": 300.0}
    card = {
        "sources": ["source"],
        "target": "target",
        "spacing_mm": 1.0,
        "size": [setup.size, setup.size],
        "intensity": {"source": scale, "target": scale},
    }
    objective = setup.objective(device)
    return objective.translator(objective.generators, "target", card).eval().requires_grad_(False)


def _options(setup: BenchmarkSetup, device: torch.device, compiled: bool) -> TranslationOptions:
    return TranslationOptions(
        batch_size=setup.batch, device=str(device), precision=setup.precision, compiled=compiled
    )


class OurTranslation:
    """A batch of slices through the translator, from the host's memory and back."""

    compiled = False
    counted_steps = 0  # steps of the chain whose operations are counted; 0: all

    def __init__(self, setup: BenchmarkSetup, device: torch.device) -> None:
        self.setup, self.device = setup, device
        self.translator = _translator(setup, device)
        self.source, _ = setup.images(device)
        self.networks: dict[str, nn.Module] = {"translator": self.translator}

    @cached_property
    def ready(self) -> Translator:
        """The translator with its weights converted once, as for many batches."""
        return self.translator.for_precision(self.setup.precision)

    def __call__(self, number: int) -> None:
        with freed_memory(kept=True):
            translate_slices(
                self.ready,
                ((self.source + 1) / 2)[:, 0].cpu().numpy(),
                _options(self.setup, self.device, self.compiled),
            )

    @torch.no_grad()
    def counted(self, number: int) -> None:
        noise = SliceNoise(0, range(len(self.source)), shared=True, device=self.device)
        with autocast(self.device, self.setup.precision):
            self.translator(self.source, noise, self.counted_steps)


class CompiledTranslation(OurTranslation):
    """The same with networks that torch has compiled."""

    compiled = True

    def __init__(self, setup: BenchmarkSetup, device: torch.device) -> None:
        super().__init__(setup, device)
        torch.compiler.reset()


class OnnxTranslation(OurTranslation):
    """The same, run by onnxruntime."""

    def __init__(self, setup: BenchmarkSetup, device: torch.device) -> None:
        super().__init__(setup, device)
        with tempfile.TemporaryDirectory(prefix="syndiff-benchmark-") as folder:
            made = self.translator.save(Path(folder) / "translator")
            self.translator = load_translator(export(made, Path(folder) / "onnx").folder)
        self.ready = self.translator


class OfficialRenditionTranslation:
    """A batch of slices through the official sampling."""

    def __init__(self, setup: BenchmarkSetup, device: torch.device) -> None:
        objective = cast(SynDiff, setup.objective(device))
        self.network = cast(NCSNpp, objective.generators["diffusive_target"])
        self.schedule = objective.schedule
        self.source, _ = setup.images(device)
        self.networks: dict[str, nn.Module] = {"generators.diffusive_target": self.network}

    def __call__(self, number: int) -> None:
        with freed_memory(kept=False):
            official_sampling(self.network, self.schedule, self.source).cpu()

    @torch.no_grad()
    def counted(self, number: int) -> None:
        official_sampling(self.network, self.schedule, self.source)


class VolumeFile:
    """A NIfTI file through `translate_file` to a NIfTI file, the translator loaded from disk."""

    compiled = False

    def __init__(self, setup: BenchmarkSetup, device: torch.device) -> None:
        self.setup, self.device = setup, device
        self.networks: dict[str, nn.Module] = {}
        self.kept = tempfile.TemporaryDirectory(prefix="syndiff-benchmark-")
        self.folder = Path(self.kept.name)
        _translator(setup, torch.device("cpu")).save(self.folder / "translator")
        volumes.write(_head(setup.size, setup.slices), self.folder / "in.nii.gz")

    def __call__(self, number: int) -> None:
        with freed_memory(kept=True):
            translate_file(
                self.folder / "translator",
                self.folder / "in.nii.gz",
                self.folder / "out.nii.gz",
                _options(self.setup, self.device, self.compiled),
            )

    counted = __call__


class CompiledVolumeFile(VolumeFile):
    """The same with networks that torch has compiled, once for all volumes."""

    compiled = True


def _head(size: int, slices: int) -> Volume:
    """An ellipse of noisy tissue in every slice, 1 mm voxels."""
    x, y = np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing="ij")
    inside = (x / 0.7) ** 2 + (y / 0.85) ** 2 < 1
    tissue = np.random.default_rng(0).normal(500, 60, (size, size, slices))
    return Volume(np.where(inside[..., None], tissue, 0).astype(np.float32), np.eye(4))


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        what: "train", "translate", "volume" or "export".
        variant: this package's program, a variant of it, or a rendition of the official one.
        setup: sizes and settings.
        build: makes the workload on a device.
        images: cross-sections that one call handles (of each modality in training).
    """

    what: str
    variant: str
    setup: BenchmarkSetup
    build: Callable[[BenchmarkSetup, torch.device], Workload]
    images: int

    @property
    def phases(self) -> list[tuple[float, int]]:
        """Kinds of call: the share of each kind, and the number of a step of that kind.

        With a penalty at every n-th step there are two kinds of training step.
        """
        interval = getattr(self.setup.settings.objective, "gradient_penalty_interval", 1)
        if self.what != "train" or interval == 1:
            return [(1.0, 0)]
        return [(1 - 1 / interval, 1), (1 / interval, interval)]


def _unwatched(setup: BenchmarkSetup, device: torch.device) -> Workload:
    return OfficialRenditionStep(setup, device, anomaly=False)


BUILDS: dict[str, dict[str, Any]] = {
    "train": {
        OURS: OurStep,
        COMPILED: CompiledStep,
        OFFICIAL: OfficialRenditionStep,
        UNWATCHED: _unwatched,
    },
    "translate": {
        OURS: OurTranslation,
        COMPILED: CompiledTranslation,
        OFFICIAL: OfficialRenditionTranslation,
    },
    "volume": {OURS: VolumeFile, COMPILED: CompiledVolumeFile},
    "export": {OURS: OurTranslation, ONNX: OnnxTranslation},
}


def cases_of(
    what: str, setup: BenchmarkSetup, baseline: bool, compiled: bool = False
) -> list[Case]:
    """The cases that are compared: this package's and, on request, compiled and official."""
    wanted = {OURS: True, COMPILED: compiled, ONNX: True, OFFICIAL: baseline, UNWATCHED: baseline}
    plain = replace(setup, precision="32")
    images = setup.slices if what == "volume" else setup.batch
    return [
        Case(what, name, setup if name in (OURS, COMPILED) else plain, build, images)
        for name, build in BUILDS[what].items()
        if wanted[name]
    ]
