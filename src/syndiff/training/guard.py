"""Prevents a step that is not finite from changing the weights, without waiting for the device."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from syndiff.errors import UserError

NEVER = 2**62


class DivergedError(UserError):
    """A loss or a gradient is not finite.

    Neither optimizer has stepped on it or on any later batch.

    Attributes:
        step: the first step with such a value.
        what: the loss terms or groups of networks that were not finite.
    """

    def __init__(self, step: int, what: list[str]) -> None:
        self.step, self.what = step, what
        super().__init__(
            f"training diverged at step {step}: {', '.join(what)} not finite",
            remedy="the last checkpoint is from before",
        )

    def __reduce__(self) -> tuple[type, tuple]:
        return type(self), (self.step, self.what)


class Guard:
    """Records the first step at which a group of networks had a gradient that is not finite.

    The record stays on the device. Every process of a distributed run sees the same gradients, so
    all of them stop at the same step.

    Args:
        groups: names of the groups of networks.
    """

    def __init__(self, groups: tuple[str, ...]) -> None:
        self.groups = groups
        self.first = torch.full((len(groups),), NEVER)

    def check(self, group: str, parameters: Iterable[nn.Parameter], step: int) -> Tensor:
        """Check the gradients of a group of networks.

        Returns:
            () 1.0 if these or any earlier gradients are not finite, else 0.0; on the device.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        # The cheapest reduction that keeps NaN and inf. It overflows only at gradients of 1e19.
        norms = torch.stack(list(torch._foreach_norm(gradients)))
        self.first = self.first.to(norms.device)
        bad = ~norms.isfinite().all()
        here = torch.arange(len(self.groups), device=bad.device) == self.groups.index(group)
        self.first = torch.where(bad & here, self.first.clamp(max=step), self.first)
        return self.stopped_before(step + 1).float()

    def stopped_before(self, step: int) -> Tensor:
        """() bool, on the device: some earlier step was not finite."""
        return (self.first < step).any()

    def read(self) -> tuple[int, list[str]]:
        """The first bad step and the groups it concerns; waits for the device.

        They are NEVER and no group if every gradient was finite.
        """
        steps = self.first.tolist()
        first = min(steps)
        pairs = zip(self.groups, steps, strict=True)
        return first, [group for group, step in pairs if step == first != NEVER]
