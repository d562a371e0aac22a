"""A node beside a real archive: Debian's Orthanc, and dcmtk's storescu as the scanner."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syndiff.node.config import NodeConfig
from syndiff.node.log import Log
from syndiff.node.service import Node
from tests.helpers.archives import STUDY, a_study, free_port, until
from tests.helpers.kills import begin, end
from tests.helpers.orthanc import Orthanc, needs_orthanc, storescu
from tests.helpers.translators import build

pytestmark = needs_orthanc
KILLS = int(os.environ.get("SYNDIFF_KILLS", "10"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "T1_to_T2"
    build().save(folder)
    return folder


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def orthanc(tmp_path: Path, port: int) -> Iterator[Orthanc]:
    archive = Orthanc(tmp_path / "orthanc", port)
    archive.start()
    yield archive
    archive.kill()


def configured(orthanc: Orthanc, port: int, model: Path, folder: Path) -> NodeConfig:
    return NodeConfig(
        port=port,
        folder=str(folder),
        send_to=[str(orthanc)],
        models=[{"model": str(model)}],  # type: ignore[list-item]
        quiet_seconds=0.2,
        min_free_gb=0,
    )


def is_second_series(orthanc: Orthanc, images: int = 6) -> bool:
    """Whether the study holds its source and the whole result."""
    series = orthanc.series()
    made = [s for s in series if s["tags"]["SeriesDescription"].startswith("SYNTHETIC")]
    return (
        len(series) == 2
        and len(made) == 1
        and len({s["study"] for s in series}) == 1
        and all(len(s["instances"]) == images for s in series)
    )


def test_a_pushed_study_comes_back_as_its_second_series(
    orthanc: Orthanc, port: int, model: Path, tmp_path: Path
) -> None:
    """By way of the archive's own push, and of storescu straight to the node."""
    study = a_study().write(tmp_path / "study")
    lines: list[str] = []
    node = Node(configured(orthanc, port, model, tmp_path / "node"), Log(lines.append))
    node.start()
    try:
        storescu("ORTHANC", orthanc.port, study)
        orthanc.send_to_node()
        until(lambda: is_second_series(orthanc), "the result in Orthanc")
        orthanc.send_to_node()  # the result, too
        storescu("SYNDIFF", port, study)
        until(lambda: sum("its results were sent lately" in line for line in lines) >= 1, "end")
        assert is_second_series(orthanc)
        instance = orthanc.series()[0]["instances"][0]
        tags = orthanc.ask(f"/instances/{instance}/simplified-tags")
        assert tags["StudyInstanceUID"] == f"{STUDY}.1"
    finally:
        node.stop()


class Program:
    """`syndiff node` in a process of its own."""

    def __init__(self, orthanc: Orthanc, port: int, model: Path, folder: Path) -> None:
        self._words = [
            *("node", "--port", str(port), "--model", str(model), "--send-to", str(orthanc)),
            *("--folder", str(folder), "--quiet-seconds", "0.2", "--min-free-gb", "0"),
        ]
        self._logs = [folder.with_name("node0.log")]
        self._child = 0

    def start(self) -> None:
        log = self._logs[0].with_name(f"node{len(self._logs)}.log")
        self._logs.append(log)
        self._child = begin(self._words, log)
        until(lambda: log.exists() and "listens" in log.read_text(), "the node listens", 300)

    def end(self, number: int) -> int:
        os.kill(self._child, number)
        code, self._child = end(self._child), 0
        return code

    def stop(self) -> None:
        if self._child:
            self.end(signal.SIGKILL)

    def said(self) -> str:
        return "".join(log.read_text() for log in self._logs if log.exists())


@pytest.fixture
def program(orthanc: Orthanc, port: int, model: Path, tmp_path: Path) -> Iterator[Program]:
    found = Program(orthanc, port, model, tmp_path / "node")
    yield found
    found.stop()


def patiently(push: Callable[[], None]) -> None:
    """Push as an archive does: again, until everything is confirmed."""

    def pushed() -> bool:
        try:
            push()
        except (AssertionError, OSError):
            return False
        return True

    until(pushed, "everything confirmed", 300)


@pytest.mark.slow
def test_both_killed_in_between(
    orthanc: Orthanc, program: Program, port: int, tmp_path: Path
) -> None:
    study = a_study().write(tmp_path / "study")
    storescu("ORTHANC", orthanc.port, study)
    orthanc.kill()
    program.start()
    storescu("SYNDIFF", port, study)
    until(lambda: "does not answer" in program.said(), "a line about the archive", 120)
    assert program.end(signal.SIGKILL) == -signal.SIGKILL
    orthanc.start()
    program.start()
    until(lambda: is_second_series(orthanc), "the result in Orthanc", 120)
    assert program.end(signal.SIGTERM) == 128 + signal.SIGTERM
    assert program.said().splitlines()[-1] == "stopped by SIGTERM"
    assert "Traceback" not in program.said()
    assert STUDY not in program.said()


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing(
    orthanc: Orthanc, program: Program, port: int, tmp_path: Path
) -> None:
    """One study for each kill, whose moment is drawn over the study's whole way."""
    draw = random.Random(17)
    studies = [a_study(number).write(tmp_path / f"study{number}") for number in range(KILLS)]
    for study in studies:
        storescu("ORTHANC", orthanc.port, study)
    program.start()
    for study in studies:
        started = time.monotonic()
        moment = draw.uniform(0.0, 3.0)
        if draw.random() < 0.3:  # within the push
            moment = draw.uniform(0.0, 0.3)
            pushing = subprocess.Popen(
                ["storescu", "-aec", "SYNDIFF", "127.0.0.1", str(port), "+sd", str(study)],
                stderr=subprocess.DEVNULL,
            )
            time.sleep(moment)
            program.end(signal.SIGKILL)
            pushing.wait(60)
            program.start()
            patiently(lambda study=study: storescu("SYNDIFF", port, study))  # type: ignore[misc]
            continue
        storescu("SYNDIFF", port, study)
        time.sleep(max(0.0, moment - (time.monotonic() - started)))
        program.end(signal.SIGKILL)
        program.start()

    node = tmp_path / "node"

    def ended() -> bool:
        left = [p for name in ("incoming", "queue", "outgoing") for p in (node / name).iterdir()]
        return not left

    until(ended, "the end of every study", 300)
    made = [
        series
        for series in orthanc.series()
        if series["tags"]["SeriesDescription"].startswith("SYNTHETIC")
    ]
    assert len({series["study"] for series in made}) == len(made)  # each once
    assert all(len(series["instances"]) == 6 for series in made)
    # On a slow machine one study may be killed too often; then all of it lies in quarantine.
    aside = list((node / "quarantine").iterdir())
    assert len(made) + len(aside) == KILLS
    assert program.said().count("its translation ended the program") == len(aside)
    assert all(len(list((job / "received").iterdir())) == 6 for job in aside)
    print(f"{KILLS} kills: {len(made)} results, {len(aside)} in quarantine")
    assert "Traceback" not in program.said()
