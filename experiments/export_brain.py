"""Make a translator folder of a training's averaged weights.

    python experiments/export_brain.py RUN OUT [--target T2] [--card CARD.json]

RUN is a folder of train_brain.py; of its targets one is taken. Normalisation is folded into the
convolutions, the weights are kept in half precision.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from train_brain import DIRECTIONS

from syndiff.io.atomic import read_json, write_json
from syndiff.networks.context_unet import ContextUNet, folded
from syndiff.phantom.head_contrast import CONTRASTS, TARGET_PEAKS
from syndiff.phantom.head_slices import BRIGHTNESS
from syndiff.translators import CONFIG, WEIGHTS, OneShotTranslator

GREY_LEVELS = 300.0  # the brightness given to a source's mean, or to a target's white matter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--target", choices=CONTRASTS, help="the first one, if not given")
    parser.add_argument("--card", type=Path, help="JSON: trained_on, measured, not_for, …")
    arguments = parser.parse_args()
    run = read_json(arguments.run / DIRECTIONS, "directions of a training")
    source, target = run["source"], arguments.target or run["targets"][0]
    network = ContextUNet(out_channels=len(run["targets"]))
    network.load_state_dict(torch.load(arguments.run / "average.pt", weights_only=True))
    network = only_channel(network, run["targets"].index(target))
    last = torch.load(arguments.run / "last.pt", weights_only=True)
    scale = {"rule": "robust", "unit": "a.u.", "window": None, "training_mean": GREY_LEVELS}
    intensity = {source: BRIGHTNESS, target: TARGET_PEAKS[target]}
    config = {
        "sources": [source],
        "target": target,
        "spacing_mm": 1.0,
        "size": [224, 192],
        "axes": "RAS+; slices (z, y, x), z ascending to superior",
        "intensity": {name: scale | {"scale": value} for name, value in intensity.items()},
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


def only_channel(network: ContextUNet, channel: int) -> ContextUNet:
    """The same network with one of its results."""
    one = ContextUNet(widths=network.widths)
    kept = {
        name: weight[channel : channel + 1] if name.startswith("out_conv") else weight
        for name, weight in network.state_dict().items()
    }
    one.load_state_dict(kept)
    return one


if __name__ == "__main__":
    main()
