"""Keeps a step that is not finite from spoiling the weights, without waiting for the device."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from syndiff.errors import UserError

NEVER = 2**62


class DivergedError(UserError):
    """A loss or a gradient is not finite; no player has stepped on it, nor since.

    Attributes:
        step: the first such step.
        what: the terms or players that were not finite.
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
    """Remembers, on the device, each player's first step with a gradient that is not finite.

    Every process of a distributed run sees the same gradients, so that all of them stop at once.

    Args:
        players: their names.
    """

    def __init__(self, players: tuple[str, ...]) -> None:
        self.players = players
        self.first = torch.full((len(players),), NEVER)

    def check(self, player: str, parameters: Iterable[nn.Parameter], step: int) -> Tensor:
        """Look at a player's gradients.

        Returns:
            () 1.0 if these or any earlier gradients are not finite, else 0.0; on the device.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        # The cheapest reduction that keeps NaN and inf; it overflows at 1e19, no gradient either.
        norms = torch.stack(list(torch._foreach_norm(gradients)))
        self.first = self.first.to(norms.device)
        bad = ~norms.isfinite().all()
        here = torch.arange(len(self.players), device=bad.device) == self.players.index(player)
        self.first = torch.where(bad & here, self.first.clamp(max=step), self.first)
        return self.stopped_before(step + 1).float()

    def stopped_before(self, step: int) -> Tensor:
        """() bool, on the device: some earlier step was not finite."""
        return (self.first < step).any()

    def read(self) -> tuple[int, list[str]]:
        """The first bad step and its players, NEVER and none if all is well; waits."""
        steps = self.first.tolist()
        first = min(steps)
        return first, [
            player
            for player, step in zip(self.players, steps, strict=True)
            if step == first != NEVER
        ]
