"""Who is for training, validation and test: people, never visits or slices."""

from __future__ import annotations

from pathlib import Path

import pytest

from syndiff.errors import DataError, OptionError, UserError
from syndiff.preparation.discover import Cohort
from syndiff.preparation.split import assign, parse_split


def test_parse_split() -> None:
    assert parse_split("train=8, val=2,test=2") == {"train": 8, "val": 2, "test": 2}
    assert parse_split("train=3") == {"train": 3, "val": 0, "test": 0}
    for wrong in (
        "",
        "train",
        "1/2/3",
        "a/b/c",
        "80/20",
        "train=x",
        "train=-1",
        "dev=2",
        "train=1,train=2",
    ):
        with pytest.raises(OptionError, match="train=8,val=2,test=2"):
            parse_split(wrong)


def cohort(people: dict[str, str] | None = None, **of: str) -> Cohort:
    """Subject → modalities; `people` says whose visit a subject is where it has another name."""
    files = {s: {m: Path(s) / m for m in names.split()} for s, names in of.items()}
    whose = {s: (people or {}).get(s, s) for s in files}
    return Cohort(files, whose, dict.fromkeys(files, ""))


def test_split_takes_names_in_order() -> None:
    people = cohort(c="A B", a="A B", d="A B", b="A", e="A B")
    splits = assign(people, ("A", "B"), {"train": 2, "val": 1, "test": 1}, None)
    assert splits == {"a": "train", "b": "train", "c": "val", "d": "test"}


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"train": 3, "val": 1, "test": 1}, r"4 people found; expected 5 \(3 train"),
        ({"train": 1, "val": 3, "test": 0}, "no training subject has a B"),
        ({"train": 0, "val": 0, "test": 0}, "without anybody"),
        ({"train": 1, "dev": 1}, "split"),
    ],
)
def test_impossible_splits(counts, message) -> None:
    people = cohort(a="A B", b="A", c="A B", d="A B")
    with pytest.raises(UserError, match=message):
        assign(people, ("A", "B"), counts, None)


def test_every_modality_needs_a_training_subject() -> None:
    with pytest.raises(DataError, match="no training subject has a B"):
        assign(cohort(a="A", b="A", c="A B"), ("A", "B"), {"train": 2, "val": 1}, None)
    with pytest.raises(DataError, match="nobody has a C scan, of 3 subjects"):
        assign(cohort(a="A", b="A", c="A B"), ("A", "B", "C"), {"train": 2, "val": 1}, None)


@pytest.mark.parametrize("separator", ["\t", ",", "; "])
def test_split_file(tmp_path: Path, separator: str) -> None:
    people = cohort(a="A B", b="A B", c="A B", d="A")
    file = tmp_path / "split.tsv"
    rows = [("subject", "split"), ("c", "train"), ("a", "test"), ("d", "train")]
    file.write_text("\n".join(separator.join(row) for row in rows) + "\n")
    splits = assign(people, ("A", "B"), None, file)
    assert splits == {"a": "test", "c": "train", "d": "train"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\ttrain\nzz\ttest\n", "zz, of which no scan"),
        ("a\ttrain\nb\tholdout\n", "line 2"),
        ("a\ttrain\na\ttest\n", "line 2"),
        ("a\n", "line 1"),
    ],
)
def test_wrong_split_files(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "split.tsv"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        assign(cohort(a="A", b="A"), ("A",), None, file)
    with pytest.raises(DataError, match="no split file"):
        assign(cohort(a="A"), ("A",), None, tmp_path / "missing.tsv")


def test_shares_are_of_people_and_every_part_gets_somebody() -> None:
    many = cohort(**{f"p{i:02d}": "A B" for i in range(20)})
    parts = list(assign(many, ("A", "B"), (80.0, 10.0, 10.0)).values())
    assert [parts.count(name) for name in ("train", "val", "test")] == [16, 2, 2]
    few = list(assign(cohort(a="A B", b="A B", c="A B"), ("A", "B")).values())
    assert few == ["train", "val", "test"]


def test_visits_of_a_person_stay_together(tmp_path: Path) -> None:
    people = {"a_1": "a", "a_2": "a"}
    visits = cohort(people, a_1="A B", a_2="A B", b="A B")
    counts = {"train": 1, "val": 1, "test": 0}
    assert assign(visits, ("A", "B"), counts) == {"a_1": "train", "a_2": "train", "b": "val"}
    (tmp_path / "split.csv").write_text("a,test\nb,train\n")
    of = assign(visits, ("A", "B"), None, tmp_path / "split.csv")
    assert of == {"a_1": "test", "a_2": "test", "b": "train"}
    (tmp_path / "split.csv").write_text("a_1,train\na_2,test\nb,train\n")
    with pytest.raises(DataError, match="visits of a into several splits"):
        assign(visits, ("A", "B"), None, tmp_path / "split.csv")


def test_people_who_lack_a_modality_are_passed_over_for_validation_and_test() -> None:
    people = cohort(a="A B", b="A", c="A", d="A B", e="A B")
    splits = assign(people, ("A", "B"), {"train": 1, "val": 1, "test": 1})
    assert {s for s, split in splits.items() if split != "train"} <= {"d", "e"}


def test_without_a_single_pair_each_part_gets_each_modality(tmp_path: Path) -> None:
    people = cohort(ct1="B", ct2="B", mr1="A", mr2="A")
    splits = assign(people, ("A", "B"), {"train": 2, "val": 2, "test": 0})
    for part in ("train", "val"):
        held = {m for s, split in splits.items() if split == part for m in people.files[s]}
        assert held == {"A", "B"}
    (tmp_path / "split.csv").write_text("mr1,train\nmr2,val\nct1,train\nct2,val\n")
    assert len(assign(people, ("A", "B"), None, tmp_path / "split.csv")) == 4


def test_a_set_for_testing_alone() -> None:
    assert assign(cohort(a="A B"), ("A", "B"), {"train": 0, "test": 1}) == {"a": "test"}


def test_participants_tsv_with_a_column_split(tmp_path: Path) -> None:
    file = tmp_path / "participants.tsv"
    file.write_text("participant_id\tage\tsplit\na\t30\ttrain\nb\t40\ttest\nc\t50\t\n")
    splits = assign(cohort(a="A", b="A", c="A"), ("A",), None, file)
    assert splits == {"a": "train", "b": "test"}
