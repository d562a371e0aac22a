"""torch.compile for whole networks: optional, and off by default.

Compilation may pay on a GPU, where launching a small operation can cost more than running it; it
takes minutes. On a CPU it made nothing faster (docs/performance.md). Networks
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
    """Let each network be compiled when it is first called with images of a new size.

    Weights, parameter names and checkpoints stay the same.
    """
    import torch._dynamo  # a slow import, needed only for compilation

    # Compile whole networks under DistributedDataParallel too; by default it would split them.
    torch._dynamo.config.optimize_ddp = False
    for network in networks:
        network.compile(dynamic=False, backend=BACKEND)


def uncompiled(network: nn.Module) -> Callable[..., Any]:
    """The network's uncompiled call, with its hooks; compiled code has no second derivative."""
    return network._call_impl


@contextmanager
def compiled(networks: Iterable[nn.Module], wanted: bool = True) -> Iterator[None]:
    """Run the networks compiled inside the context, if `wanted`, and uncompiled after it.

    Compiled code is cached for the next time.

    Raises:
        OptionError: no compiler is installed, or compilation failed.
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
    """Turn a failed compilation inside the context into an error of one line.

    Raises:
        OptionError: no compiler is installed, or compilation failed.
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
