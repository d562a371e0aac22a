"""Jobs in threads of this process.

No event loop is needed, so nothing waits for one that has died for want of memory.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from syndiff.reporting import Remembering

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")
EndT = TypeVar("EndT")


class Left(BaseException):
    """A job that is left because the work was stopped."""


class Leaving(Remembering):
    """A reporter with which a job is left at its next slice after `stopped` is set."""

    def __init__(self, stopped: threading.Event | None = None) -> None:
        super().__init__()
        self.stopped = stopped

    def progress(self, done: int, total: int, detail: str = "") -> None:
        if self.stopped is not None and self.stopped.is_set():
            raise Left


def run_here(
    work: Callable[[JobT, threading.Event], ResultT], jobs: Sequence[JobT], threads: int
) -> Iterator[tuple[JobT, ResultT | Exception]]:
    """Work on the jobs; yield each with its result, or the error that it raised, as they end.

    Where the generator is closed or interrupted, jobs that have not begun are left out, and those
    at work are waited for; they see the event.

    Args:
        work: gets a job and the event that says that the work was stopped.
        jobs: in the order in which they begin.
        threads: that work at a time; fewer where the system grants no more.
    """
    waiting: queue.SimpleQueue[JobT] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[JobT, ResultT | Exception]] = queue.SimpleQueue()
    stopped = threading.Event()

    def serve() -> None:
        while not stopped.is_set():
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                ended.put((job, work(job, stopped)))
            except Left:
                return
            except Exception as error:
                ended.put((job, error))

    for job in jobs:
        waiting.put(job)
    crew = _crew(serve, min(threads, len(jobs)))
    try:
        if not crew:  # not a single thread is to be had
            serve()
        for _ in jobs:
            yield _next(ended, crew)
    finally:
        stopped.set()
        for thread in crew:
            thread.join()


def _next(ended: queue.SimpleQueue[EndT], crew: Sequence[threading.Thread]) -> EndT:
    """What ended next.

    Raises:
        MemoryError: every thread has died; there was not even room to say of what.
    """
    while True:
        alive = any(thread.is_alive() for thread in crew)
        try:
            return ended.get(timeout=1 if alive else 0)
        except queue.Empty:
            if not alive:
                raise MemoryError from None


def _crew(serve: Callable[[], None], threads: int) -> list[threading.Thread]:
    crew: list[threading.Thread] = []
    for _ in range(threads):
        thread = threading.Thread(target=serve, daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError):  # "can't start new thread"
            break
        crew.append(thread)
    return crew
