"""Tables, side-cars, histories, notes and caches of strangers: fifty damaged ones of each.

Each is used as it is or refused in one line; nothing outside of its folder is touched.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syndiff.benchmark.compare import changes, read_benchmark
from syndiff.errors import UserError
from syndiff.io.marks import says_synthetic
from syndiff.preparation.discover import Choice, find_cohort
from syndiff.preparation.folder import OutFolder
from syndiff.preparation.manifest import FILE_NAME, read_manifest
from syndiff.preparation.split import assign
from syndiff.preparation.stored import Cached
from syndiff.preparation.summary import left_out
from syndiff.preparation.table import read_table
from syndiff.training import history
from tests.helpers.mutations import TEXTS, mutated
from tests.helpers.tiny import write_prepared

TABLE = "subject\tsession\tmodality\tfile\tsplit\na\t1\tT1\ta/T1.nii\ttrain\nb\t\tT1\tb/T1.nii\t\n"
SPLITS = "participant_id,age,split\na,5,train\nb,6,test\n"
HISTORY = "step,minutes,T1_to_T2/psnr_db\n1,0.50,20.1000\n2,1.00,\n"
CASE = {
    "what": "train", "variant": "ours", "method": "syndiff", "preset": "small",
    "networks": "preset's", "size": 64, "batch": 2, "precision": "32", "flop_per_image": 2e9,
    "seconds_per_image": 0.5, "peak_bytes": 5,
    "counts": [{"share": 1.0, "peak_bytes": 1, "allocations": 2, "allocated_bytes": 3}],
}  # fmt: skip
SIDE = {"synthetic": True, "translator": {"weights_sha256": "0" * 64}, "warnings": []}
ENTRY = {
    "file": "a/T1.nii", "reference": "T1", "slice_indices": [1, 2], "spacing_yx_mm": [1.0, 1.0],
    "native_shape": [3, 3, 3], "native_affine": [[1.0, 0.0, 0.0, 0.0]] * 4, "peak": 2.0,
    "file_shape": [3, 3, 3], "box_yx": [[0, 1], [0, 2]], "reference_mean": 5.0,
    "foreground_quantiles": [0.1, 0.2, 0.3, 0.4, 0.5], "registration": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names of scans; nothing reads their values here."""
    folder = tmp_path_factory.mktemp("scans")
    for name in ("a/T1.nii", "b/T1.nii", "c/x_0000.nii"):
        (folder / name).parent.mkdir()
        (folder / name).touch()
    return folder


def table(path: Path, raw: Path) -> None:
    assert set(read_table(path, raw, ("T1",)).people.values()) <= {"a", "b"} | set(TEXTS)


def splits(path: Path, raw: Path) -> None:
    found = assign(find_cohort(raw, ("T1",), Choice()), ("T1",), None, path)
    assert set(found.values()) <= {"train", "val", "test"}


def histories(path: Path, raw: Path) -> None:
    path.replace(path.with_name(history.FILE))
    history.trim(path.parent, 1)
    assert all(int(row["step"]) <= 1 for row in history.read(path.parent))
    history.append(path.parent, 2, 0.5, {"T1_to_T2/psnr_db": 3.0})


def damaged_text(draw: st.DataObject, sound: str) -> bytes:
    """The text with some bytes replaced by odd ones."""
    content = sound.encode()
    odd = st.one_of(
        st.binary(max_size=6),
        st.sampled_from([t.encode() for t in TEXTS]),
        st.sampled_from([b"\t", b",", b'"', b"\n", b"nan", b"1e999", b"-5", b"9" * 5000]),
    )
    for _ in range(draw.draw(st.integers(1, 3))):
        start = draw.draw(st.integers(0, len(content)))
        end = draw.draw(st.integers(start, min(start + 8, len(content))))
        content = content[:start] + draw.draw(odd) + content[end:]
    return content


@pytest.mark.parametrize(
    ("sound", "use"), [(TABLE, table), (SPLITS, splits), (HISTORY, histories)]
)
@settings(max_examples=50)
@given(draw=st.data())
def test_a_damaged_table_is_read_or_refused(
    scans: Path, sound: str, use: Callable[[Path, Path], None], draw: st.DataObject
) -> None:
    path = scans.parent / "damaged.csv"
    path.write_bytes(damaged_text(draw, sound))
    one_line(lambda: use(path, scans))


def channels(path: Path, raw: Path) -> None:
    path.replace(raw / "dataset.json")
    try:
        find_cohort(raw, ("T1",), Choice())
    finally:
        (raw / "dataset.json").unlink()


def benchmarks(path: Path, raw: Path) -> None:
    read = read_benchmark(path)
    for change in changes(read, read):
        assert change.percent is not None


def caches(path: Path, raw: Path) -> None:
    from syndiff.preparation.measure import _cached

    content = json.loads(TEXT[Cached])
    found = _cached(path, content["key"])
    assert found is None or found["T1"]["reference_mean"] > 0


TEXT: dict[Any, str] = {
    channels: json.dumps({"channel_names": {"0": "T1", "1": "T2"}, "numTraining": 3}),
    benchmarks: json.dumps({"format": 1, "cases": [CASE]}),
    says_synthetic: json.dumps(SIDE),
    Cached: json.dumps({"key": {"files": {"T1": "a/T1.nii"}}, "records": {"T1": ENTRY}}),
}


@pytest.mark.parametrize(
    ("sound", "use"),
    [
        (TEXT[channels], channels),
        (TEXT[benchmarks], benchmarks),
        (TEXT[says_synthetic], lambda path, raw: says_synthetic(path)),
        (TEXT[Cached], caches),
    ],
)
@settings(max_examples=50)
@given(draw=st.data())
def test_damaged_json_is_read_or_refused(
    scans: Path, sound: str, use: Callable[[Path, Path], None], draw: st.DataObject
) -> None:
    path = scans.parent / "damaged.json"
    path.write_text(draw.draw(mutated(json.loads(sound))))
    one_line(lambda: use(path, scans))


def one_line(act: Callable[[], object]) -> None:
    """Run something that may refuse what it reads, in one line."""
    with suppress(UserError):
        try:
            act()
        except UserError as error:
            if "\n" in str(error):
                raise AssertionError(f"{error!r} has several lines") from error
            raise


def test_sound_ones_are_read(scans: Path) -> None:
    """Or the tests above would pass on refusals alone."""
    path = scans.parent / "sound"
    for text, use in ((TABLE, table), (SPLITS, splits), (HISTORY, histories)):
        path.write_text(text)
        use(path, scans)
    for name in (benchmarks, channels):
        path.write_text(TEXT[name])
        name(path, scans)
    path.write_text(TEXT[Cached])
    caches(path, scans)
    path.write_text(TEXT[says_synthetic])
    assert says_synthetic(path)


def test_a_pipe_beside_a_scan_blocks_nothing(scans: Path) -> None:
    """A side-car, a table, a description that is a pipe would be waited for for ever."""
    pipe = scans / "dataset.json"
    os.mkfifo(pipe)
    try:
        assert not says_synthetic(pipe)
        find_cohort(scans, ("T1",), Choice())
        with pytest.raises(UserError, match="is no file"):
            read_table(pipe, scans, ("T1",))
    finally:
        pipe.unlink()


@pytest.mark.parametrize("slices", ["slices/../../mine.npy", "/etc/mine.npy", 5, None])
def test_a_note_of_a_stranger_deletes_nothing_outside(tmp_path: Path, slices: Any) -> None:
    """What an interrupted `prepare` left behind is cleared away, and only that."""
    data = write_prepared(tmp_path / "data", {"train1": "T1"}, ("T1",))
    content = json.loads((data / FILE_NAME).read_text())
    (tmp_path / "mine.npy").touch()
    work = data / ".work"
    work.mkdir()
    scale = content["intensity"]["T1"]
    note = {"entry": content["scans"][0] | {"slices": slices}, "scale": scale}
    (work / "x.T1.written.json").write_text(json.dumps(note))
    with pytest.raises(UserError, match="slices") as caught:
        OutFolder(data, {}, None).finish(content)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert (tmp_path / "mine.npy").exists()


@pytest.mark.parametrize("key", ["files", "skipped", "synthetic", "people_lacking_a_modality"])
@pytest.mark.parametrize("value", [5, [5], [{"file": 1}], {"a": 1}])
def test_what_was_left_out_is_checked_too(tmp_path: Path, key: str, value: Any) -> None:
    data = write_prepared(tmp_path, {"train1": "T1"}, ("T1",))
    content = json.loads((data / FILE_NAME).read_text())
    content["left_out"] = {key: value}
    (data / FILE_NAME).write_text(json.dumps(content))
    with pytest.raises(UserError, match="left_out"):
        left_out(read_manifest(data))
