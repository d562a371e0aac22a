"""What all tests share: real scans where there are some, and calm property tests."""

from __future__ import annotations

import os
from pathlib import Path

# Networks as small as the tests' are slower on several threads, and far slower on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# The same examples every time, and no time limit: shared machines are slow now and then.
settings.register_profile("syndiff", deadline=None, derandomize=True)
settings.load_profile("syndiff")


def _test_data() -> Path | None:
    folder = os.environ.get("SYNDIFF_TEST_DATA")
    return Path(folder) if folder else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked real_data where SYNDIFF_TEST_DATA names no folder."""
    folder = _test_data()
    if folder is not None and not folder.is_dir():
        raise pytest.UsageError(f"SYNDIFF_TEST_DATA={folder} is no folder")
    if folder is None:
        skip = pytest.mark.skip(reason="needs real scans: set SYNDIFF_TEST_DATA to their folder")
        for item in items:
            if item.get_closest_marker("real_data"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real scans; for tests marked real_data."""
    folder = _test_data()
    if folder is None:
        pytest.skip("needs real scans: set SYNDIFF_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six coarse virtual subjects with T1 and T2, BIDS-like."""
    from syndiff.phantom import write_cohort

    folder = tmp_path_factory.mktemp("cohort") / "raw"
    write_cohort(folder, subjects=6, modalities=("T1", "T2"), seed=5, spacing_mm=5.0)
    return folder


@pytest.fixture(scope="session")
def prepared(cohort: Path) -> Path:
    """The cohort prepared: four subjects to train on, one each to validate and to test."""
    from syndiff.preparation.recipe import prepare

    folder = cohort.parent / "data"
    split = {"train": 4, "val": 1, "test": 1}
    prepare(
        cohort,
        folder,
        modalities=("T1", "T2"),
        split=split,
        size=32,
        spacing_mm=7.0,
        register=False,
    )
    return folder
