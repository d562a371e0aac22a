"""Make a translator folder of a training's averaged weights: export_brain.py RUN/average.pt OUT."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from syndiff.files import write_json
from syndiff.networks.context_unet import ContextUNet
from syndiff.translators import CONFIG, WEIGHTS, OneShotTranslator

WIDTHS = [16, 32, 96, 128, 160, 160]


def main() -> None:
    weights, out = Path(sys.argv[1]), Path(sys.argv[2])
    network = ContextUNet(widths=WIDTHS)
    network.load_state_dict(torch.load(weights, weights_only=True))
    scale = {"rule": "robust", "unit": "a.u.", "window": None}
    config = {
        "sources": ["T1"],
        "target": "T2",
        "spacing_mm": 1.0,
        "size": [192, 192],
        "axes": "RAS+; slices (z, y, x), z ascending to superior",
        "intensity": {
            "T1": scale | {"scale": 4.0, "training_mean": 300.0},
            "T2": scale | {"scale": 4.4, "training_mean": 300.0},
        },
        "method": "supervised on virtual heads",
        "network": {"name": "context_unet", "widths": WIDTHS},
    }
    translator = OneShotTranslator(network, config)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / CONFIG, translator.config)
    half = {k: v.half() if v.is_floating_point() else v for k, v in translator.state_dict().items()}
    save_file({k: v.contiguous() for k, v in half.items()}, out / WEIGHTS)


if __name__ == "__main__":
    main()
