"""For all tests: what Hypothesis judges, and the order of the files.

``pytest -n 2 --dist loadfile`` gives each process whole files. Left alone, xdist begins with the files of the most tests, and the
long ones, of a few tests with real processes, come last: in the end one process works and the other has none left. Here the
files that take longest come first, by a table of what they took.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# Hypothesis judges what is computed, not how long a busy machine takes for it.
# It tries the same examples each time: a change fails by what it changed. HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("noria", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "noria"))

SECONDS = {  # processor seconds of a file with all that it starts, roughly; what takes less than ten need not be here
    "pipeline/test_reproduce.py": 190,
    "delivery/test_kills_in_rollout.py": 110,
    "delivery/test_five_candidates.py": 110,
    "faults/test_kill_daemon.py": 95,
    "cases/test_cases.py": 80,
    "story/test_small_story.py": 75,
    "bad_input/test_bad_config_and_steps.py": 50,
    "bad_input/test_bad_data.py": 50,
    "pipeline/test_commands.py": 50,
    "cli/test_init.py": 40,
    "pipeline/test_search.py": 30,
    "serving/test_serving_survival.py": 30,
    "serving/test_probe.py": 25,
    "faults/test_kill_workers.py": 25,
    "faults/test_kills_under_load.py": 21,
    "bad_input/test_bad_surroundings.py": 18,
    "pipeline/test_data_erase.py": 18,
    "serving/test_keys.py": 18,
    "serving/test_replay.py": 18,
    "models/test_train_package.py": 25,
    "delivery/test_simulate.py": 18,
    "imports/test_import_libraries.py": 40,
    "imports/test_odd_model_files.py": 18,
    "serving/test_crashes.py": 15,
    "serving/test_shadow.py": 15,
    "serving/test_v2.py": 15,
    "pipeline/test_data_commands.py": 13,
    "pipeline/test_origin.py": 12,
    "models/test_frameworks_bare.py": 10,
}


# What a shell runs in the background ignores SIGINT, and so do the processes below it: here Ctrl-C works, whoever started us.
signal.signal(signal.SIGINT, signal.default_int_handler)


def weight(item: pytest.Item) -> float:
    """Of the file that the test is in."""
    return next((seconds for name, seconds in SECONDS.items() if item.path.as_posix().endswith(f"/tests/{name}")), 0)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "loadscopereorder"):  # xdist is there; the files keep the order that follows
        config.option.loadscopereorder = False


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Writes what failed, a test a line, to the file that FAILED_TESTS names: `.ci/run` tries it once more."""
    if file := os.environ.get("FAILED_TESTS"):
        reports = [one for kind in ("failed", "error") for one in terminalreporter.stats.get(kind, [])]
        Path(file).write_text("".join(f"{name}\n" for name in dict.fromkeys(report.nodeid for report in reports)))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; the tests of a file stay together and in their order."""
    items.sort(key=weight, reverse=True)
