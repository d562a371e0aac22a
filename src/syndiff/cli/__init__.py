"""The command line: one function per command, each importing its room only when it runs.

Errors that the user can mend end in one line and exit code 2; Ctrl-C in exit code 130, SIGTERM in
143; a defect of ours in one line and exit code 1.
"""

from __future__ import annotations

import os
import sys
import threading

# isort: off
# Importing them registers their commands; their order here is that of `syndiff --help`.
from syndiff.cli import (
    data,
    prepare,
    training,
    translation,
    models,
    scores,
    demo,
    benchmark,
    study,
    dicom,
    node,
    bids,
    doctor,
    view,
    words,
)

# isort: on
from syndiff.cli.app import app
from syndiff.cli.ending import ENDED, told
from syndiff.cli.streams import patient_streams
from syndiff.memory import keep_freed

__all__ = [
    "app",
    "benchmark",
    "bids",
    "data",
    "demo",
    "dicom",
    "doctor",
    "main",
    "models",
    "node",
    "prepare",
    "scores",
    "study",
    "training",
    "translation",
    "view",
    "words",
]


def main() -> None:
    """Entry point: whatever happens ends in an exit code and at most one line about it."""
    keep_freed()
    with patient_streams():
        code = told(lambda: app(prog_name="syndiff", standalone_mode=False))
    if code in ENDED and threading.active_count() > 1:  # threads at work are not waited for
        os._exit(code)
    sys.exit(code)
