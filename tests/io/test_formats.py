"""The table of formats: what is read and written, by which names."""

from __future__ import annotations

import pytest

from syndiff.io.formats import FORMATS, READABLE, SUFFIXES, WRITABLE, format_of, stem_of, suffix_of


def test_every_suffix_belongs_to_one_format() -> None:
    assert len(set(SUFFIXES)) == len(SUFFIXES)
    assert set(WRITABLE) <= set(READABLE) <= set(SUFFIXES)
    for kind in FORMATS:
        for suffix in kind.suffixes:
            assert format_of(f"SCAN{suffix.upper()}") is kind


@pytest.mark.parametrize(
    ("name", "stem", "suffix"),
    [
        ("sub-1_T1w.nii.gz", "sub-1_T1w", ".nii.gz"),
        ("a.b.NII", "a.b", ".nii"),
        ("x/orig.mgz", "orig", ".mgz"),
        ("notes.txt", "notes.txt", ""),
    ],
)
def test_names_are_parted_into_stem_and_suffix(name: str, stem: str, suffix: str) -> None:
    assert (stem_of(name), suffix_of(name)) == (stem, suffix)
