"""Every fault that is planted is found, with a remedy; a clean cohort has none."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from syndiff import cli
from syndiff.io import formats
from syndiff.preparation.manifest import read_manifest
from syndiff.preparation.recipe import prepare
from syndiff.quality.examine import examined
from syndiff.quality.findings import LOOK, SPOILS, Finding, findings
from syndiff.quality.pairs import before, pairs_of
from syndiff.quality.report import examine
from tests.helpers.heads import SPACING_MM, head, write_heads

SPLIT = {"train": 8, "val": 1, "test": 5}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_heads(tmp_path_factory.mktemp("heads") / "raw")


@pytest.fixture(scope="module")
def clean(raw: Path) -> Path:
    out = raw.parent / "data"
    prepare(raw, out, modalities=("T1", "T2"), split=SPLIT, size=48, register=False)
    return out


@pytest.fixture
def data(clean: Path, tmp_path: Path) -> Path:
    """A copy to plant a fault in."""
    return shutil.copytree(clean, tmp_path / "data")


def slices(data: Path, subject: str, modality: str) -> Path:
    (path,) = data.glob(f"slices/*/{modality}/{subject}.npy")
    return path


def change(data: Path, subject: str, modality: str, how: Callable) -> None:
    path = slices(data, subject, modality)
    np.save(path, np.ascontiguousarray(how(np.load(path)), dtype=np.float32))


def found(data: Path) -> list[Finding]:
    return findings(examined(data, ("T1", "T2")))


def only(data: Path, check: str, level: str = SPOILS) -> Finding:
    """The one finding of a check at a level; every finding tells what to do."""
    of = found(data)
    assert all(f.remedy and f.says for f in of)
    (one,) = [f for f in of if f.check == check and f.level == level]
    return one


def test_clean_cohorts_have_no_finding(raw: Path, clean: Path) -> None:
    assert found(clean) == []
    assert found(raw) == []


def test_nan_blank_and_clipped_slices(data: Path) -> None:
    def holed(a):
        a[3, 5, 5] = np.nan
        return a

    def blanked(a):
        a[10:14] = 0
        return a

    change(data, "p01", "T1", holed)
    change(data, "p02", "T2", blanked)
    change(data, "p03", "T1", lambda a: np.minimum(a * 1.6, 1))
    assert only(data, "nan").who == ("p01 T1 (1 values)",)
    assert "p02 T2 (4 of" in only(data, "blank").who[0]
    assert only(data, "clipped").who[0].startswith("p03 T1")


def test_copies_in_two_splits_and_in_one(data: Path) -> None:
    manifest = read_manifest(data)
    counts = {s.subject: s.count for s in manifest.scans("train", "T1")}
    trained, tested = next(
        (a, b.subject)
        for b in manifest.scans("test", "T1")
        for a in counts
        if counts[a] == b.count
    )
    copy = np.load(slices(data, trained, "T1"))
    copy = np.clip(copy + np.random.default_rng(0).normal(0, 0.003, copy.shape), 0, 1)
    change(data, tested, "T1", lambda a: copy)
    assert only(data, "duplicates").who == (f"{trained} T1 = {tested} T1 (test)",)
    counts = {s.subject: s.count for s in manifest.scans("train", "T2")}
    first, other = next((a, b) for a in counts for b in counts if a < b and counts[a] == counts[b])
    same = np.load(slices(data, first, "T2"))
    change(data, other, "T2", lambda a: same)
    assert only(data, "duplicates", LOOK).who == (f"{first} T2 = {other} T2 (train)",)


def test_mirrored_and_turned_scans(data: Path) -> None:
    change(data, "p12", "T2", lambda a: a[:, :, ::-1])
    change(data, "p04", "T1", lambda a: a[:, ::-1])
    change(data, "p05", "T1", lambda a: a[::-1])
    said = {f.says: f.who for f in found(data) if f.check == "mirrored"}
    assert said["one of the two scans is mirrored, left to right"] == ("p12 (T1, T2)",)
    assert said["scans that lie back to front"] == ("p04 T1",)
    assert said["scans that lie upside down"] == ("p05 T1",)


def test_contrasts_exchanged(data: Path) -> None:
    paths = [slices(data, "p09", m) for m in ("T1", "T2")]
    first, second = (np.load(path) for path in paths)
    np.save(paths[0], second)
    np.save(paths[1], first)
    assert set(only(data, "contrasts").who) == {"p09 T1 looks like T2", "p09 T2 looks like T1"}


def test_pairs_that_do_not_lie_on_each_other(data: Path) -> None:
    change(data, "p13", "T2", lambda a: np.roll(a, 3, axis=2))
    assert only(data, "registration").who[0].startswith("p13 (T1, T2) ")
    worst = pairs_of(read_manifest(data))[0]
    assert worst.subject == "p13", "the worst comes first"
    assert worst.offset_px == pytest.approx(3, abs=0.1)


def test_before_registration_is_shown_where_it_was(data: Path) -> None:
    manifest = read_manifest(data)
    scan = next(s for s in manifest.scans("test", "T2") if s.subject == "p13")
    shift = np.eye(4)
    shift[0, 3] = 2 * manifest.spacing_mm  # to the right in the moving scan's world
    scan.record["registration"] |= {
        "method": "affine", "reference_to_scan_world_mm": shift.tolist(),
    }  # fmt: skip
    shown = before(scan, 10)
    # What registration shows at p was at M p; so by the headers it lies two pixels further on.
    np.testing.assert_allclose(shown[:, 2:], scan.load()[10][:, :-2], atol=1e-5)


def test_histograms_and_sizes_of_one_unlike_the_others(data: Path) -> None:
    change(data, "p06", "T2", lambda a: a**0.4)
    assert only(data, "histograms", LOOK).who == ("p06 T2",)
    path = data / "manifest.json"
    content = json.loads(path.read_text())
    entry = next(s for s in content["scans"] if (s["subject"], s["modality"]) == ("p07", "T1"))
    entry["file_affine"] = np.diag([2 * SPACING_MM] * 3 + [1.0]).tolist()
    path.write_text(json.dumps(content))
    (who,) = [f.who for f in found(data) if f.check == "sizes" and "voxels" in f.says]
    assert who == (f"p07 T1 {2 * SPACING_MM:g} x {2 * SPACING_MM:g} x {2 * SPACING_MM:g} mm",)


def test_too_few_people_and_damaged_slices(raw: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    prepare(raw, few, modalities=("T1", "T2"), split={"train": 2, "test": 1}, size=32,
            register=False)  # fmt: skip
    of = [f for f in found(few) if f.check == "people"]
    assert sum(f.level == SPOILS for f in of) == 2
    assert any("pair in val" in f.says for f in of)
    path = slices(few, "p01", "T1")
    path.write_bytes(path.read_bytes()[:-100])
    assert only(few, "unreadable").who == ("p01 T1",)


@pytest.mark.slow
def test_faults_of_raw_scans(raw: Path, tmp_path: Path) -> None:
    bad = shutil.copytree(raw, tmp_path / "raw")
    shutil.copy(bad / "p01/T1.nii.gz", bad / "p02/T1.nii.gz")
    (bad / "p03/T1.nii.gz").write_bytes((bad / "p03/T1.nii.gz").read_bytes()[:400])
    formats.write(head(4, "T2"), bad / "p04/T1.nii.gz")
    scan = head(5, "T1")
    formats.write(type(scan)(scan.array, np.diag([9.0, 9, 9, 1])), bad / "p05/T1.nii.gz")
    of = {f.check: f for f in found(bad) if f.level == SPOILS}
    assert {"duplicates", "unreadable", "contrasts", "sizes"} <= set(of)
    assert of["duplicates"].who == ("p01 T1 = p02 T1", "p04 T1 = p04 T2")
    assert of["unreadable"].who == ("p03 T1",)
    assert of["contrasts"].who == ("p04 T1 looks like T2",)
    assert of["sizes"].who[0].startswith("p05 T1")


def run(*words: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["syndiff", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)


def test_the_command_ends_in_0_1_or_2(clean: Path, data: Path, tmp_path: Path, capsys) -> None:
    assert run("doctor", clean, "--out", tmp_path / "clean.html") == 0
    assert "nothing spoils training" in (said := capsys.readouterr().out)
    assert "next: syndiff train" in said
    change(data, "p01", "T1", lambda a: a * np.nan)
    assert run("doctor", data) == 1
    assert "would spoil training: " in capsys.readouterr().out
    assert "p01 T1" in (tmp_path / "quality.html").read_text(encoding="utf-8")
    assert run("doctor", tmp_path / "nothing") == 2
    (data / "manifest.json").write_text("{")
    assert run("doctor", data) == 2


def test_the_page_is_self_contained_and_escaped(data: Path, tmp_path: Path) -> None:
    page = tmp_path / "quality.html"
    examine(data, page)
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert "http" not in re.sub(r"data:image/png;base64,[^\"]*", "", text)
    assert "prefers-color-scheme: dark" in text
    assert text.count("<polyline") == 28


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.slow
def test_a_browser_shows_the_page_without_scrolling_sideways(data: Path, tmp_path: Path) -> None:
    page = tmp_path / "quality.html"
    examine(data, page)
    probe = (
        "<script>document.title = document.documentElement.scrollWidth + '/' + innerWidth</script>"
    )
    page.write_text(page.read_text(encoding="utf-8") + probe, encoding="utf-8")
    for width in (1280, 500):
        done = subprocess.run(
            [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
             f"--window-size={width},900", page.as_uri()],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        (title,) = re.findall(r"<title>(\d+)/(\d+)</title>", done.stdout)
        assert int(title[0]) <= int(title[1]) == width
