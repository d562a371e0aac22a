"""Leave a step half-way: what it has changed by then is taken back.

A step of the largest networks may take minutes on a CPU, and who asks to stop does not wait for
its end. Until the generators are stepped only the discriminators, their optimizer and buffers have
changed; a slow step keeps a copy of these.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

SLOW_S = 1.0  # a shorter step is finished


class StepLeft(BaseException):
    """Raised inside a step that is to be left."""


class Leaving:
    """Whether the step at work can be left, and how.

    Attributes:
        left: whether the last step was left, and so was none.
        slow: whether the next step is expected to be slow, and so can be left.
        eager: have the backward pass listen to signals, too; a compiled one cannot.
    """

    def __init__(self, eager: bool = True) -> None:
        self.left, self.eager = False, eager
        self._asked = self._prepared = self._possible = False
        self.slow = True  # how long the first one takes is not known

    def ask(self) -> None:
        """Leave the step at work if it is slow, or else a slow one to come; for a signal handler.

        Raises:
            StepLeft: inside the step, which takes back what it did.
        """
        self._asked = True
        if self._possible:
            self._possible = False
            raise StepLeft

    def begin(self) -> None:
        """First thing in a step: from here on it can be left, if it is slow.

        Raises:
            StepLeft: somebody has asked before.
        """
        self._possible = self._prepared
        if self._possible and self._asked:
            self._possible = False
            raise StepLeft

    def no_more(self) -> None:
        """From here on the step is finished."""
        self._possible = False

    @contextmanager
    def step(
        self, changing: nn.Module, optimizer: torch.optim.Optimizer, buffers_of: nn.Module
    ) -> Iterator[None]:
        """Around a step.

        Args:
            changing, optimizer: what it updates between its calls of `begin` and `no_more`.
            buffers_of: networks whose buffers a forward pass may change.
        """
        self.left, started = False, time.monotonic()
        if not self.slow:
            yield
        else:
            take_back = _kept(changing, optimizer, buffers_of)
            try:
                with _listening() if self.eager else nullcontext():
                    self._prepared = True
                    yield
                    self._possible = False
            except StepLeft:
                take_back()
                self.left = True
            finally:
                self._possible = self._prepared = False
        self.slow = time.monotonic() - started > SLOW_S


def _kept(
    changing: nn.Module, optimizer: torch.optim.Optimizer, buffers_of: nn.Module
) -> Callable[[], None]:
    """A function that brings everything back to what it is now."""
    tensors = list(dict.fromkeys((*changing.parameters(), *buffers_of.buffers())))
    values = [tensor.detach().to("cpu", copy=True) for tensor in tensors]
    state = copy.deepcopy(optimizer.state_dict())

    def take_back() -> None:
        with torch.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)
        optimizer.load_state_dict(state)

    return take_back


def _listening() -> torch.autograd.graph.saved_tensors_hooks:
    """Python runs signal handlers between steps of its own, and a backward pass has none.

    With hooks it has one wherever it takes a saved tensor.
    """
    return torch.autograd.graph.saved_tensors_hooks(_same, _same)


def _same(tensor: Tensor) -> Tensor:
    return tensor
