"""A commit that changes policy: the champion's policy judges it until a person approves the change, by name and with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from raw_values import leaks
from small_line import CONFIG, CONTRACT, MODEL, SmallLine, points, small_line

from noria import cli
from noria.engine import actions
from noria.engine.action_table import ACTIONS
from noria.evaluation.store import EvaluationStore
from noria.kernel.errors import RefusedError, UsageError
from noria.pipeline.turn_record import Turn, TurnOutcome
from noria.releases.decision_store import DecisionStore
from noria.releases.judge_policy import differences, sentence
from noria.trust import audit

ASKS = CONFIG + "policy_changes: approve\n"
STRICT = "roc_auc >= 0.6"


def changed(line: SmallLine, gate: str, regularisation: float) -> Turn:
    line.edit("noria.yaml", line.project.gates[0].text, gate)
    line.write("model.py", MODEL.replace("LogisticRegression()", f"LogisticRegression(C={regularisation})"))
    line.commit(f"{gate}, C={regularisation}")
    return line.turned()


def texts(line: SmallLine, turn: Turn) -> list[str]:
    found = EvaluationStore.of(line).of_turn(turn.id)
    assert found is not None
    return [reason.text for reason in found.reasons]


def test_differences_name_what_became_of_what() -> None:
    before = {
        "gates": ["roc_auc >= 0.60", "brier <= 0.2", "rows >= 10"],
        "environments": {"production": {"approvals": 2, "freeze": []}},
        "contracts": {"flights": {"columns": [{"name": "id", "nulls": 0.0}, {"name": "late", "nulls": 0.0}]}},
    }
    after = {
        "gates": ["roc_auc >= 0.50", "rows >= 10", "mae <= 3"],
        "environments": {"production": {"approvals": 0, "freeze": []}},
        "contracts": {"flights": {"columns": [{"name": "late", "nulls": 0.5}]}},
    }
    assert differences(before, after) == (
        "gates: roc_auc >= 0.60 became roc_auc >= 0.50",
        "gates: brier <= 0.2 was removed",
        "gates: mae <= 3 was added",
        "environments.production.approvals: 2 became 0",
        "contracts.flights.columns.id.nulls: 0.0 was removed",
        "contracts.flights.columns.late.nulls: 0.0 became 0.5",
    )
    assert differences(before, before) == ()
    assert sentence([str(number) for number in range(20)]).endswith("; 11 and 8 more")


@pytest.mark.parametrize(
    ("more", "due"),
    [("", "allow"), ("policy_changes: approve\n", "approve")],
)
def test_a_project_that_asks_nobody_allows_them(tmp_path: Path, more: str, due: str) -> None:
    with small_line(tmp_path, text=CONFIG + more) as line:
        assert line.project.policy_changes == due
        line.edit("noria.yaml", "{rollout: direct}", "{rollout: direct, approvals: 1}")
        assert line.project.policy_changes == "approve"


def test_where_it_is_allowed_the_verdict_names_the_difference(tmp_path: Path) -> None:
    with small_line(tmp_path) as line:
        line.deliver("points-01.csv", points(1))
        assert line.turned().outcome is TurnOutcome.PROMOTED
        turn = changed(line, "roc_auc >= 0.55", 0.01)
        assert turn.outcome is TurnOutcome.PROMOTED
        assert texts(line, turn)[-1] == "policy changed since v1: gates: roc_auc >= 0.6 became roc_auc >= 0.55"
        assert DecisionStore.of(line).list() == []


def test_the_champions_gates_refuse_until_a_person_approves_the_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_line(tmp_path, text=ASKS.replace(STRICT, "model_size_mb <= 0.05")) as line:
        line.deliver("points-01.csv", points(1))
        assert line.turned().outcome is TurnOutcome.PROMOTED
        padded = MODEL.replace(
            "return LogisticRegression().fit(features, label.to_numpy())",
            "from sklearn.ensemble import RandomForestClassifier\n\n"
            "    return RandomForestClassifier(200, random_state=1).fit(features, label.to_numpy())",
        )
        line.edit("noria.yaml", "model_size_mb <= 0.05", "model_size_mb <= 50")
        line.edit("noria.yaml", "policy_changes: approve\n", "policy_changes: allow\n")
        line.write("model.py", padded)
        line.commit("a forest, and a gate that lets it pass")
        refused = line.turned()
        assert refused.outcome is TurnOutcome.GATE_FAILED, refused.reason
        assert "gates: model_size_mb <= 0.05 became model_size_mb <= 50; policy_changes: approve became allow" in refused.reason
        assert "`noria policy approve --why REASON`" in refused.reason
        monkeypatch.setenv("NORIA_HOME", str(line.context.state))
        monkeypatch.chdir(line.home)
        assert cli.execute(["policy"]) == 0
        assert "until a person approves that, the policy of v1 judges, too" in capsys.readouterr().out
        with pytest.raises(UsageError, match="needs a reason"):
            actions.approve_policy(line.context, " ", "cli:anna")
        ACTIONS["approve_policy"].perform(line.context, "cli:anna", {"why": "forests are fine"})
        with pytest.raises(RefusedError, match="cli:anna approved this change already"):
            actions.approve_policy(line.context, "again", "cli:anna")
        actions.trigger(line.context, "the policy is approved", "cli:anna")
        released = line.turn()
        assert released is not None
        assert released.outcome is TurnOutcome.PROMOTED, released.reason
        (decision,) = DecisionStore.of(line).of_release("v2")
        assert (decision.kind, decision.actor, decision.why) == ("policy", "cli:anna", "forests are fine")
        assert cli.execute(["show", "v2"]) == 0
        assert "accepted by cli:anna (forests are fine): its commit changes policy" in capsys.readouterr().out
        assert audit.verify(line.ledger, line.context.state).problems == ()
        line.ledger.database.execute("UPDATE policy_approvals SET actor = 'cli:bob'")
        assert "that cli:bob approved the policy" in audit.verify(line.ledger, line.context.state).text
        with pytest.raises(RefusedError, match="is the one in force"):
            actions.approve_policy(line.context, "nothing", "cli:anna")


def test_a_candidate_that_the_champions_gates_pass_waits_for_the_approval(tmp_path: Path) -> None:
    with small_line(tmp_path, text=ASKS) as line:
        line.deliver("points-01.csv", points(1))
        assert line.turned().outcome is TurnOutcome.PROMOTED
        turn = changed(line, "roc_auc >= 0.5", 0.01)
        assert (turn.outcome, turn.release) == (TurnOutcome.RELEASED, "v2")
        assert "its commit changes the policy of v1: gates: roc_auc >= 0.6 became roc_auc >= 0.5" in turn.reason
        line.reconcile()
        assert line.champion == "v1"
        actions.accept(line.context, "v2", "agreed", "cli:anna")
        line.reconcile()
        assert line.champion == "v2"


BEHAVES = "checks: {behaviours: {rising: {rises_with: a}, high: {given: [{a: 7}], expect: WANTED}}}\n"


def test_a_removed_behaviour_judges_until_a_person_approves(tmp_path: Path) -> None:
    """The champion's behaviours are policy as its gates are: the commit that drops one is judged by it."""
    with small_line(tmp_path, text=ASKS + BEHAVES.replace("WANTED", "1")) as line:
        line.deliver("points-01.csv", points(1))
        first = line.turned()
        assert first.outcome is TurnOutcome.PROMOTED, first.reason
        line.edit("noria.yaml", BEHAVES.replace("WANTED", "1"), "checks: {behaviours: {low: {given: [{a: -7}], expect: 0}}}\n")
        line.write("model.py", MODEL.replace("label.to_numpy()", "1 - label.to_numpy()"))
        line.commit("an inverted model, and no behaviour that finds it")
        second = line.turned()
        assert second.outcome is TurnOutcome.GATE_FAILED, second.reason
        assert "behaviour rising (more a lowers no prediction)" in second.reason
        assert "behaviour high" in second.reason
        said = texts(line, second)
        assert any(text.startswith("behaviour low ") for text in said)
        (policy,) = (text for text in said if text.startswith("policy: "))
        assert "behaviours.rising" in policy
        assert "until a person approves that" in policy


HASHED = CONTRACT.replace("unique: [id]", "  email: {type: string}\nunique: [id]\npersonal_data: {hash: [email]}")
PLAIN = CONTRACT.replace("unique: [id]", "  email: {type: string}\nunique: [id]")


def with_emails(month: int) -> str:
    head, *rows = points(month).splitlines()
    return "\n".join([f"{head},email", *(f"{row},u{month}-{at}@mail.example" for at, row in enumerate(rows))]) + "\n"


def deliver(line: SmallLine, month: int, text: str) -> Turn:
    line.deliver(f"points-{month:02d}.csv", text)
    return line.turned()


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize("contract", [PLAIN, ""])
def test_values_that_were_hashed_are_until_a_person_approves(tmp_path: Path, contract: str, renamed: bool) -> None:
    """A commit that takes a column off `hash`, or drops the contract, or gives the dataset another name: none stores a value."""
    asks = ASKS.replace('"roc_auc >= 0.6"', '"roc_auc >= 0.5"')
    with small_line(tmp_path, text=asks, files=[("contracts/points.yaml", HASHED)]) as line:
        assert deliver(line, 1, with_emails(1)).outcome is TurnOutcome.PROMOTED
        line.write("contracts/points.yaml", contract or PLAIN)
        if not contract:
            line.edit("noria.yaml", ", contract: contracts/points.yaml", "")
        if renamed:
            line.edit("noria.yaml", "  points: {", "  dots: {")
            line.edit("noria.yaml", "rows: points", "rows: dots")
        line.write("model.py", MODEL.replace("LogisticRegression()", "LogisticRegression(C=0.01)"))
        line.commit("addresses as they are")
        second = deliver(line, 2, with_emails(2))
        assert (second.outcome, second.release) == (TurnOutcome.RELEASED, "v2"), second.reason
        assert "its commit changes the policy of v1: contracts." in second.reason
        assert line.champion == "v1"
        assert leaks(line.context.state, ["@mail.example"]) == []
        actions.approve_policy(line.context, "the team may see them", "cli:anna")
        third = deliver(line, 3, with_emails(3))
        assert third.outcome is TurnOutcome.PROMOTED, third.reason
        assert leaks(line.context.state, ["u3-7@mail.example"])


def test_a_file_that_the_contract_in_force_refuses_waits_for_the_approval(tmp_path: Path) -> None:
    far = points(2) + "299999,95.5,1\n"  # -10 to 10 is allowed
    with small_line(tmp_path, text=ASKS) as line:
        assert deliver(line, 1, points(1)).outcome is TurnOutcome.PROMOTED
        line.write("contracts/points.yaml", CONTRACT.replace("[-10, 10]", "[-1000, 1000]"))
        line.commit("far points are fine")
        line.turned()
        refused = deliver(line, 2, far)
        assert refused.outcome is TurnOutcome.QUARANTINED, refused.reason
        assert "the contracts in force judged, which this commit changes: `noria policy approve --why REASON`" in refused.reason
        assert line.look() == 0  # what was refused is no news, by the contracts that refused it
        actions.approve_policy(line.context, "we measured again", "cli:anna")
        accepted = line.turned()
        assert any("points-02.csv accepted" in text for text in line.events("data.accepted")), accepted.reason


def test_what_the_contract_in_force_hashes_is_no_input(tmp_path: Path) -> None:
    with small_line(tmp_path, text=ASKS, files=[("contracts/points.yaml", HASHED)]) as line:
        assert deliver(line, 1, with_emails(1)).outcome is TurnOutcome.PROMOTED
        line.write("contracts/points.yaml", PLAIN)
        line.edit("noria.yaml", "inputs: [a]", "inputs: [a, email]")
        line.commit("addresses as inputs")
        ended = line.turned()
        assert ended.outcome is not TurnOutcome.PROMOTED
        assert "email is an input, and the contract in force (v1) hashes or drops it" in ended.reason
        assert "noria policy approve" in ended.reason
        assert leaks(line.context.state, ["@mail.example"]) == []
