"""A node between a scanner and an archive, all in this process: nothing is lost or circles."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from syndiff.dicom.series import series_of
from syndiff.node.config import NodeConfig
from syndiff.node.folder import key_of
from syndiff.node.log import Log
from syndiff.node.send import MOST_REFUSALS
from syndiff.node.service import Node
from tests.helpers.archives import STUDY, Archive, Scanner, a_study, free_port, push, until
from tests.helpers.dicom import PATIENT, PATIENT_ID
from tests.helpers.translators import build

HOUR_S = 3600.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "T1_to_T2"
    build().save(folder)
    return folder


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The node's log; whatever a test does, it holds nothing that names a patient or a study."""
    found: list[str] = []
    yield found
    for line in found:
        for secret in (PATIENT, PATIENT_ID, STUDY, "Doctor", "19700101"):
            assert secret not in line


Start = Callable[..., Node]


@pytest.fixture
def start(model: Path, tmp_path: Path, lines: list[str]) -> Iterator[Start]:
    """Start a node on a free port; further values are those of its configuration."""
    running: list[Node] = []

    def begin(archive: Archive, **values: Any) -> Node:
        config = NodeConfig.model_validate(
            {
                "port": free_port(),
                "folder": str(tmp_path / "node"),
                "send_to": [str(archive)],
                "models": [{"model": str(model)}],
                "quiet_seconds": 0.2,
                "min_free_gb": 0,
                **values,
            }
        )
        node = Node(config, Log(lines.append), first_pause_s=0.1)
        node.port = config.port  # type: ignore[attr-defined]
        node.start()
        running.append(node)
        return node

    yield begin
    for node in running:
        node.stop()


def empty(node: Node, *but: str) -> bool:
    """Whether no study is left, except in the folders named."""
    return not any(n for name, n in node.folder.waiting().items() if name not in but)


def test_a_study_comes_back_as_a_second_series(
    start: Start, tmp_path: Path, lines: list[str]
) -> None:
    source = a_study()
    with Archive() as archive:
        node = start(archive)
        assert set(push(node.port, source.slices)) == {0}
        until(lambda: len(archive.held) == 6 and empty(node), "the result in the archive")
    source.write(tmp_path / "archive" / "source")
    archive.write(tmp_path / "archive" / "result")
    study = series_of(tmp_path / "archive")
    assert len(study) == 2
    assert {series.header.study_uid for series in study} == {f"{STUDY}.1"}
    acquired, made = sorted(study, key=lambda series: series.header.synthetic)
    assert (acquired.header.synthetic, made.header.synthetic) == (False, True)
    assert acquired.stack is not None
    assert made.stack is not None
    np.testing.assert_allclose(made.stack.affine, acquired.stack.affine, atol=1e-4)
    assert any("6 images sent to ARCHIVE@" in line for line in lines)
    until(lambda: not list((tmp_path / "node").rglob("*.dcm")), "nothing of the patient stays")


def test_an_acknowledged_object_is_on_disk_as_it_was_sent(start: Start, tmp_path: Path) -> None:
    source = a_study()
    with Archive() as archive:
        node = start(archive, quiet_seconds=HOUR_S)
        scanner = Scanner(node.port)
        for number, data in enumerate(source.slices, start=1):
            assert scanner.push([data]) == [0]
            held = list(node.folder.at("incoming").rglob("[!.]*.dcm"))
            assert len(held) == number
        scanner.end()
        found = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, held)}
    for data in source.slices:
        assert found[data.SOPInstanceUID] == data
    names = [str(path.relative_to(tmp_path)) for path in (tmp_path / "node").rglob("*")]
    assert not any(PATIENT_ID in name or STUDY in name for name in names)
    assert (tmp_path / "node" / "incoming").stat().st_mode & 0o077 == 0


def test_only_those_who_are_accepted_are_served(start: Start, lines: list[str]) -> None:
    with Archive() as archive:
        node = start(archive, accept=["PACS@127.0.0.1", "OTHER@192.0.2.0/24"])
        served = Scanner(node.port, title="PACS")
        assert served.association.is_established
        assert served.association.send_c_echo().Status == 0x0000
        served.end()
        assert Scanner(node.port, title="SCANNER").association.is_rejected
        assert Scanner(node.port, title="OTHER").association.is_rejected  # not from here
        assert Scanner(node.port, title="PACS", called="WRONG").association.is_rejected
    assert sum("is not in `accept`" in line for line in lines) == 2
    assert any("refused PACS@127.0.0.1: it called WRONG" in line for line in lines)


def test_a_study_waits_for_the_end_of_its_association(start: Start) -> None:
    source = a_study()
    with Archive() as archive:
        node = start(archive, quiet_seconds=0.1)
        scanner = Scanner(node.port)
        scanner.push(source.slices[:3])
        key = key_of(f"{STUDY}.1")
        with pytest.raises(AssertionError):
            until(lambda: not (node.folder.at("incoming") / key).exists(), "moved", 1.0)
        scanner.push(source.slices[3:])
        scanner.end()
        until(lambda: len(archive.held) == 6, "the result")


def test_nothing_circles(start: Start, tmp_path: Path, lines: list[str]) -> None:
    """An archive that sends everything back, the results as well as the sources."""
    source = a_study()
    with Archive() as archive:
        node = start(archive)
        push(node.port, source.slices)
        until(lambda: empty(node) and archive.stores == 6, "the result")
        push(node.port, list(archive.held.values()))
        until(lambda: any("all of its series are synthetic" in line for line in lines), "end")
        push(node.port, [*archive.held.values(), *source.slices])
        until(lambda: any("its results were sent lately" in line for line in lines), "end")
        until(lambda: empty(node), "an empty queue")
        assert archive.stores == 6


def test_the_same_images_give_the_same_uids(start: Start) -> None:
    source = a_study()
    with Archive() as archive:
        node = start(archive, again_after_hours=0)
        push(node.port, source.slices)
        until(lambda: empty(node) and archive.stores == 6, "the result")
        first = {uid: data.pixel_array for uid, data in archive.held.items()}
        push(node.port, source.slices)
        until(lambda: empty(node) and archive.stores == 12, "the second result")
    assert set(archive.held) == set(first)
    for uid, data in archive.held.items():
        np.testing.assert_array_equal(data.pixel_array, first[uid])


def test_a_destination_that_is_down_gets_it_later(start: Start, lines: list[str]) -> None:
    archive, other = Archive(), Archive("OTHER")
    with other:
        node = start(archive, send_to=[str(archive), str(other)])
        push(node.port, a_study().slices)
        until(lambda: len(other.held) == 6, "the result at the destination that is up")
        until(lambda: any("does not answer" in line for line in lines), "a line about it")
        assert not empty(node)
        with archive:
            until(lambda: len(archive.held) == 6 and empty(node), "the result")
    assert (archive.stores, other.stores) == (6, 6)


def test_what_a_destination_refuses_ends_in_quarantine(start: Start, lines: list[str]) -> None:
    with Archive() as archive:
        archive.answer = 0xA900
        node = start(archive)
        push(node.port, a_study().slices)
        until(lambda: node.folder.waiting()["quarantine"], "the study in quarantine")
    assert sum("status 0xA900 (" in line for line in lines) == MOST_REFUSALS
    (job,) = node.folder.jobs("quarantine")
    assert len(list(job.received.iterdir())) == 6
    assert "0xA900" in job.faults()[0]


def test_missing_slices_are_set_aside_until_they_come(start: Start, lines: list[str]) -> None:
    source = a_study()
    with Archive() as archive:
        node = start(archive)
        push(node.port, [data for k, data in enumerate(source.slices) if k != 2])
        until(lambda: node.folder.waiting()["quarantine"], "the study in quarantine")
        (line,) = [line for line in lines if "in quarantine" in line]
        assert "missing" in line
        assert not archive.held
        push(node.port, [source.slices[2]])
        until(lambda: len(archive.held) == 6 and empty(node), "the result")


def test_what_no_model_takes_is_set_aside(start: Start, lines: list[str]) -> None:
    with Archive() as archive:
        node = start(archive)
        push(node.port, a_study(SeriesDescription="T2 axial").slices)
        until(lambda: node.folder.waiting()["quarantine"], "the study in quarantine")
        assert any("no model takes one of its 1 series (T2)" in line for line in lines)


def test_rules_choose_by_description_and_each_model_gets_its_series(
    start: Start, model: Path
) -> None:
    rules = [
        {"model": str(model), "description": "mprage", "but_not": "post"},
        {"model": str(model), "taken_for": "T2", "seed": 1},
    ]
    first = a_study(SeriesDescription="MPRAGE sag")
    second = deepcopy(a_study(SeriesDescription="T2 tse"))
    third = deepcopy(a_study(SeriesDescription="mprage POST"))
    for number, series in ((8, second), (9, third)):
        for data in series.slices:
            data.SeriesNumber = number
            data.SeriesInstanceUID = f"{STUDY}.1.{number}"
            data.SOPInstanceUID = f"{STUDY}.1.{number}.{data.InstanceNumber}"
    with Archive() as archive:
        node = start(archive, models=rules)
        push(node.port, [*first.slices, *second.slices, *third.slices])
        until(lambda: len(archive.held) == 12 and empty(node), "two results")
    sources = {
        data.SourceImageSequence[0].ReferencedSOPInstanceUID.rsplit(".", 1)[0]
        for data in archive.held.values()
    }
    assert sources == {f"{STUDY}.1.7", f"{STUDY}.1.8"}


def test_a_node_that_was_stopped_goes_on(start: Start, tmp_path: Path) -> None:
    archive = Archive()
    node = start(archive)  # nobody listens there yet
    push(node.port, a_study(1).slices)
    until(lambda: node.folder.waiting()["outgoing"], "the result on its way out")
    node.stop()
    again = start(archive, quiet_seconds=HOUR_S)
    push(again.port, a_study(2).slices)
    again.stop()
    with archive:
        last = start(archive)
        until(lambda: len(archive.held) == 12 and empty(last), "both results")


def test_a_disk_without_space_refuses_objects(start: Start, lines: list[str]) -> None:
    with Archive() as archive:
        node = start(archive, min_free_gb=1e6)
        assert push(node.port, a_study().slices) == [0xA700] * 6
    assert sum("refused objects" in line for line in lines) == 1
    assert not list(node.folder.folder.rglob("*.dcm"))


def test_an_object_that_is_not_what_it_says_is_refused(start: Start) -> None:
    with Archive() as archive:
        node = start(archive)
        (data,) = a_study(slices=3).slices[:1]
        del data.StudyInstanceUID
        assert push(node.port, [data]) == [0xA900]
        assert not list(node.folder.folder.rglob("*.dcm"))


def test_damaged_pixels_end_in_quarantine_and_the_node_goes_on(
    start: Start, lines: list[str]
) -> None:
    damaged = a_study(1)
    damaged.slices[2].PixelData = damaged.slices[2].PixelData[:100]
    with Archive() as archive:
        node = start(archive)
        push(node.port, damaged.slices)
        until(lambda: node.folder.waiting()["quarantine"], "the study in quarantine")
        push(node.port, a_study(2).slices)
        until(lambda: len(archive.held) == 6, "the result of the other study")


def test_quarantine_is_tried_again_by_moving_it_to_the_queue(
    start: Start, model: Path, lines: list[str]
) -> None:
    with Archive() as archive:
        node = start(archive, models=[{"model": str(model), "taken_for": "T2"}])
        push(node.port, a_study().slices)
        until(lambda: node.folder.waiting()["quarantine"], "the study in quarantine")
        node.stop()
        (job,) = node.folder.jobs("quarantine")
        job.folder.rename(node.folder.at("queue") / job.folder.name)
        again = start(archive)
        until(lambda: len(archive.held) == 6 and empty(again), "the result")


def test_noise_on_the_port_does_no_harm(start: Start) -> None:
    with Archive() as archive:
        node = start(archive)
        draw = np.random.default_rng(3)
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", node.port)) as line:
                line.sendall(draw.bytes(200))
        with socket.create_connection(("127.0.0.1", node.port)):
            pass
        push(node.port, a_study().slices)
        until(lambda: len(archive.held) == 6, "the result")


def test_libraries_say_nothing(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Archive() as archive:
        node = start(archive)
        push(node.port, a_study(PatientBirthDate="no date").slices)
        until(lambda: len(archive.held) == 6, "the result")
    assert PATIENT not in caplog.text
    assert PATIENT_ID not in caplog.text
