"""Is this scan for this translator? With the translator that ships, on heads that it never saw."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from syndiff.inference.doubts import modality_doubts
from syndiff.inference.likeness import FEWEST, USUAL_LIMIT, Likeness, modality_of, nearest
from syndiff.io import formats
from syndiff.io.atomic import read_json, write_json
from syndiff.io.volume import Volume
from syndiff.phantom.cohort import make_subject
from syndiff.phantom.signal import INDEX
from syndiff.preparation.fingerprint import FEATURES, NAMES, fingerprint
from syndiff.preparation.intensity import IntensityScale, foreground_mask
from syndiff.preparation.manifest import FILE_NAME, read_manifest
from syndiff.translators import SHIPPED
from tests.helpers.tiny import write_prepared

CARD = read_json(SHIPPED["demo"] / "config.json", "card")
BRAIN = [INDEX[tissue] for tissue in ("csf", "grey_matter", "white_matter")]


def said(array, spacing_mm=(4.0, 4.0, 4.0), card=CARD, name="scan.nii.gz"):
    """What the demo says of a scan that it is given as T1."""
    volume = Volume(np.asarray(array, np.float32), np.diag([*spacing_mm, 1.0]))
    mask = foreground_mask(volume.array, "a.u.")
    scale = IntensityScale.from_dict(card["intensity"]["T1"])
    mean = scale.reference_mean(volume.array, mask)
    return " | ".join(modality_doubts(card, volume, mask, mean, "T1"))


@pytest.fixture(scope="module", params=[11, 12])
def person(request):
    return make_subject(1, ("T1", "T2", "PD", "FLAIR", "CT"), request.param, spacing_mm=4.0)


def test_new_virtual_heads_are_not_doubted(person):
    assert said(person.scans["T1"]) == ""
    assert said(3.7 * person.scans["T1"]) == ""


@pytest.mark.parametrize("modality", ["T2", "PD", "FLAIR"])
def test_another_contrast_is_named(person, modality):
    assert f"looks like {modality}, not T1" in said(person.scans[modality])


@pytest.mark.parametrize("kind", ["CT", "raised CT", "stripped", "labels", "mask", "brain mask"])
def test_what_is_no_t1_of_a_head_is_doubted(person, kind):
    brain = np.isin(person.labels, BRAIN)
    planted = {
        "CT": lambda: person.scans["CT"],
        "raised CT": lambda: person.scans["CT"] + 1024,
        "stripped": lambda: np.where(brain, person.scans["T1"], 0),
        "labels": lambda: person.labels,
        "mask": lambda: person.labels > 0,
        "brain mask": lambda: brain,
    }
    assert "T1" in said(planted[kind]())


def test_whole_and_stripped_heads_are_two_kinds_of_one_modality(person):
    other = make_subject(1, ("T1",), 13, spacing_mm=4.0)

    def stripped(somebody):
        return np.where(np.isin(somebody.labels, BRAIN), somebody.scans["T1"], 0)

    array = stripped(other).astype(np.float32)
    row = fingerprint(array, foreground_mask(array), (4.0, 4.0, 4.0), "a.u.")
    scans = CARD["fingerprints"]["scans"] | {"T1-stripped": [row]}
    card = CARD | {"fingerprints": {"names": list(NAMES), "scans": scans}}
    for array in (person.scans["T1"], stripped(person)):
        assert said(array, card=card) == ""
    assert "looks like T2, not T1" in said(person.scans["T2"], card=card)
    assert "is it the right modality, and a head" in said(person.labels, card=card)
    assert modality_of("T1-stripped") == modality_of("T1") == "T1"


def test_older_translators_judge_by_their_quantiles(person):
    """They know the normalised tissue alone; the limit still comes from held-out subjects."""
    old = {key: value for key, value in CARD.items() if key != "fingerprints"}
    assert said(person.scans["T1"], card=old) == ""
    assert "T2" in said(person.scans["T2"], card=old)


def test_numbers_of_another_version_are_not_compared(person):
    card = CARD | {"fingerprints": {"names": ["other"], "scans": {"T1": [[1.0]]}}}
    assert "was not checked" in said(person.scans["T2"], card=card)


def test_the_limit_is_kept_by_new_scans_of_the_same_kind():
    """Gaussian cohorts: at most 2 % of new members lie beyond the limit, at any size."""
    rng = np.random.default_rng(0)
    spread = np.array([feature.spread for feature in FEATURES])
    for count in (FEWEST, 12, 40):
        beyond = 0
        for _ in range(20):
            known = Likeness.of(rng.normal(0, spread, (count, len(spread))), FEATURES)
            beyond += sum(
                not known.accepts(row) for row in rng.normal(0, spread, (50, len(spread)))
            )
        assert beyond <= 0.02 * 20 * 50
        assert not known.accepts(4 * spread)


def test_a_single_training_scan_is_enough_to_doubt():
    spread = np.array([feature.spread for feature in FEATURES])
    known = Likeness.of([np.zeros(len(spread))], FEATURES)
    assert known.limit == USUAL_LIMIT
    assert known.accepts(2 * spread)
    assert not known.accepts(4 * spread)
    far = Likeness.of([10 * spread], FEATURES)
    assert nearest({"near": known, "far": far}, 9 * spread) == "far"


@pytest.mark.parametrize("shape", [(1, 8, 8), (30, 30, 1), (3, 3, 3), (40, 41, 42)])
def test_fingerprints_of_odd_volumes_are_finite(shape):
    array = np.random.default_rng(0).uniform(1, 2, shape).astype(np.float32)
    row = fingerprint(array, np.ones(shape, bool), (0.5, 1.0, 6.0), "a.u.")
    assert len(row) == len(NAMES)
    assert np.isfinite(row).all()


REAL = Path(os.environ.get("SYNDIFF_TEST_DATA", "/nowhere"))
REAL_SCANS = [
    "brain_native/sub-*/*T1w.nii.gz", "brain_native/sub-*/*T2w.nii.gz",
    "brain_native/sub-*/*FLAIR.nii.gz", "brain_mni/sub-*/*T1w.nii.gz",
    "brain_mni/sub-*/*T2w.nii.gz", "torso/*.nii.gz",
    "templates/*.nii.gz",
]  # fmt: skip


@pytest.mark.real_data
@pytest.mark.parametrize("pattern", REAL_SCANS)
def test_real_scans_are_doubted_by_a_translator_for_virtual_heads(pattern):
    found = sorted(REAL.glob(pattern))
    if not found:
        pytest.skip(f"no {pattern} in SYNDIFF_TEST_DATA")
    for path in found:
        scan = formats.read(path)
        assert said(scan.array, scan.spacing_mm, name=path.name) != "", path.name


# Kind of scan → what a translator from it must not doubt; all the others of these it must.
OF_ANY_SCANNER = {
    name: read_json(SHIPPED[name] / "config.json", "card")
    for name in SHIPPED
    if name.startswith("brain-")
}
SCANS = {
    "T1": ["brain_native/sub-*/T1w.nii.gz", "brain_mni/sub-*/T1w.nii.gz"],
    "T2": ["brain_native/sub-*/T2w.nii.gz", "brain_mni/sub-*/T2w.nii.gz"],
    "FLAIR": ["brain_native/sub-*/FLAIR.nii.gz", "brain_mni/sub-*/FLAIR.nii.gz"],
    "": ["torso/*.nii.gz", "templates/head_ct*.nii.gz"],
}


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize("modality", SCANS)
def test_translators_of_real_heads_doubt_what_is_not_for_them(modality):
    found = sorted(path for pattern in SCANS[modality] for path in REAL.glob(pattern))
    if not found:
        pytest.skip("no such scans in SYNDIFF_TEST_DATA")
    for path in found:
        scan = formats.read(path)
        mask = foreground_mask(scan.array, "a.u.")
        for name, card in OF_ANY_SCANNER.items():
            source = card["sources"][0]
            told = modality_doubts(card, scan, mask, 1.0, source)
            assert bool(told) == (source != modality), (name, path.name, told)


@pytest.mark.parametrize("name", OF_ANY_SCANNER)
def test_the_cards_of_real_heads_know_whole_and_stripped_ones(name):
    card = OF_ANY_SCANNER[name]
    fingerprints = card["fingerprints"]
    assert tuple(fingerprints["names"]) == NAMES
    assert fingerprints["of_any_scanner"]
    source = card["sources"][0]
    assert set(fingerprints["scans"]) == {source, f"{source}-stripped"}
    assert all(len(rows) >= FEWEST for rows in fingerprints["scans"].values())


def test_a_person_of_many_visits_counts_once_in_the_limit(tmp_path):
    """Another visit of the same person is no scan that was held out."""
    content = read_json(
        write_prepared(tmp_path, {"train1": "T1", "train2": "T1"}, ("T1",)) / FILE_NAME, ""
    )
    for number, scan in enumerate(content["scans"]):
        scan |= {"fingerprint": [float(number)] * len(NAMES), "person": "one"}
    write_json(tmp_path / FILE_NAME, content)
    assert read_manifest(tmp_path).fingerprints()["scans"] == {"T1": [[0.0] * len(NAMES)]}
    content["scans"][1]["person"] = "another"
    write_json(tmp_path / FILE_NAME, content)
    assert len(read_manifest(tmp_path).fingerprints()["scans"]["T1"]) == 2
