"""torch.compile for whole networks: never required, and off unless somebody asks for it.

It pays where starting each small operation costs more than the operation itself: on a GPU, and
there after minutes of compiling. On a CPU it made nothing faster (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from syndiff.errors import OptionError

BACKEND = "inductor"


def compile_networks(networks: Iterable[nn.Module], replay: bool = False) -> None:
    """Have each network compile itself when it is first called with images of some size.

    Weights, names and files stay what they are.

    Args:
        networks: to be called in place from now on.
        replay: as CUDA graphs too, which a GPU replays without the host; only for passes without
            gradients, whose results are used up before the next.
    """
    for network in networks:
        mode = "reduce-overhead" if replay and BACKEND == "inductor" else None
        network.compile(dynamic=False, backend=BACKEND, mode=mode)


def uncompiled(network: nn.Module) -> Callable[..., Any]:
    """The network's plain call, hooks included: a compiled one has no second derivative."""
    return network._call_impl


@contextmanager
def compiling() -> Iterator[None]:
    """Say in one line that a network could not be compiled.

    Raises:
        OptionError: there is no compiler here, or it failed.
    """
    from torch._dynamo.exc import BackendCompilerFailed

    try:
        yield
    except BackendCompilerFailed as error:
        reason = str(error.inner_exception).strip().splitlines()[0][:160]
        raise OptionError(
            f"--compile: the networks cannot be compiled here ({reason})",
            remedy="leave --compile out; it changes nothing but the speed",
        ) from error
