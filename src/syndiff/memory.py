"""Keep freed memory in the process instead of returning it to the operating system.

A network at 256×256 allocates and frees gigabytes in blocks of tens of megabytes. glibc returns
such blocks to the operating system at once, which clears every page before it hands the page out
again. On a CPU this costs a tenth of a training step and a fifth of a translation
(docs/performance.md).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of glibc's mallopt(3), by number. _KEPT is what this package sets. _RETURNED holds the
# values at which glibc's own thresholds, which grow with the freed blocks, settle.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**28}
_RETURNED = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26, _TOP_PAD: 2**17}
_kept = False


def keep_freed(kept: bool = True) -> None:
    """Keep the memory that this process frees from now on, or return it as usual.

    The process never holds more than at its peak, and it returns free memory beyond 2 GB at the
    end of the heap. Without glibc nothing changes.
    """
    global _kept
    _kept = kept
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in (_KEPT if kept else _RETURNED).items():
            mallopt(parameter, value)


@contextmanager
def freed_memory(kept: bool) -> Iterator[None]:
    """Apply `keep_freed(kept)` inside the context and restore the earlier setting after it."""
    before = _kept
    keep_freed(kept)
    try:
        yield
    finally:
        keep_freed(before)
