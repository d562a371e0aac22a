"""How a translation is run: every option by name, recorded as it was."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from syndiff.errors import OptionError
from syndiff.translators.sampling import CHAIN, Sampling

PRECISIONS = ("32", "bf16")
MOST_SEED = 2**63 - 1
MOST_BATCH = 65_536
# These change how long a translation takes or what is said of it, never its values.
VALUES_DO_NOT_DEPEND_ON = ("batch_size", "device", "compiled", "check", "allow_synthetic")


@dataclass(frozen=True)
class TranslationOptions:
    """How a translation is run.

    Attributes:
        seed: of the noise, 0 to 2⁶³ - 1.
        batch_size: slices at a time; bounds the memory, does not change the result.
        device: "auto" (the GPU if there is one), "cpu", "cuda", "cuda:1", …
        shared_noise: one noise for all slices, so that a volume is coherent along z.
        sampling: a chain, the expectation of several, or a regression; and in how many steps.
        precision: "32"; or "bf16", mixed: about twice as fast where the processor has it, and as
            near to "32" as bf16 is.
        compiled: have torch compile the networks at the first batch, which takes minutes.
        check: measure whether the anatomy stays where it is.
        allow_synthetic: take a source that is marked as synthetic, too.

    Raises:
        OptionError: a value that there is not; the message names the field.
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

    def __post_init__(self) -> None:
        _whole_number("seed", self.seed, 0, MOST_SEED)
        _whole_number("batch_size", self.batch_size, 1, MOST_BATCH)
        if self.precision not in PRECISIONS:
            expected = f"one of {', '.join(PRECISIONS)}"
            raise OptionError(f"`precision` {self.precision!r}", expected)
        if not self.device:
            raise OptionError("`device` is empty", "auto, cpu or cuda")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def deciding(self) -> dict[str, Any]:
        """Plain values of those options that the image depends on."""
        return {k: v for k, v in self.to_dict().items() if k not in VALUES_DO_NOT_DEPEND_ON}


def _whole_number(field: str, value: object, least: int, most: int) -> None:
    is_one = isinstance(value, int) and not isinstance(value, bool)
    if not (is_one and least <= value <= most):  # type: ignore[operator]
        raise OptionError(f"`{field}` {value!r}", f"a whole number from {least} to {most}")


DEFAULTS = TranslationOptions()
