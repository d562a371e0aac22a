"""What the processes of one run owe each other: one process per device, on one node or several.

Lightning starts them on one node; torchrun and srun start them on several. A single process is a
group of one, for which everything here is a matter of course.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch.distributed as dist
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.debugging_hooks import noop_hook
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from syndiff.errors import UserError

T = TypeVar("T")
# In gloo's messages, which come as plain RuntimeErrors; NCCL's are a kind of their own.
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


def gathered(value: T) -> list[T]:
    """What each process gives, in the order of their ranks; every process must call it."""
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
        parts: each process's sums and how many values are in them. A term may be missing in some,
            as the one for pairs is where a process had none.
    """
    names = dict.fromkeys(name for sums, _ in parts for name in sums)
    return {
        name: sum(sums.get(name, 0.0) for sums, _ in parts)
        / sum(counts.get(name, 0) for _, counts in parts)
        for name in names
    }


def by_the_first(first: bool, work: Callable[[], None]) -> None:
    """Let the first process do something while the others wait for it.

    Args:
        first: whether this process is the first one.
        work: what it does.

    Raises:
        UserError: the first process's, in every process, so that all of them leave.
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


class Turn:
    """The player whose backward pass it is; only its gradients are exchanged.

    Otherwise each player's backward pass would send the other's stale gradients too.
    """

    def __init__(self) -> None:
        self.of: frozenset[Tensor] = frozenset()

    def govern(self, model: nn.Module | None) -> None:
        """From now on, if the model is one of several processes."""
        if isinstance(model, DistributedDataParallel):
            # A lambda, because annotations that are text are refused.
            model.register_comm_hook(self, lambda turn, bucket: turn.exchange(bucket))

    def exchange(self, bucket: Any) -> Future[Tensor]:
        """The bucket's gradients, a mean over all processes if it is the turn of one of them."""
        if self.of.isdisjoint(bucket.parameters()):
            return noop_hook(None, bucket)
        return allreduce_hook(dist.group.WORLD, bucket)  # type: ignore[arg-type]


def is_loss(error: RuntimeError) -> bool:
    """Whether an error means that another process is gone."""
    return isinstance(error, dist.DistError) or any(word in str(error) for word in GLOO)
