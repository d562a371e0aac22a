"""The orientation of axial slices from other software, and the conversion to our axes and back.

Our slices are (z, y, x) of a RAS+ volume: row numbers grow to the patient's anterior and column
numbers to the patient's right, "AR". Other software stores slices as they are displayed. Two
letters give the directions in which rows and columns grow:

    PL  anterior at the top of the picture, the patient's right on its left (radiological)
    PR  the same, mirrored (neurological)
    LP  PL transposed, and so on: a letter of A and P, and one of L and R
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import OptionError

OURS = "AR"
# All eight ways in which a slice can lie.
CODES = tuple(code for y in "AP" for x in "RL" for code in (y + x, x + y))


@dataclass(frozen=True)
class SliceOrientation:
    """The directions in which the rows and columns of a slice grow.

    Attributes:
        code: two letters, rows first: one of A, P and one of L, R.
    """

    code: str = OURS

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise OptionError(
                f"the orientation {self.code!r}",
                f"one of {', '.join(CODES)}: where rows and columns grow to",
                "e.g. PL: anterior at the top, the patient's right on the left",
            )

    @property
    def transposed(self) -> bool:
        """Whether rows run along x and columns along y."""
        return self.code[0] in "RL"

    @property
    def reversed_axes(self) -> tuple[int, ...]:
        """Which of our axes (-2 is y, -1 is x) run the other way in such a slice."""
        ours = zip((-2, -1), OURS, strict=True)
        return tuple(axis for axis, letter in ours if letter not in self.code)

    def to_ours(self, slices: NDArray[Any]) -> NDArray[Any]:
        """(…, rows, columns) in this orientation → (…, y, x), as a view."""
        turned = np.swapaxes(slices, -1, -2) if self.transposed else slices
        return np.flip(turned, self.reversed_axes)

    def from_ours(self, slices: NDArray[Any]) -> NDArray[Any]:
        """Inverse of `to_ours`."""
        turned = np.flip(slices, self.reversed_axes)
        return np.swapaxes(turned, -1, -2) if self.transposed else turned
