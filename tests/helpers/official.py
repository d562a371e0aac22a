"""Files as the official SynDiff code leaves them: seeded weights under its names, .mat data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

OPTIONS: dict[str, Any] = {
    "image_size": 64,
    "num_channels": 2,
    "num_channels_dae": 8,
    "ch_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [16],
    "nz": 6,
    "z_emb_dim": 8,
    "n_mlp": 2,
}
Shapes = Iterator[tuple[str, tuple[int, ...]]]


def options(**changes: Any) -> dict[str, Any]:
    """A small generator's official options, some of them changed."""
    return OPTIONS | changes


def generator_state(seed: int = 0, prefix: str = "module.", **changes: Any) -> dict[str, Tensor]:
    """A diffusive generator's state dict with seeded values."""
    draw = torch.Generator().manual_seed(seed)
    return {
        prefix + name: 0.2 * torch.randn(shape, generator=draw)
        for name, shape in _generator(options(**changes))
    }


def _generator(o: dict[str, Any]) -> Shapes:
    """Names and shapes in the order in which the official network is built."""
    width, latent = o["num_channels_dae"], o["z_emb_dim"]
    widths = [width * m for m in o["ch_mult"]]
    sizes = [o["image_size"] // 2**level for level in range(len(widths))]
    blocks: list[tuple[str, int, int]] = []
    skips, c, pyramid = [width], width, o["num_channels"]
    for level, out in enumerate(widths):
        for _ in range(o["num_res_blocks"]):
            blocks.append(("residual", c, out))
            c = out
            if sizes[level] in o["attn_resolutions"]:
                blocks.append(("attention", c, c))
            skips.append(c)
        if level < len(widths) - 1:
            blocks += [("resampling", c, c), ("pyramid", pyramid, c)]
            pyramid = c
            skips.append(c)
    blocks += [("residual", c, c), ("attention", c, c), ("residual", c, c)]
    for level, out in reversed(list(enumerate(widths))):
        for _ in range(o["num_res_blocks"] + 1):
            blocks.append(("residual", c + skips.pop(), out))
            c = out
        if sizes[level] in o["attn_resolutions"]:
            blocks.append(("attention", c, c))
        if level:
            blocks.append(("resampling", c, c))

    def layer(name: str, *weight: int) -> Shapes:
        yield from ((f"{name}.weight", weight), (f"{name}.bias", weight[:1]))

    yield from layer("all_modules.0", 4 * width, width)
    yield from layer("all_modules.1", 4 * width, 4 * width)
    yield from layer("all_modules.2", width, o["num_channels"], 3, 3)
    for place, (kind, before, after) in enumerate(blocks, start=3):
        name = f"all_modules.{place}"
        if kind == "pyramid":
            yield from layer(f"{name}.Conv2d_0", after, before, 3, 3)
        elif kind == "attention":
            yield from layer(f"{name}.GroupNorm_0", after)
            for i in range(4):
                yield from ((f"{name}.NIN_{i}.W", (after, after)), (f"{name}.NIN_{i}.b", (after,)))
        else:
            yield from layer(f"{name}.GroupNorm_0.style", 2 * before, latent)
            yield from layer(f"{name}.Conv_0", after, before, 3, 3)
            yield from layer(f"{name}.Dense_0", after, 4 * width)
            yield from layer(f"{name}.GroupNorm_1.style", 2 * after, latent)
            yield from layer(f"{name}.Conv_1", after, after, 3, 3)
            if before != after or kind == "resampling":
                yield from layer(f"{name}.Conv_2", after, before, 1, 1)
    last = 3 + len(blocks)
    yield from layer(f"all_modules.{last}", c)
    yield from layer(f"all_modules.{last + 1}", o["num_channels"], c, 3, 3)
    yield from layer("z_transform.1", latent, o["nz"])
    for i in range(o["n_mlp"]):
        yield from layer(f"z_transform.{3 + 2 * i}", latent, latent)


def pictures(count: int, seed: int, rows: int = 48, columns: int = 30) -> NDArray[np.float32]:
    """(n, rows, columns) heads of different sizes, a bright spot near the upper left corner."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    made = np.zeros((count, rows, columns), np.float32)
    for image, size in zip(made, draw.uniform(0.7, 0.95, count), strict=True):
        radius = np.hypot((y / (rows - 1) - 0.5) / size, (x / (columns - 1) - 0.5) / size) * 2
        image[radius < 1] = 0.5
        image[radius < 0.6] = 0.65
        image[rows // 4 : rows // 4 + 3, columns // 3 : columns // 3 + 3] = 1.0
    return np.clip(made + 0.01 * draw.standard_normal(made.shape), -0.05, 1).astype(np.float32)


def write_mat(folder: Path, split: str, modality: str, shown: NDArray[Any]) -> Path:
    """A data file whose pictures, as the official loader shows them, are `shown`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"data_{split}_{modality}.mat"
    with h5py.File(path, "w") as file:
        file["data_fs"] = shown.swapaxes(1, 2)
    return path


def write_cohort(folder: Path, **shape: int) -> Path:
    """Files of T1 and T2 for every split, all with different slices."""
    for i, (split, count) in enumerate({"train": 5, "val": 2, "test": 3}.items()):
        for j, modality in enumerate(("T1", "T2")):
            shown = pictures(count, seed=10 * i + j, **shape)
            write_mat(folder, split, modality, shown if j == 0 else np.minimum(1, 1.3 * shown))
    return folder
