"""Trace a translator to a program of `torch.export`, for any batch and image size."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from syndiff.translators import Explicit, Shape, Translator

IMAGE: Shape = ("batch", 1, "height", "width")


def inputs_of(translator: Translator, explicit: Explicit, part: str) -> dict[str, Shape]:
    """Name → shape of each input of the exported function, in order.

    Args:
        translator: the translator to export.
        explicit: its function with the noise as an input.
        part: "chain" or "step", see `export`.
    """
    source: Shape = ("batch", len(translator.sources), "height", "width")
    draws: dict[str, Shape] = {name: ("batch", *shape) for name, shape in explicit.draws.items()}
    if not explicit.steps:
        return {"source": source} | draws
    if part == "step":
        return {"x_t": IMAGE, "source": source, "t": ("batch",)} | draws
    stacked: dict[str, Shape] = {
        name: ("batch", explicit.steps, *shape) for name, shape in explicit.draws.items()
    }
    return {"source": source, "x_T": IMAGE} | stacked


def random_inputs(
    inputs: Mapping[str, Shape], steps: int, sizes: Mapping[str, int], seed: int = 0
) -> dict[str, Tensor]:
    """Random values for every input, to trace and to compare with.

    Args:
        inputs: see `inputs_of`.
        steps: number of reverse steps.
        sizes: the values of "batch", "height" and "width".
        seed: seed of the values.

    Returns:
        Name → tensor: the source uniform in [-1, 1], t random step indices, all other inputs
        standard normal.
    """
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for name, shape in inputs.items():
        numbers = [n if isinstance(n, int) else sizes[n] for n in shape]
        if name == "t":
            values[name] = torch.randint(steps, numbers, generator=generator)
        elif name == "source":
            values[name] = torch.rand(numbers, generator=generator) * 2 - 1
        else:
            values[name] = torch.randn(numbers, generator=generator)
    return values


def program_of(
    translator: Translator,
    function: Callable[..., Tensor],
    inputs: Mapping[str, Shape],
    steps: int,
) -> ExportedProgram:
    """Trace `function`, whose weights belong to `translator`.

    Args:
        translator: a translator on the CPU, in evaluation mode.
        function: the function to trace; its tensors have the order of `inputs`.
        inputs: see `inputs_of`.
        steps: number of reverse steps.

    Returns:
        A program for any batch size, and for all heights and widths that the translator accepts.
    """
    multiple = translator.size_multiple
    dims: dict[str, Any] = {"batch": Dim("batch", min=1)}
    for name in ("height", "width"):
        unit = Dim(f"{name}_units", min=1)
        dims[name] = multiple * unit if multiple > 1 else unit
    sizes = {"batch": 2, "height": 2 * multiple, "width": 3 * multiple}
    values = random_inputs(inputs, steps, sizes)
    shapes = tuple(
        {axis: dims[n] for axis, n in enumerate(shape) if isinstance(n, str)}
        for shape in inputs.values()
    )
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch warns about its own internals
        program = torch.export.export(
            _Function(translator, function), tuple(values.values()), dynamic_shapes=(shapes,)
        )
    for node in program.graph.nodes:  # stack traces hold file names of the exporting machine
        node.meta.pop("stack_trace", None)
    return program


def unrolled(explicit: Explicit) -> Callable[..., Tensor]:
    """The whole chain as an unrolled loop over the steps: (source, x_T, *draws) → image."""

    def chain(source: Tensor, x_T: Tensor, *draws: Tensor) -> Tensor:
        x = x_T
        for place, index in enumerate(reversed(range(explicit.steps))):
            t = torch.full((source.shape[0],), index, dtype=torch.long)
            x = explicit.function(x, source, t, *(draw[:, place] for draw in draws))
        return x

    return chain


class _Function(nn.Module):
    """A module that calls a function and holds the translator whose weights the function uses."""

    def __init__(self, translator: Translator, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.translator, self.function = translator, function

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.function(*tensors)
