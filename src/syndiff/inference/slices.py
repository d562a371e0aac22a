"""Translate normalised slices; memory is bounded by the batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from syndiff.errors import OptionError
from syndiff.networks.compiled import compiled as compiled_networks
from syndiff.translators import Translator
from syndiff.translators.sampling import Sampling

Progress = Callable[[int, int], None]
CHAIN = Sampling()
PRECISIONS = ("32", "bf16")


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is the GPU if there is one.

    Raises:
        OptionError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise OptionError(
            f"the device {name!r} is not available here", "auto, cpu or cuda", "use --device cpu"
        ) from error


def translate_slices(
    translator: Translator,
    slices: NDArray[Any],
    *,
    seed: int = 0,
    batch_size: int = 8,
    device: str = "auto",
    shared_noise: bool = True,
    sampling: Sampling = CHAIN,
    precision: str = "32",
    compiled: bool = False,
    indices: NDArray[Any] | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Translate normalised slices on the translator's own grid.

    Args:
        translator: what to apply.
        slices: (n, h, w), or (n, c, h, w) for several source modalities, in [0, 1].
        seed: of the noise.
        batch_size: images at a time; bounds the memory, does not change the result.
        device: "auto", "cpu", "cuda", …
        shared_noise: one noise for all slices, so that a volume is coherent along z.
        sampling: a chain, the expectation of several, or a regression.
        precision: "32"; or "bf16", mixed: about twice as fast where the processor has it, and as
            near to "32" as bf16 is.
        compiled: have torch compile the networks at the first batch, which takes minutes.
        indices: (n,) each slice's index in its volume, 0 … n - 1 if not given.
        progress: called with (slices done, slices in all).

    Returns:
        (n, h, w) float32 in [0, 1].

    Raises:
        OptionError: a batch size, device, precision or way of sampling that there is not; or the
            networks cannot be compiled.
    """
    if precision not in PRECISIONS:
        raise OptionError(f"the precision {precision!r}", f"one of {', '.join(PRECISIONS)}")
    if batch_size < 1:
        raise OptionError(f"a batch size of {batch_size}", "1 or more")
    target_device = choose_device(device)
    if compiled and not translator.compilable:
        raise OptionError(f"--compile with {translator.kind}", "a translator that torch runs")
    translator = translator.for_precision(precision).to(target_device).eval()
    sampling.prepare(translator)
    slices = slices[:, None] if slices.ndim == 3 else slices
    n, _, h, w = slices.shape
    places = np.arange(n) if indices is None else np.asarray(indices)
    result = np.empty((n, h, w), np.float32)
    at_once = max(1, batch_size // sampling.images)
    for start in range(0, n, at_once):
        part = slice(start, min(start + at_once, n))
        chosen = np.arange(part.start, part.stop)
        if compiled:  # for one size of batch: the last one is filled up
            chosen = np.resize(chosen, at_once)
        run = partial(
            sampling.run,
            translator,
            seed=seed,
            indices=places[chosen].tolist(),
            shared=shared_noise,
        )
        batch = torch.from_numpy(np.ascontiguousarray(slices[chosen], dtype=np.float32))
        mixed = torch.autocast(target_device.type, torch.bfloat16, enabled=precision == "bf16")
        with mixed, compiled_networks(translator.compilable, compiled):
            image = _translate_batch(run, batch.to(target_device), translator.size_multiple)
        result[part] = image[: part.stop - part.start]
        if progress:
            progress(part.stop, n)
    return result


@torch.inference_mode()
def _translate_batch(
    run: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor, multiple: int
) -> NDArray[np.float32]:
    """(b, c, h, w) in [0, 1] → (b, h, w) in [0, 1], padded with air to the network's multiple."""
    h, w = batch.shape[-2:]
    bottom, right = -h % multiple, -w % multiple
    padded = torch.nn.functional.pad(batch * 2 - 1, (0, right, 0, bottom), value=-1.0)
    image = run(padded)[:, 0, :h, :w]
    return ((image.clamp(-1, 1) + 1) / 2).float().cpu().numpy()
