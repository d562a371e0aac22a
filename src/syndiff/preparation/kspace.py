"""Accelerated MRI: k-space of which only a part was acquired, filled up with zeros (Sec. IV-A).

A slice (y, x) has a k-space of the same shape, its discrete Fourier transform. An acceleration of
4×4 keeps a quarter of it along each axis. The rest becomes zero, and the magnitude of the inverse
transform is the low-resolution image that a scanner would show, on the grid of the full one.

central   the block around k = 0, as in the paper: a sharp cut-off, hence ringing at edges
variable  a block half as wide around k = 0, and as many points again as are missing, drawn at
          random, the denser the nearer to k = 0; along one axis alone, whole lines are drawn

The transform is unitary, so that the energy of an image is that of its kept samples (Parseval).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import GeometryError, OptionError

Pattern = Literal["central", "variable"]
PATTERNS: tuple[str, ...] = get_args(Pattern)
LARGEST = 64.0  # of a factor
DECAY = 4.0  # power by which the density of random samples falls towards the rim of k-space
AT_ONCE = 16  # slices that are transformed together; bounds the memory


@dataclass(frozen=True)
class Acceleration:
    """How much of a slice's k-space is kept.

    Attributes:
        factors: (y, x) the full number of samples divided by the kept number, 1 to 64.
        pattern: "central" or "variable", see the module's docstring.
        seed: of the random samples of "variable".

    Raises:
        OptionError: a value is out of range.
    """

    factors: tuple[float, float]
    pattern: Pattern = "central"
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.factors) != 2 or not all(1 <= f <= LARGEST for f in self.factors):
            raise OptionError(
                f"an acceleration of {'x'.join(f'{f:g}' for f in self.factors)}",
                f"two factors of 1 to {LARGEST:g}, such as 4x4",
            )
        if self.pattern not in PATTERNS:
            raise OptionError(f"the undersampling {self.pattern!r}", " or ".join(PATTERNS))
        if not 0 <= self.seed < 2**63:
            raise OptionError(f"`seed` {self.seed}", "0 or more")

    @classmethod
    def parse(cls, text: str, pattern: str = "central", seed: int = 0) -> Acceleration:
        """ "4x4" or "4x1": the factors along y (rows) and x (columns)."""
        try:
            first, second = (float(part) for part in text.lower().replace("×", "x").split("x"))
        except ValueError as error:
            raise OptionError(f"an acceleration of {text!r}", "two factors such as 4x4") from error
        return cls((first, second), pattern, seed)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest and for translators."""
        return {"factors": list(self.factors), "pattern": self.pattern, "seed": self.seed}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Acceleration:
        """Inverse of `to_dict`."""
        return cls((content["factors"][0], content["factors"][1]), *_rest(content))

    @property
    def words(self) -> str:
        """ "4x4", or "4x4, variable density"."""
        factors = "x".join(f"{factor:g}" for factor in self.factors)
        return factors if self.pattern == "central" else f"{factors}, variable density"

    def kept(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The kept samples (y, x) of a k-space of this shape; k = 0 lies at (y // 2, x // 2)."""
        counts = [max(1, round(n / f)) for n, f in zip(shape, self.factors, strict=True)]
        if self.pattern == "central":
            return _block(shape, counts)
        random = np.random.default_rng(self.seed)
        if 1 in self.factors:  # whole lines across the axis that is not accelerated
            lines = [_drawn((n,), (c,), random) for n, c in zip(shape, counts, strict=True)]
            return np.asarray(lines[0][:, None] & lines[1][None, :])
        return _drawn(shape, counts, random)

    def undersampled(self, slices: NDArray[Any]) -> NDArray[np.float32]:
        """The slices (n, y, x) as a scanner would show them after this acceleration.

        Raises:
            GeometryError: they are no stack of slices.
        """
        if slices.ndim != 3:
            raise GeometryError(f"slices of shape {slices.shape}", "(n, y, x)")
        kept = self.kept((slices.shape[1], slices.shape[2]))
        low = np.empty(slices.shape, np.float32)
        for first in range(0, len(slices), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            low[part] = np.abs(image_of(kspace_of(slices[part]) * kept))
        return low


def kspace_of(slices: NDArray[Any]) -> NDArray[np.complex128]:
    """Slices (n, y, x) → their k-spaces, unitary, with k = 0 at (y // 2, x // 2)."""
    turned = np.fft.fft2(np.fft.ifftshift(slices, axes=(-2, -1)), norm="ortho")
    return np.asarray(np.fft.fftshift(turned, axes=(-2, -1)))


def image_of(kspace: NDArray[Any]) -> NDArray[np.complex128]:
    """The inverse of `kspace_of`."""
    turned = np.fft.ifft2(np.fft.ifftshift(kspace, axes=(-2, -1)), norm="ortho")
    return np.asarray(np.fft.fftshift(turned, axes=(-2, -1)))


def _rest(content: dict[str, Any]) -> tuple[Pattern, int]:
    return content.get("pattern", "central"), content.get("seed", 0)


def _block(shape: tuple[int, ...], counts: list[int] | tuple[int, ...]) -> NDArray[np.bool_]:
    """The central block of so many samples along each axis."""
    block = np.ones((), bool)
    for n, count in zip(shape, counts, strict=True):
        line = np.zeros(n, bool)
        line[n // 2 - count // 2 :][:count] = True
        block = block[..., None] & line
    return np.asarray(block)


def _drawn(
    shape: tuple[int, ...], counts: list[int] | tuple[int, ...], random: np.random.Generator
) -> NDArray[np.bool_]:
    """A central block, and random samples around it; as many together as the counts ask for."""
    block = _block(shape, [max(1, count // 2) for count in counts])
    if int(np.prod(counts)) == block.size:
        return np.ones(shape, bool)
    axes = [np.abs(np.arange(n) - n // 2) / (n / 2) for n in shape]
    grids = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt(np.sum([grid**2 for grid in grids], axis=0) / len(shape))
    weight = np.maximum(1.0 - radius, 1e-3) ** DECAY
    # The largest u^(1/w) are a sample without replacement by weight (Efraimidis and Spirakis).
    keys = np.log(random.random(shape)) / weight
    keys[block] = np.inf
    kept = np.zeros(block.size, bool)
    kept[np.argsort(-keys, axis=None, kind="stable")[: int(np.prod(counts))]] = True
    return kept.reshape(shape)
