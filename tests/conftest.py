"""For all tests: what Hypothesis judges, and the order of the files.

``pytest -n 2 --dist loadfile`` gives each process whole files. Left alone, xdist begins with the files of the most tests, and the
long ones, of a few tests with real processes, come last: in the end one process works and the other has none left. Here the
files that take longest come first, by a table of what they took.
"""

from __future__ import annotations

import pytest
from hypothesis import settings

# Hypothesis judges what is computed, not how long a busy machine takes for it.
settings.register_profile("noria", deadline=None)
settings.load_profile("noria")

SECONDS = {  # processor seconds of a file with all that it starts; what takes less than about ten need not be here
    "crash/test_kill_daemon.py": 160,
    "rollout/test_kills_in_rollout.py": 150,
    "rollout/test_five_candidates.py": 150,
    "pipeline/test_reproduce.py": 170,
}


def weight(item: pytest.Item) -> float:
    """Of the file that the test is in."""
    return next((seconds for name, seconds in SECONDS.items() if item.path.as_posix().endswith(f"/tests/{name}")), 0)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "loadscopereorder"):  # xdist is there; the files keep the order that follows
        config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; the tests of a file stay together and in their order."""
    items.sort(key=weight, reverse=True)
