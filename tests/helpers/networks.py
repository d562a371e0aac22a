"""Networks whose every weight matters."""

from __future__ import annotations

import torch


def awake(network: torch.nn.Module) -> torch.nn.Module:
    """Layers that start silent would hide errors: give every weight a size."""
    torch.manual_seed(0)
    for p in network.parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, 0, 0.2)
    return network.eval()
