"""Commands in processes of their own that are killed while they work.

A child is forked, so that it need not import torch again. It is told where to die: a function that
runs in it before the command does.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Saboteur = Callable[[], None]
PATIENCE_S = 400  # for machines that are busy with something else
KILLED = -signal.SIGKILL


def nobody() -> None:
    """The command ends by itself."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(seconds: float) -> Saboteur:
    """Die after so many seconds."""

    def start() -> None:
        timer = threading.Timer(seconds, die)
        timer.daemon = True
        timer.start()

    return start


def within(holder: Any, name: str, seconds: float, call: int = 1) -> Saboteur:
    """Die so many seconds after the nth call of a function began; it takes longer if need be."""

    def watch() -> None:
        real, calls = getattr(holder, name), [0]

        def watched(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] != call:
                return real(*arguments, **options)
            after(seconds)()
            return real(*arguments, **options)

        setattr(holder, name, watched)

    return watch


def half_written(holder: Any, name: str, share: float, call: int) -> Saboteur:
    """Die with a share of a file's bytes written, in the nth call of a function as torch.save."""

    def watch() -> None:
        real, calls = getattr(holder, name), [0]

        def watched(content: Any, file: Any, *arguments: Any) -> None:
            real(content, file, *arguments)
            calls[0] += 1
            if calls[0] == call:
                file.flush()
                file.truncate(int(share * file.tell()))
                die()

        setattr(holder, name, watched)

    return watch


def begin(arguments: list[str], log: Path, saboteur: Saboteur = nobody, **env: str) -> int:
    """Start `syndiff ARGUMENTS` in a child; its number. What it says goes to a file."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(words, 1)
        os.dup2(words, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        os.environ.update(env)
        sys.argv = ["syndiff", *arguments]
        saboteur()
        from syndiff.cli import main

        main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def end(child: int) -> int:
    """Wait for a child: its exit code, or minus the signal that ended it."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise TimeoutError(f"the child worked for more than {PATIENCE_S} s")


def alive_in_session(leader: int) -> list[int]:
    """The processes of a child's session that live; zombies do not."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        if entry.name.isdigit() and int(fields[3]) == leader and fields[0] not in "ZX":
            found.append(int(entry.name))
    return found


def as_torchrun(rank: int, port: str) -> dict[str, str]:
    """What torchrun tells each of two processes on one node."""
    return {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "tests",
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank),
    }  # fmt: skip


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
