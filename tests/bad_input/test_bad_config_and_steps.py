"""noria.yaml, steps and the training function gone wrong: a clear end, and production as it was."""

from __future__ import annotations

import pytest
from small_project import CONFIG, Ran, Small

STEP_CONFIG = CONFIG.replace(
    "model:\n  rows: points", "steps:\n  clean: {call: 'work:clean', timeout: 2s, memory: 600MB}\n\nmodel:\n  rows: clean"
)


def refused(small: Small, ran: Ran, outcome: str, *words: str) -> str:
    """The command said no, with these words; v1 still is the champion, and a repaired project still runs."""
    assert ran.code == 1, ran
    assert ran.facts["outcome"] == outcome, ran
    for word in words:
        assert word in ran.facts["reason"], f"{word!r} is not in: {ran.facts['reason']}"
    assert "/noria/" not in ran.facts["reason"], "where it broke is a line of the project, not one of Noria's"
    assert small.champion() == "v1"
    return str(ran.facts["reason"])


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("  label: y", "  lable: y", 11, ("lable", "label")),
        ("holdout: {fraction: 0.3}", "holdout: {fraction: much}", 13, ("a share", "much")),
        ("serving: {port: 0}", "serving: {port: eighty}", 21, ("a port", "eighty")),
        ("roc_auc >= 0.6", "roc_acu >= 0.6", 16, ("roc_acu", "roc_auc")),
        ("gates:", "gates: [", 15, ()),
    ],
)  # fmt: skip
def test_a_wrong_project_file_names_the_line_and_the_nearest_name(
    small: Small, old: str, new: str, line: int, words: tuple[str, ...]
) -> None:
    small.edit("noria.yaml", old, new)
    ran = small.run()
    assert ran.code == 2, ran
    place = str(ran.facts["error"]["where"])
    assert place.startswith("noria.yaml:"), ran.error
    number, column = map(int, place.split(":")[-2:])
    assert column >= 1
    assert number >= line if not words else number == line, ran.error
    for word in words:
        assert word in ran.error, ran.error
    assert small.champion() == "v1"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def clean(points):\n    raise ValueError('no rows')\n", ("step clean", "ValueError", "work.py:2")),
        ("import time\ndef clean(points):\n    time.sleep(600)\n", ("step clean", "2 s")),
        (
            "def clean(points):\n    held = [bytearray(b'x') * 10_000_000 for _ in range(200)]\n    return points\n",
            ("step clean", "memory", "600"),
        ),
        ("def clean(points):\n    return None\n", ("step clean", "None")),
        ("import os\ndef clean(points):\n    os.kill(os.getpid(), 9)\n", ("step clean", "signal 9")),
        ("import no_such_library\ndef clean(points):\n    return points\n", ("step clean", "no_such_library")),
        ("def clean(points):\n    return points.drop('y')\n", ("y",)),
    ],
    ids=["raises", "hangs", "memory", "none", "killed", "import", "no-label"],
)  # fmt: skip
def test_a_step_gone_wrong_ends_the_turn_with_words(small: Small, body: str, words: tuple[str, ...]) -> None:
    small.write("noria.yaml", STEP_CONFIG)
    small.write("work.py", body)
    small.commit("a step")
    refused(small, small.run(), "step failed", *words)


@pytest.mark.parametrize(
    ("body", "place", "words"),
    [
        ("def other(features, label):\n    return 1\n", "noria.yaml:12:10", ("no function 'train'", "model.py", "other")),
        ("def train(features, label)\n    return 1\n", "model.py:1:27", ("not Python",)),
    ],
    ids=["absent", "syntax"],
)
def test_a_function_that_is_not_there_is_found_before_anything_runs(
    small: Small, body: str, place: str, words: tuple[str, ...]
) -> None:
    small.write("model.py", body)
    small.commit("a model")
    ran = small.run()
    assert ran.code == 2, ran
    assert ran.facts["error"]["where"] == place
    for word in words:
        assert word in ran.error
    assert small.champion() == "v1"
    assert len(small.turns()) == 2, "the mistake is found before a turn starts"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def train(features, label):\n    return None\n", ("NoneType", "predict")),
        (
            "class M:\n    def predict(self, x):\n        return [None] * len(x)\ndef train(features, label):\n    return M()\n",
            ("predicted None", "classes"),
        ),
    ],
    ids=["none", "predicts-nothing"],
)
def test_a_training_function_gone_wrong(small: Small, body: str, words: tuple[str, ...]) -> None:
    small.write("model.py", body)
    small.commit("a model")
    refused(small, small.run(), "step failed", *words)


def test_a_tree_with_changes_is_measured_and_not_released(small: Small) -> None:
    small.edit("model.py", "LogisticRegression()", "LogisticRegression(C=0.3)")
    ran = small.run()
    assert ran.code == 1, ran
    for word in ("uncommitted", "not released (model.py)", "git commit"):
        assert word in ran.facts["reason"]
    assert {s["name"]: s["state"] for s in ran.facts["steps"]}.get("train") == "ran", "it is measured all the same"
    assert small.champion() == "v1"
    assert len(small.noria("releases", "--json").facts["releases"]) == 1


def test_failing_tests_stop_the_commit(small: Small) -> None:
    small.edit("noria.yaml", "gates:", "checks:\n  code: python -m unittest -q test_small\n\ngates:")
    small.write(
        "test_small.py", "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(1, 2)\n"
    )
    small.commit("broken tests")
    refused(small, small.run(), "check failed", "python -m unittest", "exit code 1")
