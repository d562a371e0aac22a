"""The paper's data sets (Sec. IV-A) as recipes, on virtual cohorts laid out as the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from syndiff.errors import OptionError
from syndiff.preparation.discover import find_cohort
from syndiff.preparation.kspace import Acceleration
from syndiff.preparation.recipe import prepare_with
from syndiff.preparation.recipe_file import read_recipe
from syndiff.preparation.settings import Settings
from tests.helpers.scan_folders import touch
from tests.helpers.small_heads import image, save

EXAMPLES = Path(__file__).parents[2] / "examples"
# Recipe → file of a person (counted from 1), reference, people, slices.
PAPER: dict[str, tuple[str, str, dict[str, int], int]] = {
    "ixi": (
        "IXI-{m}/IXI{n:03d}-Guys-{n:04d}-{m}.nii.gz",
        "T1", {"train": 25, "val": 5, "test": 10}, 100,
    ),
    "brats": (
        "BraTS20_Training_{n:03d}/BraTS20_Training_{n:03d}_{m}.nii.gz",
        "T1", {"train": 25, "val": 10, "test": 20}, 100,
    ),
    "pelvis": ("{n}_01_P/{m}.nii.gz", "T2", {"train": 9, "val": 2, "test": 4}, 90),
}  # fmt: skip
# Other public sets → file of a person.
LAYOUTS = {
    "synthrad2023": "Task1/brain/1BA{n:03d}/{m}.nii.gz",
    "brasyn": "BraTS-GLI-{n:05d}-000/BraTS-GLI-{n:05d}-000-{m}.nii.gz",
}


def virtual_cohort(name: str, raw: Path, people: int) -> None:
    """Small heads in the layout of a data set."""
    pattern = PAPER[name][0]
    for n in range(1, people + 1):
        for modality in read_recipe(EXAMPLES / f"{name}.yaml")["modalities"]:
            seen = {"PD": "T2", "FLAIR": "T2"}.get(modality, modality)
            word = modality.lower() if name == "brats" else modality
            save(image(seen, n), raw / pattern.format(n=n, m=word))
        if name == "brats":
            touch(raw, pattern.format(n=n, m="seg"))


@pytest.mark.parametrize("name", PAPER)
def test_recipes_are_those_of_the_paper(name: str) -> None:
    _, reference, people, slices = PAPER[name]
    settings = Settings(**read_recipe(EXAMPLES / f"{name}.yaml"))
    assert settings.modalities[0] == reference
    assert (settings.split, settings.max_slices, settings.shape) == (people, slices, (256, 256))
    assert (settings.intensity, settings.register) == ("paper", True)
    assert not settings.register_training


def prepared(name: str, folder: Path, people: dict[str, int], **smaller: Any) -> None:
    virtual_cohort(name, folder / "raw", sum(people.values()))
    fields = read_recipe(EXAMPLES / f"{name}.yaml") | {"split": people} | smaller
    manifest = prepare_with(folder / "raw", folder / "data", Settings(**fields))
    first, *others = manifest.modalities
    for split, count in people.items():
        assert len(manifest.subjects(split)) == count
        for other in others:
            pairs = manifest.paired_subjects(split, first, other)
            if split != "train":
                assert len(pairs) == count  # registered onto the reference
            assert all(s.reference == first for s in manifest.scans(split, other)) or not pairs
    training = [scan for scan in manifest.all_scans() if scan.split == "train"]
    assert all(scan.record["registration"] is None for scan in training)
    assert {scale.rule for scale in manifest.intensity.values()} == {"paper"}
    assert max(float(scan.load().max()) for scan in training) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("name", PAPER)
def test_a_recipe_prepares_its_data_set(name: str, tmp_path: Path) -> None:
    few = {"train": 1, "val": 1, "test": 1}
    prepared(name, tmp_path, few, size=32, spacing_mm=None, register=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER)
def test_a_recipe_prepares_as_many_people_as_the_paper(name: str, tmp_path: Path) -> None:
    prepared(name, tmp_path, PAPER[name][2], size=32, spacing_mm=None)


@pytest.mark.parametrize(
    ("name", "words"),
    [("synthrad2023", {"T1": "mr", "CT": "ct"}), ("brasyn", {"T1": "t1n", "FLAIR": "t2f"})],
)
def test_layouts_of_challenges(name: str, words: dict[str, str], tmp_path: Path) -> None:
    for n in (1, 2):
        for word in words.values():
            touch(tmp_path, LAYOUTS[name].format(n=n, m=word))
        touch(tmp_path, LAYOUTS[name].format(n=n, m="mask" if name == "synthrad2023" else "seg"))
    modalities = ("MR", "CT") if name == "synthrad2023" else tuple(words)
    cohort = find_cohort(tmp_path, modalities)
    assert len(cohort.persons) == 2
    assert all(len(of) == 2 for of in cohort.files.values())
    assert len(cohort.left_out) == 2


def test_keys_and_values_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for text, said in (
        ("modalities: [T1]\nmax_slicse: 9", "did you mean 'max_slices'"),
        ("modalities: [T1]\nsize: big", "size is 'big'"),
        ("size: 64", "no modalities"),
        ("modalities: [T1, T1]", "modalities that differ"),
        ("- a\n- b", "no recipe"),
        ("a: [", "no YAML"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(OptionError, match=said) as caught:
            read_recipe(path)
        assert "\n" not in f"{caught.value}"
    path.write_text(
        "modalities: [T1, T2]\naccelerate: {T1: 4x4}\nundersampling: variable\nseed: 3\n"
        "register: false\n",
        encoding="utf-8",
    )
    assert read_recipe(path) == {
        "modalities": ["T1", "T2"],
        "register": False,
        "accelerate": {"T1": Acceleration((4.0, 4.0), "variable", 3)},
    }
