"""What all tests share: real scans where there are some, and calm property tests."""

from __future__ import annotations

import os
from pathlib import Path

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
