"""`not_enough_data: hold`: a candidate that gates cannot decide is sealed, and waits for a person who says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_line import CONFIG, SmallLine, points, small_line

from noria import cli
from noria.delivery.rollout_record import RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.engine import actions
from noria.engine.action_table import ACTIONS
from noria.kernel.errors import RefusedError, UsageError
from noria.pipeline.turn_record import Turn, TurnOutcome
from noria.releases.decision_store import DecisionStore
from noria.releases.store import ReleaseStore
from noria.trust import audit

FEW = CONFIG + "not_enough_data: hold\n"


def undecided(line: SmallLine) -> Turn:
    line.deliver("points-01.csv", points(1, 120))  # fewer than 50 are held out
    return line.turned()


def accept(line: SmallLine, why: str, actor: str = "cli:anna") -> dict[str, object]:
    return ACTIONS["accept"].perform(line.context, actor, ACTIONS["accept"].read({"release": "v1", "why": why}))


def test_refuse_is_the_default(tmp_path: Path) -> None:
    with small_line(tmp_path) as line:
        assert undecided(line).outcome is TurnOutcome.NOT_ENOUGH_DATA
        assert ReleaseStore.of(line).list() == []


def test_it_waits_for_a_person_and_goes_out_when_one_accepts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_line(tmp_path, text=FEW) as line:
        turn = undecided(line)
        assert (turn.outcome, turn.release) == (TurnOutcome.RELEASED, "v1")
        assert turn.reason.startswith("v1 waits for a person (`noria release accept v1 --why REASON`): its gates have not enough")
        line.reconcile()
        assert line.champion is None
        with pytest.raises(RefusedError, match="v1 waits for a person"):
            actions.promote(line.context, "v1", None, "cli:anna")
        with pytest.raises(UsageError, match="needs a reason"):
            accept(line, "  ")
        with pytest.raises(RefusedError, match="a step cannot"):
            accept(line, "me", actor="step:train")
        done = accept(line, "the labels  come late")
        assert (done["release"], done["accepted"]) == ("v1", ["gates"])
        with pytest.raises(RefusedError, match="nothing about v1 waits"):
            accept(line, "again")
        line.reconcile()
        assert line.champion == "v1"
        (decision,) = DecisionStore.of(line).of_release("v1")
        assert (decision.actor, decision.why) == ("cli:anna", "the labels come late")
        assert audit.verify(line.ledger, line.context.state).ok
        monkeypatch.setenv("NORIA_HOME", str(line.context.state))
        monkeypatch.chdir(line.home)
        for command in (["releases"], ["show", "v1"]):
            assert cli.execute(command) == 0
            assert "accepted by cli:anna (the labels come late): its gates have not enough" in capsys.readouterr().out
            assert cli.execute([*command, "--json"]) == 0
            assert "cli:anna" in json.dumps(json.loads(capsys.readouterr().out))
        line.ledger.database.execute("UPDATE release_decisions SET actor = 'cli:bob'")
        assert "that cli:bob accepted v1 (gates) is in no event" in audit.verify(line.ledger, line.context.state).text


def test_a_person_declines_it_by_ending_its_rollout(tmp_path: Path) -> None:
    with small_line(tmp_path, text=FEW) as line:
        undecided(line)
        actions.abort(line.context, None, "cli:anna", "wait for more labels")
        assert [rollout.state for rollout in RolloutStore.of(line).list()] == [RolloutState.ROLLED_BACK]
        assert "wait for more labels" in (ReleaseStore.of(line).get("v1").barred or "")
        with pytest.raises(RefusedError, match="is barred"):
            accept(line, "after all")


def test_what_fails_is_refused_all_the_same(tmp_path: Path) -> None:
    with small_line(tmp_path, text=FEW.replace("roc_auc >= 0.6", "model_size_mb <= 0")) as line:
        assert undecided(line).outcome is TurnOutcome.GATE_FAILED
