"""Scoring, baselines, and the three result files, without networks."""

import csv
import hashlib
import json
import re
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from syndiff.errors import DataError, ModelError, OptionError, UserError
from syndiff.evaluation import (
    baselines,
    candidates,
    evaluate,
    metrics,
    profiles,
    results,
    verdict,
)
from syndiff.evaluation.candidates import How
from syndiff.evaluation.planes import slice_jumps
from syndiff.evaluation.scoring import (
    Case,
    choose_pictures,
    evaluate_predictions,
    mean_and_deviation,
    summarise_model,
)
from syndiff.preparation import manifest
from syndiff.preparation.geometry import SliceGrid
from syndiff.preparation.intensity import IntensityScale, window_scale
from syndiff.reporting import Silent
from syndiff.translators import load_translator, locate

PAPER = profiles.PROFILES["paper"]
MR_SCALE = IntensityScale("robust", "a.u.", 2.0, 300.0)


def brain(seed: int, contrast: tuple[float, float, float], n: int = 6) -> np.ndarray:
    """Slices (n, 48, 48) of a head with two tissues; one seed is one anatomy."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[-0.6 : 0.6 : n * 1j, -1:1:48j, -1:1:48j]
    radius = np.sqrt(y**2 / 0.55 + x**2 / (0.4 + 0.1 * rng.random()) + z**2)
    wavy = gaussian_filter(rng.standard_normal((n, 48, 48)), (1, 4, 4)) * 12
    image = np.where(radius < 1, contrast[0], 0.0)
    image[(radius < 0.9) & (wavy > 0)] = contrast[1]
    image[(radius < 0.35)] = contrast[2]
    return np.clip(gaussian_filter(image, (0, 0.7, 0.7)), 0, 1).astype(np.float32)


class Heard(Silent):
    """A reporter that keeps (done, total) of every progress."""

    def __init__(self):
        self.steps = []

    def progress(self, done, total, detail=""):
        self.steps.append((done, total))


T1, T2 = (0.8, 0.5, 0.1), (0.3, 0.5, 1.0)


def case(seed: int, n: int = 6, subject: str | None = None, person: str = "") -> Case:
    indices = tuple(range(10, 10 + n))
    load = lambda: (brain(seed, T1, n), brain(seed, T2, n))  # noqa: E731
    return Case(subject or f"sub-{seed:03d}", indices, load, person)


def perfect(slices: np.ndarray) -> np.ndarray:
    """The answer, found by trying the anatomies."""
    for seed in range(1, 6):
        if np.allclose(brain(seed, T1, len(slices)), slices, atol=1e-5):
            return brain(seed, T2, len(slices))
    raise AssertionError


# ---- scoring ----------------------------------------------------------------------------------


def test_scores_per_slice_subject_and_overall():
    predictors = {
        "perfect": perfect,
        "moved": lambda s: np.roll(perfect(s), 2, axis=1),
        "copy": baselines.copy,
    }
    heard = Heard()
    cases = [case(1, 6), case(2, 4)]
    result = evaluate_predictions(cases, predictors, PAPER, report=heard)
    assert len(result.scores) == 3 * (6 + 4)
    assert result.models == ["perfect", "moved", "copy"]
    assert result.subjects == ["sub-001", "sub-002"]
    assert heard.steps[0] == (0, 6)
    assert heard.steps[-1] == (6, 6)

    entry = summarise_model(result, "moved")
    per_slice = [score.values["psnr_db"] for score in result.of("moved")]
    assert entry["slices"] == 10
    assert entry["slice_means"]["psnr_db"] == pytest.approx(np.mean(per_slice))
    assert entry["slice_means"]["psnr_db_std"] == pytest.approx(np.std(per_slice, ddof=1))
    by_subject = [entry["subjects"][name]["psnr_db"] for name in result.subjects]
    assert by_subject[1] == pytest.approx(np.mean(per_slice[6:]))
    assert entry["person_means"]["psnr_db"] == pytest.approx(np.mean(by_subject))
    assert entry["offset_px"] == pytest.approx(2, abs=0.1)
    assert entry["offset_yx_px"] == pytest.approx([2, 0], abs=0.1)

    best = summarise_model(result, "perfect")
    assert best["slice_means"]["psnr_db"] == metrics.PSNR_CEILING_DB
    assert best["slice_means"]["ssim"] == pytest.approx(1)
    assert best["offset_px"] < 0.01
    assert summarise_model(result, "copy")["slice_means"]["psnr_db"] < 20


def test_a_person_of_many_visits_counts_once():
    """Visits resemble each other: as people of their own they would shrink the spread."""
    visits = [case(1, 4, f"a_{n}", "a") for n in range(5)]
    cases = [*visits, case(2, 4, "b_1", "b")]
    result = evaluate_predictions(cases, {"copy": baselines.copy}, PAPER)
    entry = summarise_model(result, "copy")
    of_a, of_b = (entry["subjects"][s]["psnr_db"] for s in ("a_0", "b_1"))
    assert of_a != pytest.approx(of_b, abs=1e-3)
    means = entry["person_means"]
    assert means["people"] == 2
    assert means["psnr_db"] == pytest.approx((of_a + of_b) / 2)
    assert means["psnr_db_std"] == pytest.approx(abs(of_a - of_b) / 2**0.5)
    assert result.people == {"a": [f"a_{n}" for n in range(5)], "b": ["b_1"]}


def test_visits_are_told_from_people_in_the_results(room):
    """Two visits of one person are one person in the table, the page and the warning."""
    content = json.loads((room.data / "manifest.json").read_text())
    for entry in content["scans"]:
        entry |= {"person": "one"} if entry["split"] == "test" else {}
    (room.data / "manifest.json").write_text(json.dumps(content))
    results = room.run()
    assert results["people"] == {"one": ["sub-3", "sub-4"]}
    assert results["models"]["good"]["person_means"]["people"] == 1
    assert any("one test person" in warning for warning in results["warnings"])
    assert "The mean of one person" in (room.out / "report.html").read_text()


def test_blank_reference_slices_are_left_out_and_counted():
    def load():
        source, reference = brain(1, T1), brain(1, T2)
        reference[0] = 0
        return source, reference

    result = evaluate_predictions(
        [Case("sub-1", tuple(range(6)), load)], {"copy": baselines.copy}, PAPER
    )
    assert result.blank_slices == 1
    assert [score.slice_index for score in result.scores] == [1, 2, 3, 4, 5]
    blank = Case("sub-1", tuple(range(6)), lambda: (brain(1, T1), np.zeros_like(brain(1, T1))))
    with pytest.raises(DataError, match="blank"):
        evaluate_predictions([blank], {"copy": baselines.copy}, PAPER)


@pytest.mark.parametrize(
    ("predict", "message"),
    [
        (lambda s: s[:, :-1], "shape"),
        (lambda s: np.full_like(s, np.nan), "NaN"),
        (lambda s: s[:-1], "shape"),
    ],
)
def test_what_cannot_be_scored_is_named(predict, message):
    with pytest.raises(DataError, match=f"mine gave .*{message}"):
        evaluate_predictions([case(1)], {"mine": predict}, PAPER)


def test_blank_predictions_are_scored_without_an_offset():
    result = evaluate_predictions([case(1)], {"blank": np.zeros_like}, PAPER)
    entry = summarise_model(result, "blank")
    assert entry["offset_px"] is None
    assert 0 < entry["slice_means"]["psnr_db"] < 20
    json.dumps(entry, allow_nan=False)


@pytest.mark.parametrize("counts", [[40], [40, 30], [9, 9, 9, 9, 9, 9], [1], [1, 1], [0, 5], [2]])
def test_pictures_are_spread_over_subjects_and_exist(counts):
    chosen = choose_pictures(counts, 4)
    assert len(chosen) == len(counts)
    assert all(0 <= i < count for some, count in zip(chosen, counts, strict=True) for i in some)
    assert 1 <= sum(map(len, chosen)) <= 4
    assert sum(map(bool, chosen)) == min(4, sum(map(bool, counts)))


def test_pictures_hold_what_psnr_compares():
    result = evaluate_predictions([case(1)], {"copy": lambda s: 0.5 * s}, PAPER, pictures=1)
    (picture,) = result.pictures
    assert picture.reference.max() == pytest.approx(1)
    error = np.mean((picture.synthetic["copy"].astype(float) - picture.reference) ** 2)
    assert picture.scores["copy"]["psnr_db"] == pytest.approx(-10 * np.log10(error), abs=1e-3)


def test_one_value_has_no_deviation():
    assert mean_and_deviation([2.0]) == (2.0, 0.0)


# ---- baselines --------------------------------------------------------------------------------


def everything(slices):
    return np.ones(slices.shape, bool)


def test_histogram_map_of_a_monotone_change_undoes_it():
    """Where the target is a monotone curve of the source, the map is that curve."""
    rng = np.random.default_rng(0)
    train, other = rng.random((2, 5, 64, 64)).astype(np.float32)
    curve = baselines.fit_histogram(
        [train], [other**2], source_foreground=everything, target_foreground=everything
    )
    test = rng.random((3, 64, 64)).astype(np.float32)
    assert np.abs(curve(test) - test**2).max() < 0.03
    assert curve(test).dtype == np.float32


def test_histogram_map_leaves_the_background_and_saturated_values_within_range():
    # A little texture: all voxels of one value would have to go to one value.
    texture = np.random.default_rng(0).uniform(0, 0.3, (6, 48, 48)).astype(np.float32)
    source, target = brain(1, T1) * (1 - texture), brain(2, T2) * (1 - texture[::-1])
    head = lambda s: s > 0.05  # noqa: E731
    curve = baselines.fit_histogram(
        [source], [target], source_foreground=head, target_foreground=head
    )
    mapped = curve(source)
    assert np.array_equal(mapped[~head(source)], source[~head(source)])
    assert mapped.min() >= 0
    assert mapped.max() <= 1
    inside = np.quantile(mapped[head(source)], [0.1, 0.5, 0.9])
    assert inside == pytest.approx(np.quantile(target[head(target)], [0.1, 0.5, 0.9]), abs=0.05)


def test_histogram_map_needs_tissue():
    with pytest.raises(DataError, match="tissue"):
        baselines.fit_histogram(
            [np.zeros((2, 8, 8), np.float32)],
            [np.ones((2, 8, 8), np.float32)],
            source_foreground=lambda s: s > 0,
            target_foreground=lambda s: s > 0,
        )


# ---- the whole room ---------------------------------------------------------------------------


GRID = SliceGrid((48, 48), (3.5, 3.5), (48, 48), 3.5)


def prepared(folder: Path, test_subjects=(3, 4)) -> manifest.Manifest:
    """Write a folder as `syndiff prepare` leaves it, and read it."""
    entries = []
    for split, seeds in (("train", (1, 2)), ("test", test_subjects)):
        for seed in seeds:
            for modality, contrast in (("T1", T1), ("T2", T2), ("CT", T2)):
                name = manifest.slices_name(split, modality, f"sub-{seed}")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                np.save(folder / name, brain(seed, contrast))
                entries.append(
                    {
                        "subject": f"sub-{seed}",
                        "modality": modality,
                        "split": split,
                        "slices": name,
                        "slice_indices": [10, 11, 12, 13, 14, 15],
                        "foreground_mean": 1.0,
                        "grid": GRID.to_dict(),
                        "tissue_quantiles": [0.1, 0.2, 0.3, 0.4, 0.5],
                        "reference": "T1",
                    }
                )
    scales = {"T1": MR_SCALE, "T2": MR_SCALE, "CT": window_scale()}
    content = {
        "modalities": list(scales),
        "size": [48, 48],
        "spacing_mm": 3.5,
        "intensity": {name: scale.to_dict() for name, scale in scales.items()},
        "scans": entries,
    }
    manifest.write_manifest(folder, content)
    return manifest.read_manifest(folder)


def translator(sources=("T1",), target="T2", spacing_mm=3.5, scale=MR_SCALE):
    intensity = {name: scale.to_dict() for name in (*sources, target)}
    if target == "CT" or "CT" in sources:
        intensity["CT"] = window_scale().to_dict()
    config = {"intensity": intensity, "training": {"steps": 1234}}
    return SimpleNamespace(
        weights="model.safetensors",
        sources=sources,
        source="+".join(sources),
        target=target,
        spacing_mm=spacing_mm,
        require_source=lambda: None,
        config=config,
    )


@pytest.fixture
def room(tmp_path, monkeypatch):
    """`run(**options)` evaluates two fake models on fake data into tmp_path / "out"."""
    data = tmp_path / "data"
    data.mkdir()
    held = SimpleNamespace(
        data=data,
        manifest=prepared(data),
        out=tmp_path / "out",
        translators={"good": translator(), "moved": translator()},
        predict={"good": perfect, "moved": lambda s: np.roll(perfect(s), 1, axis=2)},
        back={},
    )
    folder = tmp_path / "T1_to_T2"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(candidates, "load", lambda name, path: held.translators[name])
    monkeypatch.setattr(candidates, "other_direction", lambda path, t: held.back.get(path.name))
    monkeypatch.setattr(
        candidates,
        "predictor",
        lambda t, how: next(
            held.predict[n] for n, other in held.translators.items() if t is other
        ),
    )

    def run(models=("good", "moved"), **options):
        paths = {name: folder for name in models}
        return evaluate.evaluate(data, held.out, models=paths, **options)

    held.run = run
    return held


class Page(HTMLParser):
    """Collects what matters of a page: its images and everything it would fetch."""

    def __init__(self, text):
        super().__init__()
        self.images, self.fetched, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "img":
            self.images.append(attrs)
        self.fetched += [v for k, v in attrs.items() if k in ("src", "href") and v[:5] != "data:"]
        if tag not in ("img", "meta", "input", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"


def test_results_are_written_as_promised(room):
    results = room.run()
    stored = json.loads((room.out / "metrics.json").read_text())
    assert stored == json.loads(json.dumps(results))
    assert stored["format"] == 1
    assert (stored["source"], stored["target"], stored["split"]) == ("T1", "T2", "test")
    assert stored["subjects"] == ["sub-3", "sub-4"]
    assert stored["profile"]["name"] == "subject"
    assert stored["profile"]["mask"] == "inside"
    assert stored["profile"]["window_size"] == 11
    assert list(stored["models"]) == ["good", "moved", "copy", "histogram"]
    for entry in stored["models"].values():
        for means in (entry["slice_means"], entry["person_means"]):
            assert {"psnr_db", "psnr_db_std", "ssim", "ssim_std", "mae", "nmse"} <= set(means)
        assert set(entry["subjects"]) == {"sub-3", "sub-4"}
    good, moved = stored["models"]["good"], stored["models"]["moved"]
    assert good["person_means"]["psnr_db"] > moved["person_means"]["psnr_db"]
    assert good["offset_px"] < 0.05
    assert moved["offset_px"] == pytest.approx(1, abs=0.1)
    assert moved["offset_mm"] == pytest.approx(3.5, abs=0.35)
    assert good["config"] == room.translators["good"].config
    assert good["config"]["training"] == {"steps": 1234}
    assert any("moved places its images" in warning for warning in stored["warnings"])
    assert not any("good" in warning for warning in stored["warnings"])

    rows = list(csv.DictReader((room.out / "metrics.csv").open()))
    assert len(rows) == 4 * 2 * 6
    assert rows[0]["slice_index"] == "10"
    mean = np.mean([float(row["psnr_db"]) for row in rows if row["model"] == "moved"])
    assert mean == pytest.approx(moved["slice_means"]["psnr_db"], abs=1e-3)


def test_the_same_evaluation_gives_the_same_numbers(room):
    first, second = room.run(), room.run()
    del first["provenance"], second["provenance"]
    assert first == second
    assert sorted(p.name for p in room.out.iterdir()) == [
        "anatomy.csv",
        "metrics.csv",
        "metrics.json",
        "report.html",
    ]


def test_models_are_compared_with_their_sources(room):
    results = room.run()
    good, moved = (results["models"][name]["anatomy"] for name in ("good", "moved"))
    assert good["source_offset_px"] < 0.2
    assert moved["source_offset_yx_px"] == pytest.approx([0, 1], abs=0.2)
    assert moved["source_offset_mm"] == pytest.approx(3.5 * moved["source_offset_px"])
    assert good["foreground_dice"] > moved["foreground_dice"] > 0.8
    assert good["way_back_error"] is None
    assert good["way_back_slices"] == 0
    assert results["models"]["copy"]["anatomy"] is None
    assert results["warnings"][0].startswith("what moved makes lies 1.")
    assert "structure term" in results["warnings"][0]
    rows = list(csv.DictReader((room.out / "anatomy.csv").open()))
    assert {(row["model"], row["subject"]) for row in rows} == {
        (model, subject) for model in ("good", "moved") for subject in ("sub-3", "sub-4")
    }
    assert all(
        abs(float(r["source_offset_dx_px"]) - 1) < 0.3 for r in rows if r["model"] == "moved"
    )
    text = (room.out / "report.html").read_text(encoding="utf-8")
    assert 'id="anatomy"' in text
    assert "Offset to source" in text


def test_the_way_back_is_taken_where_the_other_direction_lies_beside(room):
    """In the intensities of the data at hand: a back-translator trained at twice the scale."""
    room.back["T1_to_T2"] = translator(("T2",), "T1", scale=replace(MR_SCALE, scale=4.0))
    room.translators["back"] = room.back["T1_to_T2"]
    sources = {seed: brain(seed, T1) for seed in (3, 4)}

    def back(slices):
        assert slices.max() <= 0.5 + 1e-6
        (found,) = [
            sources[seed]
            for seed in sources
            if np.allclose(brain(seed, T2), 2 * slices, atol=1e-5)
        ]
        return 0.9 * found / 2

    room.predict["back"] = back
    results = room.run(models=("good",))
    found = results["models"]["good"]["anatomy"]
    assert found["way_back_error"] == pytest.approx(0.1, abs=1e-3)
    assert found["way_back_slices"] == 12
    assert "10.0" in (room.out / "report.html").read_text(encoding="utf-8")


def test_baselines_alone_have_no_anatomy(room):
    room.run(models=(), source="T1", target="T2")
    assert 'id="anatomy"' not in (room.out / "report.html").read_text(encoding="utf-8")


def test_the_report_is_one_readable_file(room):
    room.run()
    text = (room.out / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.fetched == []
    assert "url(" not in text
    assert page.open == []
    assert all("alt" in image for image in page.images)
    shown = sum("Synthetic T2 by good" in image.get("alt", "") for image in page.images)
    assert shown == 4 + 2  # spread over the people, and the worst slice of each
    assert text.index("Worst of a person") < text.index("slice 12")
    assert "hours not recorded" in text
    assert "doi:10.1109/TMI.2023.3290149" in text
    assert "prefers-color-scheme: dark" in text
    assert len(text) < 5_000_000
    assert "not for diagnosis" in text
    assert "1234" in text
    assert re.search(r"good beats the better baseline in \d of 5 measures", text)
    assert 'name="viewport"' in text


def test_jumps_between_slices_have_their_figure():
    """Every second slice moved: what neighbours differ by grows; a flat stack has no jumps."""
    acquired = brain(3, T2)
    head = acquired > 0
    flicker = acquired * (1 + 0.3 * (np.arange(len(acquired)) % 2))[:, None, None]
    assert slice_jumps(acquired, acquired, head) == 1
    assert slice_jumps(2 * acquired, acquired, head) == pytest.approx(2)
    assert slice_jumps(flicker, acquired, head) > 1.5
    assert slice_jumps(np.full_like(acquired, 0.5), acquired, head) == 0
    assert slice_jumps(acquired[:1], acquired[:1], head[:1]) is None


def test_the_worst_slice_comes_first_in_the_report(room):
    def spoiled(slices):
        made = perfect(slices)
        made[4] = 0.5
        return made

    room.predict["good"] = spoiled
    room.run(models=("good",))
    text = (room.out / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"sub-\d, slice \d+", text)[0].endswith("slice 14")


def test_names_in_the_report_are_escaped(room):
    room.translators["<script>"] = room.translators["good"]
    room.predict["<script>"] = perfect
    room.run(models=("<script>",))
    text = (room.out / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_the_histogram_baseline_never_sees_a_reference(room, monkeypatch):
    """Another reference changes nothing of what it gives."""
    given = {}

    def spy(name):
        def record(cases, predictors, *rest, **options):
            given[name] = predictors["histogram"](cases[0].load()[0])
            return evaluate_predictions(cases, predictors, *rest, **options)

        return record

    monkeypatch.setattr(evaluate, "evaluate_predictions", spy("before"))
    room.run()
    path = room.data / "slices/test/T2/sub-3.npy"
    np.save(path, 1 - np.load(path))
    monkeypatch.setattr(evaluate, "evaluate_predictions", spy("after"))
    room.run()
    assert np.array_equal(given["before"], given["after"])


def test_baselines_alone_need_a_direction(room):
    results = room.run(models=(), source="T1", target="T2")
    assert list(results["models"]) == ["copy", "histogram"]
    with pytest.raises(OptionError, match="direction"):
        room.run(models=())


def test_ct_is_compared_in_hounsfield_units_without_normalisation(room):
    room.translators["good"] = translator(target="CT")
    results = room.run(models=("good",))
    assert results["profile"]["normalise"] == "none"
    copy = results["models"]["copy"]
    means = copy["person_means"]
    assert means["mae_hu"] == pytest.approx(4024 * means["mae"])
    assert means["mae_hu"] == pytest.approx(means["mae_hu_head"], rel=1e-5)
    text = (room.out / "report.html").read_text(encoding="utf-8")
    assert "HU, lower" in text
    assert "range are 4024 HU, the window -1024 to 3000" in text
    assert "Error in HU by tissue" in text
    assert set(copy["person_means"]) >= {f"mae_hu_{t}" for t in ("head", "fat", "soft", "bone")}


def test_several_sources_reach_the_model_as_channels(room):
    room.translators["good"] = translator(("T1", "CT"))
    room.predict["good"] = lambda s: perfect(s[:, 0]) if s.shape[1] == 2 else None
    results = room.run(models=("good",))
    assert results["source"] == "T1+CT"
    assert results["models"]["good"]["person_means"]["psnr_db"] == metrics.PSNR_CEILING_DB


def test_another_spacing_is_told(room):
    room.translators["moved"] = translator(spacing_mm=1.0)
    assert any("trained at 1 mm" in warning for warning in room.run()["warnings"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "val"}, "no subject of the val split"),
        ({"source": "T2", "target": "T1"}, "translates T1 to T2"),
        ({"models": (), "source": "T1", "target": "PD"}, "no modality 'PD'"),
        ({"models": ("copy",)}, "the model name 'copy'"),
        ({"profile": "best"}, "no comparison profile"),
    ],
)
def test_bad_options_end_in_one_line_and_write_nothing(room, options, message):
    with pytest.raises(UserError, match=message) as error:
        room.run(**options)
    assert "\n" not in str(error.value)
    assert not room.out.exists()


def test_models_of_two_directions_are_refused(room):
    room.translators["moved"] = translator(("T2",), "T1")
    with pytest.raises(OptionError, match="translate differently"):
        room.run()


def test_no_subjects_and_damaged_stacks(room):
    (room.data / "slices/test/T2/sub-3.npy").write_bytes(b"not an array")
    with pytest.raises(DataError, match=r"sub-3\.npy cannot be read"):
        room.run()
    prepared(room.data, test_subjects=())
    with pytest.raises(DataError, match="no subject"):
        room.run()
    (room.data / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="not a manifest"):
        room.run()
    assert not room.out.exists()


def test_models_see_intensities_as_in_their_own_training(room):
    """A cohort scaled to 2, a model trained at 4: it must see half the values, and give half."""
    seen = []
    room.translators["good"] = translator(scale=replace(MR_SCALE, scale=4.0, training_mean=100.0))
    room.predict["good"] = lambda s: seen.append(s.copy()) or perfect(2 * s) / 2
    results = room.run(models=("good",), profile="fixed")
    assert np.allclose(seen[0], brain(3, T1) / 2, atol=1e-6)
    assert results["models"]["good"]["person_means"]["psnr_db"] > 90


@pytest.mark.parametrize("anonymous", [True, False])
def test_what_is_shared_holds_no_path_and_no_command(room, monkeypatch, anonymous):
    """Names are planted in every path, in the command and in an import's notes."""
    home = room.data.parent / "Jane_Doe_1970"
    shutil.move(room.data.parent / "T1_to_T2", home / "T1_to_T2")
    shutil.move(room.data, home / "data")
    card = {"training": {"steps": 1}, "imported": {"file": "Jane_Doe_1970.pth"}}
    (home / "T1_to_T2" / "config.json").write_text(json.dumps(card))
    monkeypatch.setattr(sys, "argv", ["syndiff", "evaluate", str(home)])
    evaluate.evaluate(
        home / "data", room.out, models={"good": home / "T1_to_T2"}, anonymous=anonymous
    )
    written = "".join(p.read_text(encoding="utf-8") for p in room.out.iterdir())
    assert ("Jane_Doe" in written) is not anonymous
    assert (str(room.data.parent) in written) is not anonymous


def test_data_with_synthetic_scans_are_refused_unless_allowed(room, monkeypatch):
    taken = replace(
        room.manifest, content=room.manifest.content | {"left_out": {"synthetic": ["a.nii.gz"]}}
    )
    monkeypatch.setattr(evaluate, "read_manifest", lambda folder: taken)
    with pytest.raises(DataError, match=r"1 of the scans .* synthetic"):
        room.run()
    assert not room.out.exists()
    results = room.run(allow_synthetic=True)
    assert results["synthetic_scans"] == 1
    assert "synthetic images" in results["warnings"][0]


def test_out_must_not_be_a_file(room):
    room.out.write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        room.run()
    assert room.out.read_text() == "mine"


def entry(kind="model", offset=0.1, outline=0.95, **scores):
    return {
        "kind": kind,
        "offset_px": offset,
        "person_means": {**scores, "outline_dice": outline},
    }


BASES = {
    "copy": entry("baseline", 0.0, 0.96, psnr_db=20.0, ssim=0.70, mae=0.050),
    "histogram": entry("baseline", 0.0, 0.96, psnr_db=24.0, ssim=0.60, mae=0.060),
}


def test_grey_fog_is_not_praised_for_its_psnr():
    """It scores 0.5 dB above the better baseline, and is worse in all else."""
    fog = entry(offset=0.3, outline=0.80, psnr_db=24.5, ssim=0.30, mae=0.090)
    (found,) = verdict.verdicts({**BASES, "mine": fog})
    assert found.titles("better") == ["PSNR"]
    assert found.titles("worse") == ["SSIM", "Mean error", "offset", "outline"]
    assert "1 of 5 measures (PSNR)" in found.sentence()
    assert "no better than what needs no training" in found.sentence()


def test_each_measure_meets_its_own_better_baseline():
    good = entry(psnr_db=26.0, ssim=0.80, mae=0.03)
    (found,) = verdict.verdicts({**BASES, "mine": good})
    assert [m.best_baseline for m in found.measures[:3]] == ["histogram", "copy", "copy"]
    assert found.titles("better") == ["PSNR", "SSIM", "Mean error"]
    assert "every score" in found.judgement


@pytest.mark.parametrize(
    ("offset", "outline", "words"),
    [
        (2.0, 0.95, "moves the anatomy"),
        (0.1, 0.80, "outline has changed"),
        (None, 0.95, "too little"),
    ],
)
def test_a_good_score_in_the_wrong_place_is_no_success(offset, outline, words):
    shifted = entry(offset=offset, outline=outline, psnr_db=30.0, ssim=0.9, mae=0.01)
    (found,) = verdict.verdicts({**BASES, "mine": shifted})
    assert words in found.sentence()


def test_differences_below_the_margin_count_as_none():
    same = entry(offset=0.05, outline=0.955, psnr_db=24.1, ssim=0.705, mae=0.0495)
    (found,) = verdict.verdicts({**BASES, "mine": same})
    assert len(found.titles("equal")) == 5


def test_a_translator_from_its_folder(tmp_path):
    """The whole way with a real, untrained network: it is loaded, applied and scored."""
    torch = pytest.importorskip("torch")
    from syndiff.diffusion.large_steps import Schedule
    from syndiff.networks.ncsnpp import NCSNpp
    from syndiff.translators import AdversarialDiffusionTranslator

    torch.manual_seed(0)
    network = {"channels": 8, "multipliers": [1, 2], "blocks": 1, "attention_levels": []}
    config = {
        "sources": ["T1"],
        "target": "T2",
        "spacing_mm": 3.5,
        "size": [48, 48],
        "intensity": {"T1": MR_SCALE.to_dict(), "T2": MR_SCALE.to_dict()},
        "network": network,
        "schedule": {"steps": 2},
    }
    model = AdversarialDiffusionTranslator(NCSNpp(**network), Schedule(2), config)
    folder = model.save(tmp_path / "T1_to_T2")
    prepared(tmp_path / "data", test_subjects=(3,))
    heard = Heard()
    results = evaluate.evaluate(
        tmp_path / "data",
        tmp_path / "out",
        models={"mine": folder},
        how=How(batch_size=4, device="cpu"),
        report=heard,
    )
    assert np.isfinite(results["models"]["mine"]["person_means"]["psnr_db"])
    assert results["models"]["mine"]["config"]["schedule"] == {"steps": 2}
    assert heard.steps[-1] == (3, 3)
    with pytest.raises(ModelError, match="model mine: no translator folder"):
        evaluate.evaluate(tmp_path / "data", tmp_path / "out", models={"mine": tmp_path / "no"})


@pytest.mark.parametrize("anonymous", [True, False])
def test_a_report_says_which_weights_a_shipped_model_has(anonymous):
    translator = load_translator("demo")
    told = results.origin(Path("demo"), translator, anonymous)
    assert told["config"]["target"] == "T2"
    assert "fingerprints" not in told["config"]
    digest = hashlib.sha256((locate("demo") / translator.weights).read_bytes()).hexdigest()
    assert told["path"] == (f"weights SHA-256 {digest}" if anonymous else "demo")


def test_results_replace_results_and_nothing_else(room):
    room.out.mkdir()
    (room.out / "report.html").write_text("somebody's own")
    with pytest.raises(OptionError, match="would be replaced"):
        room.run()
    assert [path.name for path in room.out.iterdir()] == ["report.html"]
    assert (room.out / "report.html").read_text() == "somebody's own"
    room.run(overwrite=True)
    room.run()  # an earlier evaluation may be replaced
