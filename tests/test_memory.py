"""Freed memory that stays with the process."""

from __future__ import annotations

import resource
import sys

import pytest
import torch

from syndiff import memory

MEGABYTE = 2**20


def faults() -> int:
    """Pages of 48 MB that the system has to hand out, once the process had as many before."""
    torch.ones(48 * MEGABYTE, dtype=torch.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(48 * MEGABYTE, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_kept_memory_is_not_asked_for_again() -> None:
    with memory.freed_memory(kept=False):
        returned = faults()
    with memory.freed_memory(kept=True):
        kept = faults()
    assert kept < returned / 4


def test_outside_it_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(memory, "keep_freed", asked.append)
    monkeypatch.setattr(memory, "_kept", True)
    with memory.freed_memory(kept=False):
        assert asked == [False]
    assert asked == [False, True]


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    with memory.freed_memory(kept=True):
        pass
