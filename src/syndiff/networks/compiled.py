"""torch.compile for whole networks: never required, and off unless somebody asks for it.

It may pay where starting each small operation costs more than the operation itself, on a GPU, and
there after minutes of compiling. On a CPU it made nothing faster (docs/performance.md). Networks
that are mere sequences of layers (UNIT's, MUNIT's in part) are compiled block by block at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from syndiff.errors import OptionError

BACKEND: Any = "inductor"


def compile_networks(networks: Iterable[nn.Module]) -> None:
    """Have each network compile itself when it is first called with images of some size.

    Weights, names and files stay what they are.
    """
    import torch._dynamo  # slow; only who compiles waits for it

    # Whole networks, also below a model of several processes, which would have them split.
    torch._dynamo.config.optimize_ddp = False
    for network in networks:
        network.compile(dynamic=False, backend=BACKEND)


def uncompiled(network: nn.Module) -> Callable[..., Any]:
    """The network's plain call, hooks included: a compiled one has no second derivative."""
    return network._call_impl


@contextmanager
def compiled(networks: Iterable[nn.Module], wanted: bool = True) -> Iterator[None]:
    """Inside, the networks are called compiled, if that is wanted; outside as before.

    What has been compiled once is found again the next time.

    Raises:
        OptionError: there is no compiler here, or it failed.
    """
    if not wanted:
        yield
        return
    networks = list(networks)
    compile_networks(networks)
    try:
        with compiling():
            yield
    finally:
        for network in networks:
            network._compiled_call_impl = None


@contextmanager
def compiling(wanted: bool = True) -> Iterator[None]:
    """Say in one line that a network could not be compiled.

    Raises:
        OptionError: there is no compiler here, or it failed.
    """
    if not wanted:
        yield
        return
    from torch._dynamo.exc import BackendCompilerFailed, ShortenTraceback

    try:
        yield
    except (BackendCompilerFailed, ShortenTraceback) as error:
        inner = getattr(error, "inner_exception", error)
        lines = str(inner).strip().splitlines() or [type(inner).__name__]
        raise OptionError(
            f"`compiled`: the networks cannot be compiled here ({lines[0][:160]})",
            remedy="leave `compiled` out; it changes nothing but the speed",
        ) from error
