"""The memory that a training step needs, estimated before anything is trained.

The networks and one slice of each modality are made without values (torch's `meta` device), and
what the graph keeps for its way back is added up; it takes a second at any size of image.

    weights    generators, their average, discriminators
    optimizer  two moments of every weight, and the gradients
    slices     what the graph keeps: of the generators' turn, or of the discriminators' if larger
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from syndiff.errors import OptionError
from syndiff.memory import available_bytes
from syndiff.objectives.base import Batch, Draw
from syndiff.objectives.methods import method_of
from syndiff.reporting import Reporter
from syndiff.training.presets import TrainSettings

# How much more than its tensors a step takes in convolutions' own buffers and in gaps: 405 MiB for
# 329 at 64×64, 1156 for 1019 at 128×128 (preset small, batch 2, on a CPU).
GAPS = 1.25


@dataclass(frozen=True)
class Need:
    """Memory of a training step.

    Attributes:
        fixed_bytes: weights, average, optimizer, gradients.
        slice_bytes: what one slice of each modality keeps for the way back.
        upper: whether it is an upper bound: `recompute` and bf16 keep less.
    """

    fixed_bytes: int
    slice_bytes: int
    upper: bool = False

    def bytes(self, slices: int) -> int:
        """With so many slices of each modality going through at once, gaps included."""
        return round(GAPS * (self.fixed_bytes + slices * self.slice_bytes))

    def most_slices(self, room_bytes: int) -> int:
        """How many slices fit; 0 for none."""
        left = room_bytes / GAPS - self.fixed_bytes
        return max(0, int(left // self.slice_bytes))


class _ShapelessDraw(Draw):
    """Random values that have a shape and nothing else."""

    def __init__(self) -> None:
        self.step, self.rank, self.world = 0, 0, 1
        self.device = torch.device("meta")

    def normal(self, *shape: int) -> Tensor:
        return torch.empty(shape, device=self.device)

    def integers(self, high: int, size: int) -> Tensor:
        return torch.zeros(size, dtype=torch.long, device=self.device)


class _Kept:
    """Adds up the memory that a graph keeps, beside the weights."""

    def __init__(self, weights: set[int]) -> None:
        self.weights, self.storages = weights, dict[int, Any]()

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.weights:
            self.storages[storage._cdata] = storage  # held, so that its number stays its own
        return tensor

    @property
    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self.storages.values())


def memory_need(
    settings: TrainSettings,
    size: tuple[int, int],
    sources: int = 1,
    precision: str = "32",
) -> Need | None:
    """What a step needs; None of a method that does not run without values.

    Args:
        settings: of the training.
        size: rows and columns of a slice.
        sources: source modalities.
        precision: "32" or "bf16".
    """
    try:
        counted = _counted(settings.objective, size, sources, settings.pairing == "paired")
    except (RuntimeError, NotImplementedError):  # a method that branches on values
        return None
    made, judges, kept = counted
    average = made if settings.ema_decay else 0
    upper = settings.recompute or precision != "32"
    return Need(4 * (made + judges) + average, kept, upper)


@cache
def _counted(
    objective_settings: Any, size: tuple[int, int], sources: int, supervised: bool
) -> tuple[int, int, int]:
    """Bytes of the generators' and the discriminators' weights, and of what a slice keeps."""
    method = method_of(objective_settings)
    with torch.device("meta"):
        objective = method.build(objective_settings, sources, supervised)
    players = objective.generators, objective.discriminators
    made, judges = (sum(p.numel() * p.element_size() for p in g.parameters()) for g in players)
    kept = _Kept({p.untyped_storage()._cdata for p in objective.parameters()})
    batch = Batch(*(torch.empty(1, c, *size, device="meta") for c in (sources, 1)))
    draw = _ShapelessDraw()
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        fakes = objective.generate(batch, draw)
        both = kept.bytes
        objective.discriminator_losses(batch, fakes.detached(), draw)
        judging = kept.bytes
        objective.generator_losses(batch, fakes, draw)
    return made, judges, max(judging, both + kept.bytes - judging)


def room_bytes(device: torch.device) -> int | None:
    """What a training may take on a device; None where nothing says."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    available = available_bytes()
    return None if available is None else max(0, available)


def say_need(
    settings: TrainSettings, need: Need | None, room: int | None, report: Reporter
) -> None:
    """Tell what a training needs before it starts.

    Args:
        settings: of the training.
        need: of a step; None if nobody knows.
        room: bytes that there are; None if nobody knows.
        report: told; warned where it may be too little.

    Raises:
        OptionError: it cannot fit.
    """
    if need is None:
        report.phase("memory: unknown for this method")
        return
    at_once = settings.batch_size // settings.accumulate
    wanted = need.bytes(at_once)
    words = f"{'at most' if need.upper else 'about'} {in_gb(wanted)}"
    if room is None:
        report.phase(f"memory: {words}")
        return
    report.phase(f"memory: {words} of {in_gb(room)} that are free")
    if wanted <= room:
        return
    found = f"this training needs {words} of memory ({at_once} slices at a time)"
    if need.upper or wanted <= 1.5 * room:
        report.warn(f"{found}; {in_gb(room)} are free: {what_fits(settings, need, room)}")
        return
    raise OptionError(found, f"at most {in_gb(room)}, which are free",
                      what_fits(settings, need, room))  # fmt: skip


def what_fits(settings: TrainSettings, need: Need, room: int) -> str:
    """In words, what to change so that it fits."""
    fitting = need.most_slices(room)
    if not fitting:
        return (
            "not even one slice at a time fits: `recompute` needs less, `preset` small far less; "
            "or prepare smaller slices (`size`)"
        )
    batch = settings.batch_size
    parts = next((k for k in range(1, batch + 1) if batch % k == 0 and batch // k <= fitting), 1)
    return f"`batch_size` {fitting} fits; so does `accumulate` {parts}, with the same gradients"


def fitting_batch(settings: TrainSettings, need: Need | None, room: int | None) -> TrainSettings:
    """The settings with the batch in as many parts as memory needs; the gradients stay.

    Raises:
        OptionError: not even one slice at a time fits.
    """
    if room is None or need is None or need.bytes(settings.batch_size) <= room:
        return settings
    fitting = need.most_slices(room)
    if not fitting:
        raise OptionError(
            f"one slice at a time needs {in_gb(need.bytes(1))} of memory",
            f"at most {in_gb(room)}, which are free",
            what_fits(settings, need, room),
        )
    batch = settings.batch_size
    parts = next(k for k in range(1, batch + 1) if batch % k == 0 and batch // k <= fitting)
    return replace(settings, accumulate=parts)


def in_gb(count: float) -> str:
    """Bytes as a person says them."""
    return f"{count / 1e9:.2g} GB" if count < 9.95e9 else f"{count / 1e9:.0f} GB"
