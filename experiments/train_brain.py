"""Train a translator of heads: train_brain.py TISSUES OUT --minutes M [--source T1 --targets T2].

Several targets are channels of one network; export_brain.py makes a translator of each.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from real_pairs import MixedPairs
from torch import nn
from virtual_pairs import VirtualTraining, train

from syndiff.io.atomic import write_json
from syndiff.networks.context_unet import ContextUNet
from syndiff.phantom.head_contrast import CONTRASTS, TARGET_PEAKS
from syndiff.phantom.head_slices import Head, draw_slices

# What is brighter than grey matter in the fixed FLAIR is a lesion.
BRIGHT = {"T1": 1.0, "T2": 1.0, "FLAIR": 1.42 / TARGET_PEAKS["FLAIR"]}
DIRECTIONS = "directions.json"  # in a run's folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tissues", type=Path, help="folder of .npy tissue maps (z, y, x)")
    parser.add_argument("out", type=Path)
    parser.add_argument("--source", choices=CONTRASTS, default="T1")
    parser.add_argument("--targets", nargs="+", choices=CONTRASTS, default=["T2"])
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--begin", type=Path, help="average.pt to begin from: of any direction")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--decay-from", type=float, default=0.5)
    parser.add_argument("--structure", type=float, default=0.1)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--real", type=Path, help=".npy of brain_pairs.py, to mix in")
    parser.add_argument("--real-share", type=float, default=0.12)
    arguments = vars(parser.parse_args())
    folder, out = arguments.pop("tissues"), arguments.pop("out")
    source, targets = arguments.pop("source"), arguments.pop("targets")
    resume, begin, real, share = (
        arguments.pop(k) for k in ("resume", "begin", "real", "real_share")
    )
    virtual = partial(draw_slices, source=source, targets=targets)
    draw = MixedPairs(np.load(real), share, virtual) if real else virtual
    heads = [
        Head(np.load(path), *((0.5, False) if "subject" in path.name else (1.0, True)))
        for path in sorted(folder.glob("*.npy"))
    ]
    heads += [head for head in heads if head.eyes]  # the maps that tell more tissues apart: twice
    torch.set_num_threads(1)
    torch.manual_seed(arguments["seed"])
    network = ContextUNet(out_channels=len(targets))
    if begin:
        begin_from(network, begin)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / DIRECTIONS, {"source": source, "targets": targets})
    print(len(heads), "heads", sum(p.numel() for p in network.parameters()), "weights", flush=True)
    train(
        network,
        heads,
        out,
        VirtualTraining(**arguments, bright=tuple(BRIGHT[target] for target in targets)),
        resume=resume,
        draw=draw,
        say=lambda line: print(line, flush=True),
    )


def begin_from(network: nn.Module, path: Path) -> None:
    """Take over a trained network's weights; every target begins with its first channel."""
    weights = torch.load(path, weights_only=True)
    for name, mine in network.state_dict().items():
        if weights[name].shape != mine.shape:
            weights[name] = weights[name][:1].expand_as(mine).clone()
    network.load_state_dict(weights)


if __name__ == "__main__":
    main()
