"""Freed memory stays with the process, instead of going back to the system and coming again.

A network at 256×256 asks for and frees gigabytes in pieces of tens of megabytes. The C library
gives such pieces back to the system at once, and the system clears each page anew when it hands it
out again: a tenth of a training step, a fifth of a translation on a CPU (docs/performance.md).
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
