"""Freed memory that stays with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from syndiff import memory

# In a process of its own: pages that it was never given cannot be kept.
COUNT_PAGES = """
import resource, sys, torch
from syndiff.memory import freed_memory
def faults(times=12):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(48 * 2**20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for kept in False, True:
    with freed_memory(kept):
        faults()  # the heap has to grow first
        print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_kept_memory_is_not_asked_for_again() -> None:
    said = subprocess.run([sys.executable, "-c", COUNT_PAGES], capture_output=True, text=True)
    returned, kept = (int(line) for line in said.stdout.split())
    assert kept < returned / 2


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
