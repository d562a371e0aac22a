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
from pathlib import Path

try:
    import resource
except ModuleNotFoundError:  # Windows
    resource = None  # type: ignore[assignment]

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


def available_bytes() -> int | None:
    """What this process may still take of the host's memory; None where nothing says.

    The least of what the system calls available, what a container's limit leaves, and what
    `ulimit -v` leaves.
    """
    found = [_lines_of("/proc/meminfo").get("MemAvailable:", 0) * 1024]
    limit, used = (_number(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit is not None and used is not None:
        found.append(max(1, limit - used + _lines_of("/sys/fs/cgroup/memory.stat").get("file", 0)))
    if resource is not None:
        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            taken = _lines_of("/proc/self/status").get("VmSize:", 0) * 1024
            found.append(max(1, most - taken))
    return min((value for value in found if value), default=None)


def _lines_of(path: str) -> dict[str, int]:
    """ "Name: 12 kB" → {"Name:": 12}; nothing where there is no such file."""
    try:
        words = [line.split() for line in Path(path).read_text(encoding="ascii").splitlines()]
    except (OSError, UnicodeDecodeError):
        return {}
    return {w[0]: int(w[1]) for w in words if len(w) > 1 and w[1].isdecimal()}


def _number(path: str) -> int | None:
    """The whole number that a file holds; None where there is no such file or it says "max"."""
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
