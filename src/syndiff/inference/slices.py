"""Translate normalised slices in batches, which bound the memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from syndiff.errors import OptionError
from syndiff.inference.options import DEFAULTS, TranslationOptions
from syndiff.networks.compiled import compiled as compiled_networks
from syndiff.reporting import SILENT, Reporter
from syndiff.translators import Translator


def choose_device(name: str = "auto") -> torch.device:
    """The torch device `name`; "auto" is the GPU if there is one, else the CPU.

    Raises:
        OptionError: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise OptionError(
            f"the `device` {name!r} is not available here", "auto, cpu or cuda"
        ) from error


def translate_slices(
    translator: Translator,
    slices: NDArray[Any],
    options: TranslationOptions = DEFAULTS,
    *,
    indices: NDArray[np.integer] | None = None,
    report: Reporter = SILENT,
) -> NDArray[np.float32]:
    """Translate normalised slices at the pixel size of the translator.

    Args:
        translator: the translator to apply.
        slices: (n, h, w), or (n, c, h, w) for several source modalities, in [0, 1].
        options: how the slices are translated.
        indices: (n,) each slice's index, which selects its noise; 0 … n - 1 if not given.
        report: receives the number of finished slices.

    Returns:
        (n, h, w) float32 in [0, 1].

    Raises:
        OptionError: the device is not available, the translator does not support the sampling or
            its number of steps, or the networks cannot be compiled.
    """
    sampling, device = options.sampling, choose_device(options.device)
    if options.compiled and not translator.compilable:
        raise OptionError(f"`compiled` with {translator.kind}", "a translator that torch runs")
    translator.chain_steps(sampling.steps)
    translator = translator.for_precision(options.precision).to(device).eval()
    slices = slices[:, None] if slices.ndim == 3 else slices
    n, _, h, w = slices.shape
    places = np.arange(n) if indices is None else np.asarray(indices)
    result = np.empty((n, h, w), np.float32)
    at_once = max(1, options.batch_size // sampling.images)
    for start in range(0, n, at_once):
        part = slice(start, min(start + at_once, n))
        chosen = np.arange(part.start, part.stop)
        if options.compiled:  # compiled for one batch size, so the last batch is filled up
            chosen = np.resize(chosen, at_once)
        run = partial(
            sampling.run,
            translator,
            seed=options.seed,
            indices=places[chosen].tolist(),
            shared=options.shared_noise,
        )
        batch = torch.from_numpy(np.ascontiguousarray(slices[chosen], dtype=np.float32))
        mixed = torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16")
        with mixed, compiled_networks(translator.compilable, options.compiled):
            image = _translate_batch(run, batch.to(device), translator.size_multiple)
        result[part] = image[: part.stop - part.start]
        report.progress(part.stop, n)
    return result


@torch.inference_mode()
def _translate_batch(
    run: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor, multiple: int
) -> NDArray[np.float32]:
    """Translate (b, c, h, w) in [0, 1] to (b, h, w) in [0, 1].

    The batch is padded with air to multiples of `multiple`, and the result is cropped again.
    """
    h, w = batch.shape[-2:]
    bottom, right = -h % multiple, -w % multiple
    padded = torch.nn.functional.pad(batch * 2 - 1, (0, right, 0, bottom), value=-1.0)
    image = run(padded)[:, 0, :h, :w]
    return ((image.clamp(-1, 1) + 1) / 2).float().cpu().numpy()
