"""How a command ends: an exit code, and one line on stderr if something went wrong.

0   it worked
1   a defect of ours
2   something that the user can mend
130 interrupted
143 stopped by SIGTERM
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from syndiff import __version__
from syndiff.cli.app import option_of
from syndiff.errors import UserError, one_line, spelled

_ENDS: dict[int, tuple[str, int]] = {
    signal.SIGINT: ("interrupted", 128 + signal.SIGINT),
    signal.SIGTERM: ("stopped by SIGTERM", 128 + signal.SIGTERM),
}
ENDED = {code for _, code in _ENDS.values()}
DEBUG = "SYNDIFF_DEBUG"
PACKAGE = Path(__file__).parents[1]


@contextmanager
def _stoppable() -> Iterator[list[int]]:
    """SIGTERM and Ctrl-C end the work with its files whole; a second one ends it at once.

    Yields:
        The signal that came, if one has.
    """
    found: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield found
        return

    def stop(number: int, frame: Any) -> None:
        found.append(number)
        for known in _ENDS:
            signal.signal(known, signal.SIG_DFL)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in _ENDS}
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def told(run: Callable[[], Any]) -> int:
    """Run a command; the exit code. What went wrong is told in one line."""
    debug = bool(os.environ.get(DEBUG))
    with warnings.catch_warnings():
        if not debug:  # of libraries, for programmers; PYTHONWARNINGS=error would end the work
            os.environ.pop("PYTHONWARNINGS", None)  # of processes that we start
            warnings.simplefilter("ignore")
        signals: list[int] = []
        try:
            with _stoppable() as signals:
                code = run()
            if signals:  # the parser of options takes it for an exit
                return _end(*_ENDS[signals[0]])
            if sys.stdout is not None:
                sys.stdout.flush()
            if problem := getattr(sys.stdout, "problem", ""):
                return _end(f"error: what syndiff says could not be written: {problem}", 2)
            return code if isinstance(code, int) else 0
        except KeyboardInterrupt:
            return _end(*_ENDS[signals[0] if signals else signal.SIGINT])
        except typer.Abort:
            return _end("aborted", 1)
        except Exception as error:
            if debug:
                traceback.print_exc()
            return _ended_by(error)


def _ended_by(error: Exception) -> int:
    if isinstance(error, UserError):
        return _end(f"error: {spelled(str(error), option_of)}", 2)
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # of the parser
        return _misused(error)
    if isinstance(error, OSError) and error.errno is not None:
        what = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return _end(f"error: {what}{error.strerror}", 2)
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # pathlib's
        return _end(f"error: {error}; expected links that lead to a file", 2)
    if isinstance(error, MemoryError) or _of_memory(error):
        return _end(
            f"error: there is not enough memory ({type(error).__name__}); "
            "use smaller batches (--batch-size) or close other programs",
            2,
        )
    where = _where(error)
    return _end(
        f"error: a defect of syndiff, not of your data: {type(error).__name__} in {where}; "
        f"please report it{_kept(error)}; {DEBUG}=1 shows all of it",
        1,
    )


def _end(line: str, code: int) -> int:
    typer.echo(one_line(line), err=True)
    return code


def _misused(error: Any) -> int:
    """A wrong option or argument; or no command at all, for which the help is shown."""
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message(), err=True)
        return int(error.exit_code)
    context = getattr(error, "ctx", None)
    help_of = f"; see '{context.command_path} --help'" if context is not None else ""
    words = error.format_message().rstrip(".").replace("Value error, ", "")  # pydantic's
    return _end(f"error: {words}{help_of}", int(error.exit_code))


def _of_memory(error: Exception) -> bool:
    """Whether an error is one of those that torch raises when memory runs out."""
    words = ("out of memory", "can't allocate memory", "Unable to allocate",
             "failed to map segment", "can't start new thread")  # fmt: skip
    kinds = (RuntimeError, ImportError)  # a library that finds no room cannot be imported
    return isinstance(error, kinds) and any(word in str(error) for word in words)


def _frames(error: BaseException) -> list[str]:
    """Where it happened, outermost first, without values: file of a package, line, function."""
    lines = []
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        named = path.is_relative_to(PACKAGE)
        short = path.relative_to(PACKAGE.parent) if named else Path(*path.parts[-3:])
        lines.append(f"{short}:{frame.lineno} {frame.name}")
    return lines


def _where(error: BaseException) -> str:
    """The innermost place in our own code."""
    ours = [line for line in _frames(error) if line.startswith("syndiff")]
    return (ours or _frames(error) or ["an unknown place"])[-1].split()[0]


def _kept(error: BaseException) -> str:
    """Write the traceback to a file; it names no values, so no patient's folder.

    Returns:
        Words for the message; empty where no file can be written.
    """
    parts = [f"syndiff {__version__}, Python {sys.version.split()[0]}, {sys.platform}"]
    cause: BaseException | None = error
    while cause is not None:
        parts += [type(cause).__name__, *(f"  {line}" for line in _frames(cause))]
        cause = cause.__cause__ or cause.__context__
    try:
        handle, name = tempfile.mkstemp(prefix="syndiff-defect-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("\n".join(parts) + "\n")
    except OSError:
        return ""
    return f" with {name}, which names no file of yours"
