"""One function over many items, in processes on this machine or on a cluster of dask.distributed.

If a worker dies, dask runs its tasks again on another worker. A task that fails does not stop the
others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from syndiff.errors import OptionError

MOST_WORKERS = 4096
RETRIES = 2  # after the death of a worker or an error that the function did not handle
Item = TypeVar("Item")


@dataclass(frozen=True)
class Workers:
    """Who does the work.

    Attributes:
        count: processes on this machine.
        scheduler: address of a running dask scheduler ("tcp://host:8786"), used in place of
            processes here; its workers must see the same files under the same paths.

    Raises:
        OptionError: `count` is out of range.
    """

    count: int = 1
    scheduler: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_WORKERS:
            raise OptionError(f"`workers` {self.count}", f"1 to {MOST_WORKERS}")

    @property
    def alone(self) -> bool:
        """Whether this process is the only one."""
        return self.count == 1 and not self.scheduler


@dataclass(frozen=True)
class Done(Generic[Item]):
    """A task that has ended.

    Attributes:
        item: of which it was.
        result: what the function returned; None after a problem.
        problem: why there is no result, in one line; empty if there is one.
    """

    item: Item
    result: Any = None
    problem: str = ""


def run_tasks(
    function: Callable[..., Any],
    calls: Mapping[Item, tuple[Any, ...]],
    workers: Workers,
    tasks_per_process: int = 1,
) -> Iterator[Done[Item]]:
    """Call a function once for each item; yields the tasks as they end.

    Args:
        function: of a module, so that another process can import it.
        calls: item → the arguments of its call, which must be picklable.
        workers: who does the work.
        tasks_per_process: at a time; with one process they are threads of this process.

    Raises:
        OptionError: no scheduler answers.
    """
    if not calls:
        return
    # Importing dask takes a second, and only work on many files needs it.
    from dask import config
    from distributed import Client, LocalCluster, as_completed

    # A task may be run again after the death of its worker, `RETRIES` times.
    config.set({"distributed.scheduler.allowed-failures": RETRIES})
    count = min(workers.count, len(calls))
    with ExitStack() as stack:
        if workers.scheduler:
            client = stack.enter_context(_given(workers.scheduler))
        else:
            cluster = LocalCluster(
                n_workers=count,
                threads_per_worker=tasks_per_process,
                processes=count > 1,
                memory_limit=0,
                # A port of its own: a fixed one may be in use, and dask warns of it.
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                silence_logs=50,
            )
            client = stack.enter_context(Client(stack.enter_context(cluster)))
        tasks = {
            client.submit(function, *arguments, pure=False, retries=RETRIES): item
            for item, arguments in calls.items()
        }
        for task in as_completed(tasks):
            problem = task.exception()
            if problem is None:
                yield Done(tasks[task], task.result())
            else:
                yield Done(tasks[task], None, f"failed {RETRIES + 1} times ({problem!r})")
            task.release()


def _given(scheduler: str) -> Any:
    """A client of a scheduler that is already running."""
    from distributed import Client

    try:
        return Client(scheduler, timeout="20s")
    except (OSError, ValueError) as error:
        raise OptionError(
            f"no dask scheduler answers at {scheduler} ({error})",
            "an address such as tcp://host:8786",
            "start one with 'dask scheduler', or leave `scheduler` out and give `workers`",
        ) from error
