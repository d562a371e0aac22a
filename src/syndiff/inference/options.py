"""The options of a translation, which side-cars record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from syndiff.errors import OptionError
from syndiff.translators.sampling import CHAIN, MOST_SAMPLES, Sampling

PRECISIONS = ("32", "bf16")
MOST_SEED = 2**63 - 1
MOST_BATCH = 65_536
# These options change the duration or the warnings of a translation, never its values.
VALUES_DO_NOT_DEPEND_ON = ("batch_size", "device", "compiled", "check", "allow_synthetic")


@dataclass(frozen=True)
class TranslationOptions:
    """How a translation is run.

    Attributes:
        seed: seed of the noise, 0 to 2⁶³ - 1.
        batch_size: slices per batch; bounds the memory and does not change the result.
        device: "auto" (the GPU if there is one), "cpu", "cuda", "cuda:1", …
        shared_noise: use the same noise for all slices, so that a volume is coherent along z.
        sampling: one chain, the mean of several chains, or a regression; and the number of steps.
        precision: "32" (float32) or "bf16" (mixed precision). "bf16" is about twice as fast on
            processors that support it, and differs from "32" by the rounding of bf16.
        compiled: compile the networks with torch at the first batch, which takes minutes.
        check: measure whether the anatomy stayed in place.
        allow_synthetic: accept a source that is marked as synthetic.
        accelerate: undersample the sources as the training scans were; otherwise they are taken
            as acquired with that acceleration.
        samples: number of chains whose mean and standard deviation are made beside the result,
            with the seeds `seed`, `seed` + 1, …; 0: none.

    Raises:
        OptionError: a value is out of range or unknown; the message names the field.
    """

    seed: int = 0
    batch_size: int = 8
    device: str = "auto"
    shared_noise: bool = True
    sampling: Sampling = CHAIN
    precision: str = "32"
    compiled: bool = False
    check: bool = True
    allow_synthetic: bool = False
    accelerate: bool = False
    samples: int = 0

    def __post_init__(self) -> None:
        _whole_number("seed", self.seed, 0, MOST_SEED)
        _whole_number("batch_size", self.batch_size, 1, MOST_BATCH)
        if self.precision not in PRECISIONS:
            expected = f"one of {', '.join(PRECISIONS)}"
            raise OptionError(f"`precision` {self.precision!r}", expected)
        if not self.device:
            raise OptionError("`device` is empty", "auto, cpu or cuda")
        if self.samples:
            _whole_number("samples", self.samples, 2, MOST_SAMPLES)
            if self.sampling.way != "chain":
                raise OptionError(f"`samples` beside `sampling` {self.sampling.way}", "chain")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def deciding(self) -> dict[str, Any]:
        """Plain values of the options that determine the image."""
        return {k: v for k, v in self.to_dict().items() if k not in VALUES_DO_NOT_DEPEND_ON}


def _whole_number(field: str, value: object, least: int, most: int) -> None:
    is_one = isinstance(value, int) and not isinstance(value, bool)
    if not (is_one and least <= value <= most):  # type: ignore[operator]
        raise OptionError(f"`{field}` {value!r}", f"a whole number from {least} to {most}")


DEFAULTS = TranslationOptions()
