"""How gates did over their history: fired, overridden, missed what failed live, cost what was good."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_line import CONFIG, MODEL, points, small_line

from noria import cli
from noria.engine import actions
from noria.evaluation.records import Assessment
from noria.kernel.verdict import GateVerdict, Outcome
from noria.monitor.records import Alert
from noria.monitor.store import AlertStore
from noria.releases.evidence import Evaluation
from noria.stats.measures import Measure
from noria.views.gate_history import GateHistory, ReleaseFacts, count, named

AUC, SIZE = "roc_auc >= 0.6", "model_size_mb <= 5"


def assessed(turn: int, auc: tuple[Outcome, float], size: tuple[Outcome, float]) -> Assessment:
    gates = tuple(
        GateVerdict(text, text.split()[0], str(outcome), value, "") for text, (outcome, value) in ((AUC, auc), (SIZE, size))
    )
    evaluation = Evaluation(400, 100, {"roc_auc": Measure(auc[1], auc[1] - 0.02, auc[1] + 0.02, 400, 100)})
    return Assessment(f"turn-{turn}", "p", f"run-{turn}", "production", evaluation, gates=gates, at=float(turn))


def released(turn: int, auc: float, *, failed: bool = False, overridden: bool = False) -> ReleaseFacts:
    return ReleaseFacts(f"v{turn}", f"turn-{turn}", {"roc_auc": auc}, True, failed, overridden)


def history(assessments: list[Assessment], releases: list[ReleaseFacts]) -> dict[str, GateHistory]:
    names = {f"turn-{number}": f"turn {number}" for number in range(10)}
    return {one.gate: one for one in count(sorted(assessments, key=lambda a: -a.at), releases, names)}


def test_a_gate_that_alone_stopped_a_nearly_equal_release_cost_it() -> None:
    passed, good = (Outcome.PASS, 0.61), (Outcome.PASS, 1.0)
    refused = [
        assessed(1, (Outcome.FAIL, 0.595), good),
        assessed(2, (Outcome.FAIL, 0.5), good),  # far from what was released
        assessed(3, (Outcome.NOT_ENOUGH_DATA, 0.605), (Outcome.FAIL, 9.0)),  # not alone
    ]
    found = history([*refused, assessed(4, passed, good)], [released(4, 0.61)])
    assert (found[AUC].judged, found[AUC].failed, found[AUC].undecided) == (4, ["turn 2", "turn 1"], ["turn 3"])
    assert found[AUC].cost == ["turn 1"]
    assert found[SIZE].cost == []
    assert history([*refused, assessed(4, passed, good)], [released(4, 0.61, failed=True)])[AUC].cost == []
    before = history([assessed(4, passed, good), assessed(5, (Outcome.FAIL, 0.595), good)], [released(4, 0.61)])
    assert before[AUC].cost == [], "only a later release shows it"


def test_what_failed_live_was_missed_by_each_gate_that_passed_it() -> None:
    found = history(
        [assessed(1, (Outcome.PASS, 0.7), (Outcome.PASS, 1.0)), assessed(2, (Outcome.NOT_ENOUGH_DATA, 0.7), (Outcome.PASS, 1.0))],
        [released(1, 0.7, failed=True), released(2, 0.7, overridden=True)],
    )
    assert (found[AUC].missed, found[SIZE].missed) == (["v1"], ["v1"])
    assert (found[AUC].overridden, found[AUC].cost) == (["v2"], ["v2"]), "overridden, and it did well"
    assert named(list(found.values())) == {"never_fired": [], "cost_good_releases": [AUC]}, "two candidates show no habit"


@pytest.mark.parametrize(("candidates", "never"), [(1, []), (9, []), (10, [AUC, SIZE])])
def test_a_gate_never_fired_only_after_ten_candidates(candidates: int, never: list[str]) -> None:
    found = history([assessed(n, (Outcome.PASS, 0.7), (Outcome.PASS, 1.0)) for n in range(1, candidates + 1)], [])
    assert sorted(named(list(found.values()))["never_fired"]) == sorted(never)


def test_the_command_reads_it_from_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_line(tmp_path, text=CONFIG + "not_enough_data: hold\n") as line:
        monkeypatch.setenv("NORIA_HOME", str(line.context.state))
        monkeypatch.chdir(line.home)
        line.deliver("points-01.csv", points(1, 120))
        line.turned()
        actions.accept(line.context, "v1", "few rows are all there are", "cli:anna")
        line.reconcile()
        line.deliver("points-02.csv", points(2, 400))
        assert line.turned().release == "v2"
        line.write("model.py", MODEL.replace("LogisticRegression()", "LogisticRegression(C=0.01)"))
        line.commit("C=0.01")
        assert line.turned().release == "v3"
        AlertStore.of(line).add(Alert("alert-1", "p", "quality", "v3", "sunk", 1.0))
        AlertStore.of(line).add(Alert("alert-2", "p", "drift", "v2", "moved", 1.0))
        actions.roll_back(line.context, None, "cli:anna")  # a person's: no evidence against v3, but the alert is
        assert cli.execute(["report", "gates", "--json"]) == 0
        (gate,) = json.loads(capsys.readouterr().out)["gates"]
        assert (gate["gate"], gate["judged"], gate["fired"]) == ("roc_auc >= 0.6", 3, 1)
        assert (gate["overridden"], gate["cost"], gate["missed"]) == (["v1"], ["v1"], ["v3"])
        assert cli.execute(["report", "gates"]) == 0
        said = capsys.readouterr().out
        assert "cost good releases: roc_auc >= 0.6 (v1)" in said
        assert "A gate fired when it did not pass a candidate." in said


def test_before_the_first_candidate_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_line(tmp_path) as line:
        monkeypatch.setenv("NORIA_HOME", str(line.context.state))
        monkeypatch.chdir(line.home)
        assert cli.execute(["report", "gates"]) == 0
        assert "no candidate was judged by a gate yet" in capsys.readouterr().out
