"""Operations and allocations of a step, counted without computing: repeatable, unlike times.

The networks are built of fake tensors, which know their shape and hold no values; a dispatch mode
sees every operation on them. So the paper's networks at 256×256 are counted on any machine, in
seconds and in hardly any memory. All counts are made on (fake) CPU tensors.

The counts cover the floating-point operations of matrix products and convolutions; a
multiplication and an addition are two. Element-wise operations, normalisations and optimizers are
bound by memory and not counted.
"""

from __future__ import annotations

import warnings
import weakref
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


@dataclass
class Counts:
    """Operations and allocations of one call.

    Attributes:
        forward, backward: floating-point operations by network; "" is outside of any.
        calls: forward passes by network.
        allocations: number of tensors that got memory of their own.
        allocated_bytes: bytes of these tensors.
        peak_bytes: maximum of the bytes held at one time, including those held before.
    """

    forward: Counter[str] = field(default_factory=Counter)
    backward: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    allocations: int = 0
    allocated_bytes: int = 0
    peak_bytes: int = 0

    @property
    def flop(self) -> int:
        return self.forward.total() + self.backward.total()

    @property
    def flop_by_network(self) -> dict[str, int]:
        return dict(self.forward + self.backward)


class Counting(TorchDispatchMode):
    """Counts the operations inside the context. When entered again, it goes on counting.

    In the forward pass, hooks around the networks tell to which network an operation belongs. An
    operation of the backward pass belongs to the network in whose forward pass its autograd node
    was made. The sequence number of the node tells which one that is.

    Attributes:
        counts: counts since the start or the last `restart`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()
        self._inside: list[str] = []  # networks whose forward pass is running
        self._marks: list[tuple[int, str]] = [
            (0, "")
        ]  # nodes from this number on are the network's
        self._held: dict[int, weakref.ref[Any]] = {}
        self._held_bytes = 0

    def watch(self, networks: Mapping[str, nn.Module]) -> None:
        """Count the operations of each of these networks separately."""

        def enter(name: str) -> Callable[..., None]:
            def hook(*_: Any) -> None:
                self._inside.append(name)
                self._mark(_next_node(), name)
                self.counts.calls[name] += 1

            return hook

        def leave(*_: Any) -> None:
            self._inside.pop()
            self._mark(_next_node(), self._inside[-1] if self._inside else "")

        for name, network in networks.items():
            network.register_forward_pre_hook(enter(name))
            network.register_forward_hook(leave)

    def restart(self) -> None:
        """Set the counts to zero; memory that is held stays known."""
        self.counts = Counts(peak_bytes=self._held_bytes)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        owner, flop = self._owner()
        out = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            flop[owner] += formula(*args, **kwargs, out_val=out)
        self._hold(out, (args, kwargs))
        return out

    def _owner(self) -> tuple[str, Counter[str]]:
        """The network that is running, and the counter of its pass (forward or backward)."""
        node = torch._C._current_autograd_node()
        if node is None:
            return (self._inside[-1] if self._inside else ""), self.counts.forward
        place = bisect_right(self._marks, node._sequence_nr(), key=lambda mark: mark[0])
        owner = self._marks[place - 1][1]
        if torch.is_grad_enabled():  # a graph of the backward pass: its nodes are the network's
            self._mark(_next_node() - 1, owner)
        return owner, self.counts.backward

    def _mark(self, number: int, owner: str) -> None:
        while self._marks and self._marks[-1][0] >= number:  # no node was made since
            self._marks.pop()
        if not self._marks or self._marks[-1][1] != owner:
            self._marks.append((number, owner))

    def _hold(self, out: Any, given: Any) -> None:
        """Record memory that `out` holds and `given` did not."""
        old = {t.untyped_storage()._cdata for t in tree_leaves(given) if isinstance(t, Tensor)}
        for tensor in tree_leaves(out):
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key in old or key in self._held:
                continue
            self._held[key] = weakref.ref(storage, self._released(key, size))
            self._held_bytes += size
            self.counts.allocations += 1
            self.counts.allocated_bytes += size
            self.counts.peak_bytes = max(self.counts.peak_bytes, self._held_bytes)

    def _released(self, key: int, size: int) -> Callable[[Any], None]:
        def forget(_: Any) -> None:
            del self._held[key]
            self._held_bytes -= size

        return forget


def _next_node() -> int:
    """The sequence number that the next autograd node will get."""
    return torch._C._autograd._get_sequence_nr()


class CopyableFakeTensorMode(FakeTensorMode):
    """A fake tensor mode that networks can be deep-copied with."""

    def __deepcopy__(self, memo: Any) -> CopyableFakeTensorMode:
        return self


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Tensors made inside are fake.

    Only build networks inside: a step branches on the values of small real tensors of the host.
    Outside, operations may combine fake tensors with real ones.
    """
    with CopyableFakeTensorMode(allow_non_fake_inputs=True):
        yield


def count(
    build: Callable[[], Any],
    calls: Sequence[int],
    warm: bool = True,
) -> list[Counts]:
    """Counts of some calls of a workload that is built of fake tensors.

    Args:
        build: makes a workload with `networks` (by name) and `counted(number)`, the call to count.
        calls: numbers that `counted` is called with.
        warm: make one call before, so that the optimizers' moments exist already.

    Returns:
        The counts of each call.
    """
    counting, found = Counting(), []
    with warnings.catch_warnings(), fake_tensors(), counting:
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # by copies
        workload = build()
    counting.watch(workload.networks)
    for number in [*([calls[0]] if warm else []), *calls]:
        counting.restart()
        with counting:
            workload.counted(number)
        found.append(counting.counts)
    return found[1:] if warm else found
