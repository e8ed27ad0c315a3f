"""Behaviours of a candidate: what the project states is counted row by row, gates the release, and is told in the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from small_line import CONFIG, points, small_line

from noria.cli import report_text
from noria.evaluation import judge_behaviours
from noria.evaluation.behaviours_step import AskedModel, ask
from noria.kernel.behaviour import Behaviour, BehaviourKind, BehaviourResult
from noria.kernel.errors import ConfigError
from noria.kernel.task import Task
from noria.kernel.verdict import Outcome
from noria.models.signature import Input, Kind, Signature
from noria.pipeline.turn_record import TurnOutcome
from noria.views import report_markdown, report_page
from noria.views.comparison import Archive
from noria.views.report import read_report

INPUTS = (Input("a", Kind.NUMBER, False), Input("sex", Kind.STRING, True), Input("one", Kind.INTEGER, True))
SIGNATURE = Signature(INPUTS, Task("binary"), ("0", "1"))
N = 40
ROWS = pl.DataFrame({"a": np.linspace(0, 1, N), "sex": ["f", "m"] * (N // 2), "one": [1] * N})


class Scripted:
    """Probability ``a``, which sinks again above 0.9; women below 0.25 get 0.1 more."""

    def predict(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        a = rows["a"].to_numpy()
        more = 0.1 * ((rows["sex"] == "f").fill_null(False).to_numpy() & (a < 0.25))
        return np.where(a > 0.9, 0.2, a) + more

    def called_classes(self, rows: pl.DataFrame) -> NDArray[np.intp]:
        return (self.predict(rows) >= 0.5).astype(np.intp)

    def prepare_call(self, rows: pl.DataFrame) -> Any:
        return lambda: self.predict(rows)


MODEL = AskedModel(Scripted(), SIGNATURE, ROWS)


def asked(kind: str, subject: str = "", **more: Any) -> BehaviourResult:
    return ask(MODEL, Behaviour("b", BehaviourKind(kind), subject, **more))


def test_another_value_of_an_input_changes_no_prediction() -> None:
    """Ten of forty rows lie below 0.25; each moves by 0.1."""
    found = asked("ignores", "sex")
    assert (found.rows, found.failing) == (N, 10)
    assert found.examples[0] == "row 1 (0.1 becomes 0)"
    assert len(found.examples) == 3
    assert asked("ignores", "sex", by=0.1).failing == 0
    assert judge_behaviours.outcome(found) is Outcome.FAIL
    assert judge_behaviours.outcome(asked("ignores", "sex", allow=0.25)) is Outcome.PASS
    (reason,) = judge_behaviours.judge([found])
    assert "behaviour b (another sex changes no prediction): 10 of 40 rows (25 %) behave otherwise, such as row 1" in reason.text


def test_a_direction_is_held_over_the_whole_range() -> None:
    assert asked("rises_with", "a").failing == N
    assert asked("rises_with", "a", by=0.8).failing == 0
    assert asked("falls_with", "a", by=0.5).failing == N


def test_given_rows_are_answered_as_it_is_said() -> None:
    rows = ({"a": 0.8}, {"a": 0.1, "sex": "f"})
    found = asked("given", rows=rows, expect="1")
    assert (found.rows, found.failing, found.examples) == (2, 1, ("row 2 (a=0.1, sex='f': 0)",))
    assert asked("given", rows=rows, between=(0.2, 0.8)).failing == 0
    assert asked("given", rows=rows, between=(0.3, 0.8)).failing == 1


@pytest.mark.parametrize(
    ("kind", "more", "why"),
    [
        ("ignores", {"subject": "age"}, "there is no input age; inputs are a, sex, one"),
        ("rises_with", {"subject": "age"}, "there is no input age"),
        ("rises_with", {"subject": "sex"}, "sex is String: only a number has a direction"),
        ("given", {"rows": ({"age": 3},), "expect": "1"}, "there is no input age"),
        ("given", {"rows": ({"a": "x"},), "expect": "1"}, "a given row does not fit the inputs"),
        ("given", {"rows": ({"a": 0.1},), "expect": "yes"}, "there is no class yes; classes are 0, 1"),
        ("call", {"subject": "own_behaviours:raises"}, "own_behaviours:raises raised KeyError at own_behaviours.py:2"),
        ("call", {"subject": "own_behaviours:says"}, "own_behaviours:says returned str; it returns for each row"),
        ("call", {"subject": "own_behaviours:numbers"}, "own_behaviours:numbers returned list"),
        ("call", {"subject": "own_behaviours:absent"}, "own_behaviours has no function 'absent'"),
    ],
)
def test_what_cannot_be_run_fails_and_says_why(
    kind: str, more: dict[str, Any], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = "def raises(rows, predict):\n    return {}['x']\ndef says(rows, predict):\n    return 'yes'\n"
    (tmp_path / "own_behaviours.py").write_text(f"{own}def numbers(rows, predict):\n    return [1, 0]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = asked(kind, **more)
    assert why in found.problem
    assert judge_behaviours.outcome(found) is Outcome.FAIL
    assert found.sentence.startswith("could not be run: ")


def test_nothing_to_look_at_is_not_enough_data() -> None:
    found = asked("ignores", "one")
    assert found.few == "one has one value in 40 held-out rows"
    empty = ask(AskedModel(Scripted(), SIGNATURE, ROWS.with_columns(a=pl.lit(None, pl.Float64)).head(3)), Behaviour(
        "b", BehaviourKind.RISES_WITH, "a"
    ))  # fmt: skip
    assert empty.few == "a has no value in 3 held-out rows"
    for one in (found, empty):
        assert judge_behaviours.outcome(one) is Outcome.NOT_ENOUGH_DATA
    assert judge_behaviours.judge([found])[0].remedy


def test_a_function_may_answer_for_rows_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_rows.py").write_text(
        "import polars as pl\n\ndef half(rows, predict):\n    return predict(rows) < 0.5\n\n"
        "def one(rows, predict):\n    return bool(predict(pl.DataFrame({'a': [0.7], 'sex': ['f'], 'one': [1]}))[0] > 0.6)\n"
        "def none(rows, predict):\n    return pl.Series([], dtype=pl.Boolean).to_numpy()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert asked("call", "own_rows:half").failing == sum(0.5 <= a <= 0.9 for a in ROWS["a"])
    assert (asked("call", "own_rows:one").rows, asked("call", "own_rows:one").failing) == (1, 0)
    assert asked("call", "own_rows:none").few == "own_rows:none looked at no row"


BEHAVIOURS = """\
checks:
  behaviours:
    rising: {rises_with: a, allow: 1%}
    high: {given: [{a: 6}, {a: 8.5}], expect: 1}
    own: "own:sure"
"""
OWN = "def sure(rows, predict):\n    return predict(rows) >= LIMIT\n"


def test_a_turn_asks_and_its_report_says_what_came_of_it(tmp_path: Path) -> None:
    files = [("own.py", OWN.replace("LIMIT", "0"))]
    with small_line(tmp_path, text=CONFIG + BEHAVIOURS, files=files) as line:
        line.deliver("points-01.csv", points(1))
        first = line.turned()
        assert first.outcome is TurnOutcome.PROMOTED, first.reason
        line.write("own.py", OWN.replace("LIMIT", "limit"))
        line.write("model.py", (line.home / "model.py").read_text().replace("LogisticRegression()", "LogisticRegression(C=0.5)"))
        line.commit("a function that raises")
        second = line.turned()
        assert second.outcome is TurnOutcome.GATE_FAILED, second.reason
        assert "behaviour own (own:sure holds): could not be run: own:sure raised NameError" in second.reason
        assert "own.py:2" in second.reason
        archive = Archive(line.ledger, line.context.blobs, line.name, line.home, line.context.state)
        report = read_report(archive, None)
        assert [str(one.outcome) for one in report.behaviours] == ["pass", "pass", "fail"]
        assert report.headline.startswith("The candidate of turn 2 failed 1 of 3 behaviours, beside v1")
        passed = read_report(archive, "v1")
        assert passed.headline.startswith("v1 passed its gate and 3 behaviours")
        for told in (report_text.render(report), report_markdown.render(report), report_page.render(report)):
            assert "Behaviours" in told
            assert "more a lowers no prediction" in told
            assert "0 of 2 rows behave otherwise" in told


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("{ignores: aa}", "there is no input 'aa'"),
        ("{rises_with: b}", "there is no input 'b'"),
        ("{by: 0.1}", "a behaviour has one of ignores, rises_with, falls_with, given, call"),
        ("{ignores: a, rises_with: a}", "a behaviour has one of"),
        ("{ignores: a, by: -1}", "by cannot be below zero"),
        ("{ignores: a, expect: 1}", "expect does not belong to ignores"),
        ("{given: [], expect: 1}", "there is no row to ask"),
        ("{given: [{a: 1}]}", "either expect"),
        ("{given: [{c: 1}], expect: 1}", "there is no input 'c'"),
        ("{given: [{a: 1}], between: [2, 1]}", "2 is above 1"),
        ("{given: [{a: 1}], between: [2]}", "expected two numbers"),
        ('"own:absent"', "there is no function 'absent'"),
        ("{ignores: a, allow: 300%}", "share"),
    ],
)
def test_what_is_written_wrongly_is_said_with_its_line(tmp_path: Path, behaviour: str, why: str) -> None:
    text = f"{CONFIG}checks: {{behaviours: {{b: {behaviour}}}}}\n"
    with pytest.raises(ConfigError, match=why) as raised, small_line(tmp_path, text=text, files=[("own.py", OWN)]) as line:
        line.project()
    assert "noria.yaml:" in str(raised.value.where)


def test_many_held_out_rows_are_looked_at_by_a_stride() -> None:
    """The example names the row of the holdout, not of the sample."""
    thinned = AskedModel(Scripted(), SIGNATURE, ROWS.gather_every(2), 2)
    found = ask(thinned, Behaviour("b", BehaviourKind.IGNORES, "a"))
    assert found.examples[1].startswith("row 3 ")
