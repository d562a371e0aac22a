"""What the processes of one run exchange: one process per device, on one node or several.

Lightning starts the processes on one node; torchrun and srun start them on several. A single
process is a group of one, and every function here works for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.debugging_hooks import noop_hook
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from syndiff.errors import UserError

T = TypeVar("T")
# Words in gloo's errors, which are plain RuntimeErrors; NCCL's errors have their own class.
GLOO = ("gloo", "pair closure")


def launched() -> tuple[int, int] | None:
    """(processes per node, nodes) if torchrun or srun has started this process, else None."""
    env = os.environ
    if dist.is_available() and dist.is_torchelastic_launched():
        here, total = int(env["LOCAL_WORLD_SIZE"]), int(env["WORLD_SIZE"])
        return here, total // here
    if SLURMEnvironment.detect():
        nodes = int(env.get("SLURM_NNODES", 1))
        return int(env["SLURM_NTASKS"]) // nodes, nodes
    return None


def is_alone(devices: str, nodes: int) -> bool:
    """Whether a run on these devices and nodes is one process."""
    if launched() is not None or nodes > 1:
        return False
    if devices == "auto" or devices == "cuda":
        return torch.cuda.device_count() <= 1
    return devices in ("cpu", "1")


def gathered(value: T) -> list[T]:
    """The values of all processes, in the order of their ranks. Every process must call it."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def pooled_means(
    parts: Sequence[tuple[Mapping[str, float], Mapping[str, int]]],
) -> dict[str, float]:
    """Mean of each term over all processes.

    Args:
        parts: each process's sums and numbers of values. A term may be missing in some processes,
            e.g. that of pairs in a process that had none.
    """
    names = dict.fromkeys(name for sums, _ in parts for name in sums)
    return {
        name: sum(sums.get(name, 0.0) for sums, _ in parts)
        / sum(counts.get(name, 0) for _, counts in parts)
        for name in names
    }


def on_rank_zero(first: bool, work: Callable[[], None]) -> None:
    """Let rank 0 do something while the other processes wait for it.

    Args:
        first: whether this process is rank 0.
        work: what rank 0 does.

    Raises:
        UserError: the error of rank 0, raised in every process so that all of them end.
    """
    problem: UserError | None = None
    if first:
        try:
            work()
        except UserError as error:
            problem = error
    problem = gathered(problem)[0]
    if problem is not None:
        raise problem


class GradientExchange:
    """Lets several processes exchange the gradients of one group of parameters at a time.

    Generators and discriminators are stepped one after the other. Without this, the backward pass
    of one group would also send the other group's gradients, which are of no use by then.
    """

    def __init__(self) -> None:
        self._group: frozenset[Tensor] = frozenset()

    def attach(self, model: nn.Module | None) -> None:
        """Control the exchange of the model's gradients from now on, with several processes."""
        if isinstance(model, DistributedDataParallel):
            # A lambda, because annotations that are text are refused.
            model.register_comm_hook(self, lambda exchange, bucket: exchange.reduce(bucket))

    @contextmanager
    def only(self, parameters: Iterable[Tensor]) -> Iterator[None]:
        """Inside, only the gradients of these parameters are exchanged."""
        self._group = frozenset(parameters)
        try:
            yield
        finally:
            self._group = frozenset()

    def reduce(self, bucket: Any) -> Future[Tensor]:
        """The bucket's gradients: their mean over all processes if the bucket is exchanged."""
        if self._group.isdisjoint(bucket.parameters()):
            return noop_hook(None, bucket)
        return allreduce_hook(dist.group.WORLD, bucket)  # type: ignore[arg-type]


def is_lost_process(error: RuntimeError) -> bool:
    """Whether an error means that another process has ended."""
    return isinstance(error, dist.DistError) or any(word in str(error) for word in GLOO)
