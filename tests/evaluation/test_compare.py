"""One table of methods, with baselines, significance and pictures; folders of other software."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from syndiff.errors import DataError, OptionError, UserError
from syndiff.evaluation.baselines import fit_regression
from syndiff.evaluation.compare import compare
from syndiff.evaluation.panels import zoomed_square
from syndiff.evaluation.statistics import Comparison
from syndiff.evaluation.tables import csv_text, latex, make_table, markdown
from syndiff.preparation.manifest import read_manifest
from tests.helpers.tiny import write_prepared

PEOPLE = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    subjects = {f"train{n}": "T1 T2" for n in (1, 2)} | {
        f"test{n}": "T1 T2" for n in range(1, PEOPLE + 1)
    }
    return write_prepared(tmp_path_factory.mktemp("compare") / "data", subjects, ("T1", "T2"))


@pytest.fixture(scope="module")
def methods(data) -> dict[str, Path]:
    """Two folders as any software may leave them: the acquired T2 with little and much noise."""
    folders = {}
    for number, (name, noise) in enumerate((("ours_1", 0.01), ("theirs", 0.2))):
        folders[name] = data.parent / name
        folders[name].mkdir()
        for index, scan in enumerate(read_manifest(data).scans("test", "T2")):
            rng = np.random.default_rng([number, index])
            slices = np.array(scan.load())
            made = np.clip(slices + noise * rng.standard_normal(slices.shape), 0, 1)
            np.save(folders[name] / f"{scan.subject}.npy", made.astype(np.float32))
    return folders


@pytest.fixture(scope="module")
def compared(data, methods) -> tuple[dict, Path]:
    out = data.parent / "out"
    content = compare(
        data, out, methods=methods, source="T1", target="T2", metrics=["psnr_db", "ssim"]
    )
    return content, out


def test_every_file_is_there_and_can_be_replaced_by_another_comparison(compared, data, methods):
    content, out = compared
    stored = json.loads((out / "comparison.json").read_text())
    assert stored == json.loads(json.dumps(content))
    assert list(stored["models"]) == ["ours_1", "theirs", "copy", "histogram", "regression"]
    assert stored["profile"]["name"] == "subject"
    for name in ("metrics.json", "metrics.csv", "report.html", "table.md", "table.tex"):
        assert (out / name).stat().st_size > 0
    pictures = sorted((out / "pictures").glob("*.png"))
    assert len(pictures) == 4
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)
    assert b"SYNTHETIC" in pictures[0].read_bytes()
    written = "".join(
        (out / n).read_text() for n in ("comparison.json", "table.md", "report.html")
    )
    assert str(data.parent) not in written


def test_the_best_is_bold_and_the_people_are_too_few_for_stars(compared):
    content, out = compared
    table = (out / "table.md").read_text()
    row = next(line for line in table.splitlines() if line.startswith("| ours_1 |"))
    assert row.count("**") == 4  # both columns
    assert table.count("**") == 4
    assert "cannot reach p < 0.05 after Holm's correction for 8 comparisons" in table
    tex = (out / "table.tex").read_text()
    assert r"\toprule" in tex
    assert r"ours\_1 & \textbf{" in tex
    assert tex.count(r" \\") == 6
    psnr = [c for c in content["comparisons"] if c["metric"] == "psnr_db"]
    assert [c["method"] for c in psnr] == ["theirs", "copy", "histogram", "regression"]
    assert {c["against"] for c in psnr} == {"ours_1"}
    assert all(c["n"] == PEOPLE and c["p"] == pytest.approx(2 / 2**PEOPLE) for c in psnr)
    assert all(c["effect"] == -1 and c["interval"][1] < 0 for c in psnr)


def test_the_csv_holds_what_the_results_hold(compared):
    content, out = compared
    rows = list(csv.DictReader(io.StringIO((out / "table.csv").read_text())))
    assert len(rows) == 5 * 2
    theirs = next(r for r in rows if (r["method"], r["metric"]) == ("theirs", "psnr_db"))
    means = content["models"]["theirs"]
    assert float(theirs["person_mean"]) == means["person_means"]["psnr_db"]
    assert float(theirs["slice_mean"]) == means["slice_means"]["psnr_db"]
    assert float(theirs["difference"]) == pytest.approx(
        means["person_means"]["psnr_db"] - content["models"]["ours_1"]["person_means"]["psnr_db"]
    )


def test_by_slice_is_the_papers_way_and_says_so(data, methods, tmp_path, monkeypatch):
    monkeypatch.setattr("syndiff.evaluation.compare.panel_png", lambda *_: b"")  # they are slow
    monkeypatch.setattr("syndiff.evaluation.results.render", lambda *_: "")
    content = compare(
        data, tmp_path / "out", methods=methods, source="T1", target="T2", profile="paper",
        metrics=["psnr_db"], by="slice", against="theirs",
    )  # fmt: skip
    slices = content["models"]["theirs"]["slices"]
    assert {c["n"] for c in content["comparisons"]} == {slices}
    assert slices > PEOPLE
    assert "not independent" in content["warnings"][0]
    table = (tmp_path / "out" / "table.md").read_text()
    assert "taken for people as in the paper" in table
    assert r"\*\*\*" in next(line for line in table.splitlines() if line.startswith("| ours_1"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": {}}, "no method"),
        ({"against": "nobody"}, "nobody"),
        ({"metrics": ["beauty"]}, "beauty"),
        ({"by": "voxel"}, "voxel"),
        ({"methods": {"copy": "theirs"}}, "the model name 'copy'"),
        ({"methods": {"none": "nowhere"}}, "a translator, a run, or a folder"),
        ({"profile": "synthrad2023"}, "a CT in HU"),
    ],
)
def test_bad_options_write_nothing(data, methods, tmp_path, options, message):
    given = {"methods": methods, "source": "T1", "target": "T2"} | options
    given["methods"] = {n: methods.get(str(p), Path(p)) for n, p in given["methods"].items()}
    with pytest.raises(UserError, match=message):
        compare(data, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_a_missing_subject_is_named(data, methods, tmp_path):
    (tmp_path / "part").mkdir()
    np.save(tmp_path / "part" / "test1.npy", np.load(methods["theirs"] / "test1.npy"))
    with pytest.raises(DataError, match="0 files of test2"):
        compare(
            data, tmp_path / "out", methods={"part": tmp_path / "part"}, source="T1", target="T2"
        )
    np.save(tmp_path / "part" / "test1.npy", np.zeros((1, 2, 3), np.float32))
    with pytest.raises(DataError, match="shape"):
        compare(
            data, tmp_path / "out", methods={"part": tmp_path / "part"}, source="T1", target="T2"
        )


def test_a_runs_translator_is_found_by_its_own_direction(tmp_path):
    from syndiff.evaluation.folders import sort

    for name in ("T1_to_T2", "T2_to_T1"):
        (tmp_path / "run/translators" / name).mkdir(parents=True)
    (tmp_path / "run/settings.json").write_text('{"source": "T2", "target": "T1"}')
    run = {"mine": tmp_path / "run"}
    assert sort(run, None, None).models["mine"].name == "T2_to_T1"
    assert sort(run, "T1", "T2").models["mine"].name == "T1_to_T2"
    with pytest.raises(OptionError, match="T1_to_PD"):
        sort(run, "T1", "PD")


def test_regression_is_the_mean_target_of_each_intensity():
    """Where the target is a curve of the source with noise, the curve; elsewhere the source."""
    rng = np.random.default_rng(0)
    source = rng.uniform(0, 1, (4, 64, 64)).astype(np.float32)
    target = (1 - source**2 + rng.choice([-0.1, 0.1], source.shape)).astype(np.float32)
    curve = fit_regression([(source, target)], source_foreground=lambda s: s > 0.2)
    inside = source > 0.25
    # a bin holds about 60 pixels: 0.1 / sqrt(60) = 0.013 each
    assert np.abs(curve(source) - np.clip(1 - source**2, 0, 1))[inside].mean() < 0.013
    assert np.array_equal(curve(source)[source < 0.2], source[source < 0.2])
    with pytest.raises(DataError, match="pairs"):
        fit_regression([], source_foreground=lambda s: s > 0)


def test_a_table_escapes_names_and_marks_what_differs():
    entry = {"people": 2, "psnr_db": 20.0, "psnr_db_std": 1.0}
    better = entry | {"psnr_db": 22.0}
    results = {
        "unit": "a.u.",
        "models": {
            n: {"person_means": m, "slice_means": m}
            for n, m in (("a_b|c", entry), ("100%", better))
        },
    }
    test = Comparison("a_b|c", "100%", "psnr_db", 9, -2.0, (-3.0, -1.0), 0.004, 0.004, True, -1.0)
    table = make_table(results, ["psnr_db"], [test], ["50 % ± 1"])
    assert r"| a_b\|c | 20.00 ± 1.00\*\* |" in markdown(table)
    assert "| 100% | **22.00 ± 1.00** |" in markdown(table)
    assert r"a\_b|c & 20.00 $\pm$ 1.00$^{**}$ \\" in latex(table)
    assert r"100\% & \textbf{22.00 $\pm$ 1.00} \\" in latex(table)
    assert r"% 50 \% $\pm$ 1" in latex(table)
    assert csv_text(results, ["psnr_db"], [test]).count("\n") == 3


def test_the_zoom_goes_where_the_methods_err_most():
    reference = np.zeros((48, 60))
    made = reference.copy()
    made[30:34, 40:44] = 1.0
    (row, column), side = zoomed_square(reference, {"m": made})
    assert side == 16
    assert row <= 30
    assert row + side >= 34
    assert column <= 40
    assert column + side >= 44
