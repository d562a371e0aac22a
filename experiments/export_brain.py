"""Make a translator folder of a training's averaged weights.

    python experiments/export_brain.py RUN OUT [--card CARD.json]

RUN is a folder of train_brain.py. Normalisation is folded into the convolutions, the weights are
kept in half precision.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from syndiff.io.atomic import write_json
from syndiff.networks.context_unet import ContextUNet, folded
from syndiff.phantom.head_slices import BRIGHTNESS, TARGET_PEAK
from syndiff.translators import CONFIG, WEIGHTS, OneShotTranslator

GREY_LEVELS = 300.0  # the brightness given to a head's mean (T1w) or to white matter (T2w)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--card", type=Path, help="JSON: trained_on, measured, not_for, …")
    arguments = parser.parse_args()
    network = ContextUNet()
    network.load_state_dict(torch.load(arguments.run / "average.pt", weights_only=True))
    last = torch.load(arguments.run / "last.pt", weights_only=True)
    scale = {"rule": "robust", "unit": "a.u.", "window": None, "training_mean": GREY_LEVELS}
    config = {
        "sources": ["T1"],
        "target": "T2",
        "spacing_mm": 1.0,
        "size": [224, 192],
        "axes": "RAS+; slices (z, y, x), z ascending to superior",
        "intensity": {"T1": scale | {"scale": BRIGHTNESS}, "T2": scale | {"scale": TARGET_PEAK}},
        "method": "supervised on virtual pairs",
        "training": {"steps": last["step"], "batch_size": 4, "virtual_heads": 32},
        "network": {"name": "context_unet", "widths": network.widths, "folded": True},
    }
    if arguments.card:
        config["card"] = json.loads(arguments.card.read_text(encoding="utf-8"))
    translator = OneShotTranslator(folded(network), config)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out / CONFIG, translator.config)
    half = {name: w.half().contiguous() for name, w in translator.state_dict().items()}
    save_file(half, arguments.out / WEIGHTS)


if __name__ == "__main__":
    main()
