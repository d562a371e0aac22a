"""The peak rate of a device, measured with matrix products and with convolutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F

from syndiff.benchmark.measure import Call, measure

DTYPES = {"32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Work:
    """Sizes of the measured operations: large enough to keep a device busy, yet quickly done.

    Attributes:
        product: rows and columns of the square matrices.
        batch, channels, size: of the 3×3 convolution, as many channels out as in.
    """

    product: int
    batch: int
    channels: int
    size: int


WORK = {"cuda": Work(8192, 16, 256, 128), "cpu": Work(1024, 1, 256, 64)}
TINY_WORK = Work(64, 1, 8, 16)


def ceiling(device: torch.device, precision: str, work: Work | None = None) -> dict[str, float]:
    """The best of a few repeats, in floating-point operations per second.

    float32 follows torch's settings: by default TensorFloat-32 in convolutions on newer GPUs, not
    in matrix products. The convolution is tried in both memory layouts.

    Returns:
        "matmul" and "convolution".
    """
    work = work or WORK.get(device.type, WORK["cpu"])
    dtype, n = DTYPES[precision], work.product
    matrix = torch.randn(n, n, device=device).to(dtype)
    image = torch.randn(work.batch, work.channels, work.size, work.size, device=device).to(dtype)
    weight = torch.randn(work.channels, work.channels, 3, 3, device=device).to(dtype)
    layout = torch.channels_last
    other = image.contiguous(memory_format=layout), weight.contiguous(memory_format=layout)
    convolution_flop = 2 * 9 * work.channels**2 * work.size**2 * work.batch
    with torch.inference_mode():
        return {
            "matmul": _rate(2 * n**3, device, lambda: matrix @ matrix),
            "convolution": _rate(
                convolution_flop,
                device,
                lambda: F.conv2d(image, weight, padding=1),
                lambda: F.conv2d(*other, padding=1),
            ),
        }


def _rate(flop: int, device: torch.device, *ways: Callable[[], object]) -> float:
    """Rate of the fastest of several ways, in floating-point operations per second."""
    found = measure([Call(way, warmup=2, repeats=5) for way in ways], device)
    return flop / min(second for measured in found for second in measured.seconds)


def describe_work(device: torch.device, work: Work | None = None) -> dict[str, int]:
    """The sizes that `ceiling` used, for the record."""
    return asdict(work or WORK.get(device.type, WORK["cpu"]))
