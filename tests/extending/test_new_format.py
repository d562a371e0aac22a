"""A new file format: a file with its reader and writer, and a line in `FORMATS`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from syndiff.inference import TranslationOptions, translate_file
from syndiff.io import formats
from syndiff.io.volume import Volume, same_grid
from syndiff.preparation import discover
from tests.helpers.translators import build
from tests.helpers.volumes import head


def read_npz(path: Path) -> Volume:
    """Values and affine of a numpy archive."""
    with np.load(path) as held:
        return Volume(held["array"], held["affine"], synthetic=str(held["synthetic"]))


def write_npz(volume: Volume, path: Path, description: str) -> None:
    np.savez(path, array=volume.array, affine=volume.affine, synthetic=volume.synthetic)


@pytest.fixture
def npz(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line in the table, and what follows from the table as soon as it is imported."""
    table = (*formats.FORMATS, formats.Format("numpy", (".npz",), read_npz, write_npz))
    monkeypatch.setattr(formats, "FORMATS", table)
    for name in ("SUFFIXES", "READABLE", "WRITABLE"):
        monkeypatch.setattr(formats, name, (*getattr(formats, name), ".npz"))
    monkeypatch.setattr(discover, "SUFFIXES", formats.SUFFIXES)


@pytest.mark.usefixtures("npz")
def test_it_is_found_read_translated_and_written(tmp_path: Path) -> None:
    scan = tmp_path / "raw" / "sub-1" / "anat" / "sub-1_T1w.npz"
    scan.parent.mkdir(parents=True)
    formats.write(head(), scan)
    assert discover.find_scans(tmp_path / "raw", ("T1",)) == {
        "sub-1": {"T1": scan.relative_to(tmp_path / "raw")}
    }
    assert same_grid(formats.read(scan), head())
    model = build().save(tmp_path / "T1_to_T2")
    made = translate_file(model, scan, tmp_path / "T2.npz", TranslationOptions(device="cpu"))
    written = formats.read(tmp_path / "T2.npz")
    np.testing.assert_array_equal(written.array, made.volume.array)
    assert "SYNTHETIC" in written.synthetic
