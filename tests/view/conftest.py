"""Images of a small head: source, what was made of it, and an acquired one on another grid."""

from __future__ import annotations

from pathlib import Path

import pytest

from syndiff.io import formats
from syndiff.io.marks import SYNTHETIC_MARK
from syndiff.io.volume import Volume
from tests.helpers.lopsided import AFFINE, SHAPE, head


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Role → file."""
    folder = tmp_path_factory.mktemp("scans")
    other = AFFINE.copy()
    other[:3, 3] += (3.0, -4.0, 5.0)
    made = {
        "source": Volume(head(AFFINE, SHAPE, bright=200), AFFINE),
        "synthetic": Volume(
            head(AFFINE, SHAPE, bright=300), AFFINE, synthetic=f"{SYNTHETIC_MARK}: T2 from T1"
        ),
        "acquired": Volume(head(other, SHAPE, bright=280), other),
    }
    files = {role: folder / f"{role}.nii.gz" for role in made}
    for role, volume in made.items():
        formats.write(volume, files[role])
    return files
