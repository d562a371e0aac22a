"""Debian's Orthanc on free ports with a folder of its own, and dcmtk's storescu."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.archives import free_port, until

PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")
STORESCU = shutil.which("storescu")
needs_orthanc = pytest.mark.skipif(
    not (PROGRAM and STORESCU),
    reason="needs Orthanc and storescu: apt-get install orthanc dcmtk",
)


class Orthanc:
    """An archive in a process of its own; what it holds outlives the process.

    Args:
        folder: for its data and its log.
        node_port: the port of the node that it knows as "syndiff".
    """

    title = "ORTHANC"

    def __init__(self, folder: Path, node_port: int) -> None:
        self.port, self._http = free_port(), free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        (folder / "orthanc.json").write_text(
            json.dumps(
                {
                    "DicomAet": self.title,
                    "DicomPort": self.port,
                    "HttpPort": self._http,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "StorageDirectory": str(folder / "held"),
                    "IndexDirectory": str(folder / "held"),
                    "DicomModalities": {"syndiff": ["SYNDIFF", "127.0.0.1", node_port]},
                    "Plugins": [],
                }
            )
        )

    def __str__(self) -> str:
        return f"{self.title}@127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(PROGRAM), str(self._folder / "orthanc.json")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._answers, "Orthanc answers")

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            return bool(self.ask("/system"))
        except (OSError, urllib.error.URLError):
            return False

    def ask(self, path: str, body: Any = None) -> Any:
        """What its REST interface says."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self._http}{path}", data=data)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def series(self) -> list[dict[str, Any]]:
        """Its series: study, tags, number of images."""
        return [
            {
                "study": found["ParentStudy"],
                "tags": found["MainDicomTags"],
                "instances": found["Instances"],
            }
            for found in self.ask("/series?expand")
        ]

    def send_to_node(self) -> None:
        """Let it push its study to the node."""
        self.ask("/modalities/syndiff/store", self.ask("/studies"))


def storescu(title: str, port: int, folder: Path) -> None:
    """Push the files of a folder."""
    words: Sequence[str] = (
        str(STORESCU), "-aec", title, "127.0.0.1", str(port), "--scan-directories", str(folder),
    )  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
