"""Standard output and error that never end the work: nobody listens, or not all letters are known.

`syndiff info demo | head -1` closes the pipe before all is said. What is left to say is dropped,
the work goes on, and the command ends as it would have.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class PatientStream:
    """A text stream whose reader may leave.

    Attributes:
        problem: why the words could not be written although somebody listens: a full disk.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self.problem = stream, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self._deaf(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._deaf(error)

    def _deaf(self, error: OSError) -> None:
        """Discard all further output."""
        if not isinstance(error, BrokenPipeError):
            self.problem = error.strerror or str(error)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        with suppress(OSError):
            self._stream.flush()


@contextmanager
def patient_streams() -> Iterator[None]:
    """Both streams are patient, and replace letters that their encoding does not have."""
    before = sys.stdout, sys.stderr
    for name, stream in zip(("stdout", "stderr"), before, strict=True):
        if stream is None:  # closed by the caller
            continue
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, PatientStream(stream))
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before
