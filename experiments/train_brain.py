"""Train brain-t1-t2 on virtual heads: train_brain.py TISSUES OUT --minutes M [--resume PATH]."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from real_pairs import MixedPairs
from virtual_pairs import VirtualTraining, train

from syndiff.networks.context_unet import ContextUNet
from syndiff.phantom.head_slices import Head, draw_pair


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tissues", type=Path, help="folder of .npy tissue maps (z, y, x)")
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--resume", type=Path)
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
    resume, real, share = (arguments.pop(k) for k in ("resume", "real", "real_share"))
    draw = MixedPairs(np.load(real), share) if real else draw_pair
    heads = [
        Head(np.load(path), *((0.5, False) if "subject" in path.name else (1.0, True)))
        for path in sorted(folder.glob("*.npy"))
    ]
    heads += [head for head in heads if head.eyes]  # the maps that tell more tissues apart: twice
    torch.set_num_threads(1)
    torch.manual_seed(arguments["seed"])
    network = ContextUNet()
    print(len(heads), "heads", sum(p.numel() for p in network.parameters()), "weights", flush=True)
    train(
        network,
        heads,
        out,
        VirtualTraining(**arguments),
        resume=resume,
        draw=draw,
        say=lambda line: print(line, flush=True),
    )


if __name__ == "__main__":
    main()
