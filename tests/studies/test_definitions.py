"""The studies as declared: the paper's rows, columns and figures, and settings that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from syndiff.errors import OptionError
from syndiff.studies import plan
from syndiff.studies.cells import Cell, settings_of
from syndiff.studies.definitions import names, study_named, tiny_networks
from syndiff.studies.plan import Budget, Options


@pytest.mark.parametrize("name", names())
def test_every_cell_has_the_figures_of_the_paper(name: str) -> None:
    """Each row has one text per column, with one figure per measure."""
    study = study_named(name)
    assert [row.name for row in study.rows] == list(study.paper)
    for row, texts in study.paper.items():
        assert len(texts) == len(study.columns), row
        for column in study.columns:
            figures = study.printed(row, column)
            assert all(float(figure.split("±")[0]) > 0 for figure in figures)


def test_figures_stand_in_the_right_place() -> None:
    """Three figures that the paper's text repeats or that stand at a corner of their table."""
    table2 = study_named("table2")
    assert table2.printed("SynDiff", table2.columns[0]) == ("30.42±1.40", "94.77±1.26")
    assert table2.printed("UNIT-DDPM", table2.columns[5]) == ("25.13±1.42", "84.47±2.53")
    assert study_named("table5").printed("DDPM", study_named("table5").columns[0])[1] == "85.773"


def test_the_tables_agree_where_the_paper_repeats_a_model() -> None:
    """SynDiff's row is printed in tables II to IV and again, as the selected variant, in VII–X."""
    selected = [
        next(
            study_named(table).printed("SynDiff", c)
            for c in study_named(table).columns
            if (c.source, c.target) == task
        )
        for table, task in (("table2", ("PD", "T1")), ("table3", ("T1", "T2")))
    ]
    for name, row in (("table7", "SynDiff"), ("table8", "T/k=4"), ("table9", "SynDiff"),
                      ("table10", "n_ND=50")):  # fmt: skip
        study = study_named(name)
        assert [study.printed(row, c) for c in study.columns[:2]] == selected


def test_equal_settings_are_one_training() -> None:
    study = study_named("table8")
    assert len(study.rows) == 15
    same = {row.name for row in study.rows if study.trained_as(row).name == "T/k=4"}
    assert same == {"T/k=4", "λ1φ=0.5", "λ1θ=0.5", "λ2φ=1", "λ2θ=1"}
    assert len(study.trainings) == 11


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("tiny", [False, True])
def test_settings_are_those_of_the_method(name: str, tiny: bool, tmp_path: Path) -> None:
    """Every row's hyper-parameters are known to its method, in the preset and in the tiny one."""
    study, options = study_named(name), Options(budget=Budget(steps=100))
    options = plan.tiny(options) if tiny else options
    for row in study.rows:
        cell = Cell(study.kind, row, study.columns[0], 7, options, tmp_path)
        settings = settings_of(cell, steps_per_epoch=4)
        assert settings.seed == 7
        assert settings.max_steps == (2 if tiny else 100)
        for key, value in row.set.items():
            if key != "steps" or not tiny:
                assert getattr(settings.objective, key) == value
        assert not tiny or tiny_networks(row.method)
        if row.one_shot_share:  # a share of the passes that the budget allows
            epochs = settings.objective.one_shot_epochs
            assert epochs * 4 == pytest.approx(row.one_shot_share * settings.max_steps)


def test_list_says_what_each_takes() -> None:
    lines = "\n".join(plan.listed())
    assert all(name in lines for name in names())
    assert "48 trainings per seed" in lines  # eight methods, six tasks
    assert "15 trainings per seed" in lines  # table IX: three rows and two pretrainings, thrice


@pytest.mark.parametrize("text", ["", "10", "0m", "3.5steps", "-3m", "10 minutes", "1e9steps"])
def test_a_budget_is_minutes_or_steps(text: str) -> None:
    with pytest.raises(OptionError, match="budget"):
        Budget.parse(text)


def test_budgets() -> None:
    assert Budget.parse("10m") == Budget(0, 10.0)
    assert Budget.parse("3000steps") == Budget(3000)


def test_what_a_study_cannot_do_is_refused() -> None:
    with pytest.raises(OptionError, match="workers"):
        plan.check(study_named("table5"), Options(), 2)
    with pytest.raises(OptionError, match="steps"):
        plan.check(study_named("table10"), Options(budget=Budget(0, 10.0)), 1)


def test_data_choose_the_columns() -> None:
    """Of the columns whose modalities there are, one per task; undersampled ones need a cohort."""
    chosen = plan.columns_of(study_named("table4"), Options(), {"T2", "CT"})
    assert [c.name for c in chosen] == ["pelvis-T2_to_CT"]
    with pytest.raises(OptionError, match="CT"):
        plan.columns_of(study_named("table4"), Options(), {"T1", "T2"})
