"""What a turn that failed keeps and says, and what a turn says that has nothing new to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from place import Place

LOUD = """\
project: p
steps:
  train: {cmd: "echo made > made.txt", outs: [made.txt]}
  package: {cmd: "cat made.txt; echo line one; echo the cause is a full moon; exit 3", deps: [train]}
"""


def test_a_step_that_failed_shows_its_log(place: Place) -> None:
    """Number 17: the run of a failed turn is kept, so that its log can be read; a step may be called as a stage is."""
    place.put("noria.yaml", LOUD).put(".gitignore", ".noria\nmade.txt\n").commit()
    said = place.noria("run", code=1)
    assert "the cause is a full moon" in said
    assert "noria show 1 --log package" in said
    assert place.noria("show", "1", "--log", "package") == "made\nline one\nthe cause is a full moon\n"
    shown = place.json("show", "1")
    assert [(s["name"], s["state"]) for s in shown["run"]["steps"]] == [("train", "ran"), ("package", "failed")]
    again = place.json("run", code=1)  # what failed is tried again, as Make does
    assert again["outcome"] == "step failed"
    assert [(s["name"], s["state"]) for s in again["steps"]] == [("train", "reused"), ("package", "failed")]


def test_tests_that_fail_show_their_output(place: Place) -> None:
    """Number 34."""
    place.put("noria.yaml", 'project: p\nchecks: {code: "echo three passed; echo the fourth did not; exit 1"}\n')
    place.put(".gitignore", ".noria\n").commit()
    said = place.noria("run", code=1)
    assert "three passed\nthe fourth did not" in said
    assert place.noria("show", "1", "--log", "checks.code") == "three passed\nthe fourth did not\n"


@pytest.mark.parametrize(
    "cmd", ["|\n      false\n      echo x > out.txt", '"false; echo x > out.txt"', "|\n      cat nothing\n      true\n"]
)
def test_commands_stop_at_the_first_that_fails(place: Place, cmd: str) -> None:
    """Number 8: as in Make and in CI, a later line does not hide it."""
    place.put("noria.yaml", f"project: p\nsteps:\n  s:\n    outs: [out.txt]\n    cmd: {cmd}\n").put(
        ".gitignore", ".noria\n"
    ).commit()
    assert place.json("run", code=1)["outcome"] == "step failed"
    assert not Path(place.home / "out.txt").exists()


def test_tests_of_several_commands_stop_at_the_first_that_fails(place: Place) -> None:
    """Number 8: the project's tests likewise."""
    place.put("noria.yaml", "project: p\nchecks:\n  code: |\n    false\n    true\n").put(".gitignore", ".noria\n").commit()
    assert place.json("run", code=1)["outcome"] == "check failed"


def test_a_command_reads_what_it_is_given(place: Place) -> None:
    """Number 8: `${NORIA_INPUT_X}` in a command is the shell's, as the documentation writes it."""
    place.put("noria.yaml", 'project: p\nsteps:\n  a: {cmd: "echo 5 > a.txt", outs: [a.txt]}\n'
              '  b: {cmd: "cat ${NORIA_INPUT_A} > b.txt", deps: [a], outs: [b.txt]}\n')  # fmt: skip
    place.put(".gitignore", ".noria\n*.txt\n").commit().noria("run")
    assert place.read("b.txt") == "5\n"


def test_a_metric_that_is_not_a_number_loses_no_other(place: Place) -> None:
    """Number 26: Python writes NaN and Infinity into JSON."""
    place.put("noria.yaml", "project: p\nsteps: {s: {cmd: 'cp in.txt m.json', deps: [in.txt], metrics: [m.json]}}\n")
    place.put("in.txt", '{"auc": 0.9, "loss": NaN, "ratio": Infinity}').put(".gitignore", ".noria\nm.json\n").commit().noria(
        "run"
    )
    assert place.json("show", "latest")["run"]["metrics"]["s.auc"] == 0.9


def test_a_parameter_that_would_not_be_used_is_refused(place: Place) -> None:
    """Number 26: `--set` of what a step reads that keeps its result would be recorded and not used."""
    place.put("noria.yaml", 'project: p\nsteps: {one: "m:one", two: "m:two"}\n').put("params.yaml", "one: {n: 1}\ntwo: {k: 2}\n")
    place.put("m.py", "def one(n): return n\ndef two(one, k): return one * k\n").put(".gitignore", ".noria\n").commit().noria(
        "run"
    )
    said = place.noria("run", "--from", "two", "--set", "one.n=5", code=2)
    assert "one.n is read by step one, which keeps its result" in said
    assert "--from one" in said
    assert place.json("run", "--from", "two", "--set", "two.k=5")["experiments"][0]["params"]["two.k"] == 5
    place.noria("run", "--to", "two", "--set", "one.n=5")


def test_the_variables_of_a_function_count(place: Place) -> None:
    """Number 26: `env` in noria.yaml is among what a function depends on, as it is for a command."""
    text = 'project: p\nsteps: {one: {call: "m:one", env: {LEVEL: "3"}}}\n'
    place.put("noria.yaml", text).put("m.py", "import os\ndef one(): return os.environ['LEVEL']\n").put(
        ".gitignore", ".noria\n"
    ).commit()
    place.noria("run")
    place.put("noria.yaml", text.replace('"3"', '"4"')).commit()
    assert place.states() == {"one": ("ran", "parameter changed: env.LEVEL")}


def test_a_turn_that_came_to_no_run_is_said(place: Place) -> None:
    """Number 32: `show latest` and `diff` tell of the run before it, and say so."""
    place.put("noria.yaml", "project: p\nsteps: {s: {cmd: 'true'}}\n").put(".gitignore", ".noria\n").commit().noria("run")
    place.put("noria.yaml", "project: p\ndata: {t: data/*.csv}\nsteps: {s: {cmd: 'cat', deps: [t]}}\n").commit()
    place.noria("run", code=1)  # there is no data
    said = place.noria("show", "latest")
    assert "turn 2 came after this run and ended without one: check failed: data/*.csv: dataset t has no" in said
    assert place.json("show", "latest")["ended_early"]["number"] == 2
    assert "turn 2 came after this run" in place.noria("diff", "1", "latest")
