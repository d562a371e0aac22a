"""Freed memory stays with the process, instead of going back to the system and coming again.

A network at 256×256 asks for and frees gigabytes in pieces of tens of megabytes. The C library
gives such pieces back to the system at once, and the system clears each page anew when it hands it
out again: a tenth of a training step, a fifth of a translation on a CPU (docs/performance.md).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of glibc's mallopt(3) by its numbers; what we set, and where glibc's own, which grow
# with what is freed, come to rest.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**28}
_RETURNED = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26, _TOP_PAD: 2**17}
_kept = False


def keep_freed(kept: bool = True) -> None:
    """From now on this process keeps what it frees, or gives it back as usual.

    It holds no more than it did at its peak, and gives back what lies free at the heap's end
    beyond 2 GB. Without glibc nothing changes.
    """
    global _kept
    _kept = kept
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in (_KEPT if kept else _RETURNED).items():
            mallopt(parameter, value)


@contextmanager
def freed_memory(kept: bool) -> Iterator[None]:
    """`keep_freed(kept)` inside; outside as before."""
    before = _kept
    keep_freed(kept)
    try:
        yield
    finally:
        keep_freed(before)
