"""A derived series is whole or absent: on a full disk, and where the writer is killed."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest

from syndiff.dicom.datasets import Derivation
from syndiff.dicom.reading import read
from syndiff.dicom.writing import write_series
from syndiff.errors import UserError
from syndiff.io.volume import Volume
from tests.helpers.dicom import PATIENT, PATIENT_ID, VirtualSeries, errors_of, head_series, pattern
from tests.helpers.translators import build

T2 = Derivation("T1", "T2", "a.u.", "m (syndiff)", "0" * 64, "0")
KILLS = 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a few files."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True)
    except OSError:
        pytest.skip("no program 'mount' here")
    if done.returncode:
        pytest.skip("a small file system can only be mounted by root, and not in every container")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_leaves_nothing_and_running_again_completes(
    small_disk: Path, tmp_path: Path
) -> None:
    source = read(VirtualSeries(pattern((32, 32, 24))).write(tmp_path / "in"))
    made: Volume = source.like(source.array + 1)
    with pytest.raises(UserError, match="could not be written: No space left") as refusal:
        write_series(made, small_disk / "out", T2)
    assert "\n" not in str(refusal.value)
    assert PATIENT not in str(refusal.value)
    assert list(small_disk.iterdir()) == []
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert len(write_series(made, small_disk / "out", T2)) == 24
    step = float(np.ptp(made.array)) / 32767  # of 16 bits
    np.testing.assert_allclose(read(small_disk / "out").array, made.array, atol=step)


def test_what_a_dead_writer_left_is_cleared_and_a_living_ones_is_not(tmp_path: Path) -> None:
    import os
    import platform

    source = read(VirtualSeries(pattern((4, 5, 3))).write(tmp_path / "in"))
    host = platform.node()
    child = subprocess.Popen(["true"])
    child.wait()
    dead = tmp_path / f".partial-{host}-{child.pid}-out"
    alive = tmp_path / f".partial-{host}-{os.getppid()}-out"
    other = tmp_path / f".partial-{host}-{child.pid}-out-of-somebody"
    for folder in (dead, alive, other):
        folder.mkdir()
    write_series(source.like(source.array + 1), tmp_path / "out", T2)
    assert not dead.exists()
    assert alive.exists()
    assert other.exists()


def planted() -> VirtualSeries:
    """A head whose every text tag names somebody."""
    series = head_series()
    for data in series.slices:
        for keyword in (
            "InstitutionName", "ReferringPhysicianName", "OperatorsName", "PatientComments",
            "StudyDescription", "RequestingPhysician", "ImageComments", "StationName",
            "AccessionNumber", "OtherPatientIDs", "PatientAddress",
        ):  # fmt: skip
            setattr(data, keyword, PATIENT[:16])
    return series


def test_no_name_in_what_is_shared(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Side-car, names and messages; the derived series itself goes back to the patient's study."""
    from syndiff.inference import TranslationOptions, translate_file
    from syndiff.reporting import Remembering

    folder = planted().write(tmp_path / "in")
    model = build().save(tmp_path / "T1_to_T2")
    heard = Remembering()
    translate_file(model, folder, tmp_path / "out", TranslationOptions(device="cpu"), report=heard)
    side = (tmp_path / "out.json").read_text()
    names = " ".join(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))
    out, err = capfd.readouterr()
    for text in (side, names, out, err, " ".join(heard.warnings)):
        assert PATIENT[:16] not in text
        assert PATIENT_ID not in text
    assert json.loads(side)["synthetic"] is True
    written = pydicom.dcmread(next((tmp_path / "out").iterdir()))
    assert str(written.PatientName) == PATIENT  # the archive must find it


def test_a_planning_system_can_take_a_synthetic_ct(tmp_path: Path) -> None:
    """Whole HU, air outside the body, one spacing, the source's frame of reference, no error."""
    from syndiff.inference import TranslationOptions, translate_file

    folder = head_series().write(tmp_path / "in")
    model = build("CT").save(tmp_path / "T1_to_CT")
    made = translate_file(model, folder, tmp_path / "out", TranslationOptions(device="cpu"))
    found = read(tmp_path / "out")
    np.testing.assert_array_equal(found.array, made.volume.array)  # nothing is lost in 16 bits
    assert not (found.array % 1).any()
    corners = found.array[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == -1024).all()
    heads = [pydicom.dcmread(p) for p in sorted((tmp_path / "out").iterdir())]
    source = pydicom.dcmread(next(folder.iterdir()))
    assert {h.FrameOfReferenceUID for h in heads} == {source.FrameOfReferenceUID}
    assert {h.Modality for h in heads} == {"CT"}
    assert {(float(h.RescaleSlope), float(h.RescaleIntercept)) for h in heads} == {(1, -1024)}
    heights = sorted(float(h.ImagePositionPatient[2]) for h in heads)
    np.testing.assert_allclose(np.diff(heights), float(heads[0].SliceThickness), atol=1e-4)
    if shutil.which("dciodvfy") is None:
        pytest.skip("needs dciodvfy (apt install dicom3tools)")
    errors = errors_of(next(iter(sorted((tmp_path / "out").iterdir()))))
    assert not {line for line in errors if "0x0008,0x001c" not in line}


@pytest.mark.slow
def test_kills_at_random_moments(tmp_path: Path) -> None:
    import syndiff.inference.archive  # noqa: F401 - so that children need not
    from tests.helpers import kills

    source = head_series().write(tmp_path / "in")
    model, out, log = build().save(tmp_path / "m" / "T1_to_T2"), tmp_path / "out", tmp_path / "log"
    words = ["translate", str(model), str(source), str(out), "--device", "cpu", "--no-check"]
    started = time.monotonic()
    assert kills.end(kills.begin(words, log)) == 0, log.read_text()
    lasts_s, expected = time.monotonic() - started, read(out).array
    rng = random.Random(0)
    for _ in range(KILLS):
        code = kills.end(kills.begin(words, log, kills.after(rng.uniform(0, 1.1 * lasts_s))))
        assert code in (0, kills.KILLED), log.read_text()
        assert PATIENT not in log.read_text()
        if out.exists():
            np.testing.assert_array_equal(read(out).array, expected)
            if rng.random() < 0.5:
                shutil.rmtree(out)
    assert kills.end(kills.begin(words, log)) == 0, log.read_text()
    np.testing.assert_array_equal(read(out).array, expected)
    assert not list(tmp_path.glob(".partial*")) + list(tmp_path.glob(".old*"))
