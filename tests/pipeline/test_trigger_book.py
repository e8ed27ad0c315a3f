"""Triggers and turns of two projects in one ledger, against lists in memory: each trigger starts one turn, in any order."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from noria.kernel.trigger import Trigger, TriggerKind
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import Stage, Turn, TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.storage.ledger import Ledger

projects = st.sampled_from(["p", "q"])
ENDS = [TurnOutcome.NOTHING_CHANGED, TurnOutcome.GATE_FAILED, TurnOutcome.PROMOTED, TurnOutcome.RUNNING]


class Book(RuleBasedStateMachine):
    """The stores beside what was written."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Ledger.open(Path(self.folder.name))
        for project in ("p", "q"):
            self.ledger.projects.ensure(project, project)
        self.pending: dict[str, list[Trigger]] = {"p": [], "q": []}
        self.turns: dict[str, list[Turn]] = {"p": [], "q": []}
        self.told: set[tuple[str, str]] = set()

    @rule(project=projects, kind=st.sampled_from(TriggerKind), subject=st.sampled_from([None, "a", "b"]))
    def add(self, project: str, kind: TriggerKind, subject: str | None) -> None:
        made = TriggerStore(self.ledger, project).add(kind, f"because of {subject}", dedupe=subject)
        assert (made is None) == (subject is not None and (project, subject) in self.told)
        if made is not None:
            self.pending[project].append(made)
        if subject is not None:
            self.told.add((project, subject))

    @rule(project=projects)
    def start(self, project: str) -> None:
        waiting = TriggerStore(self.ledger, project).pending()
        made = TurnStore(self.ledger, project).start()
        assert (made is None) == (self.pending[project] == [])
        if made is None:
            return
        assert made.number == len(self.turns[project]) + 1
        assert made.triggers == tuple(t.id for t in waiting)
        assert [t.id for t in TriggerStore(self.ledger, project).of_turn(made.id)] == [t.id for t in waiting]
        self.turns[project].append(made)
        self.pending[project] = []

    @rule(project=projects, end=st.sampled_from(ENDS), run=st.booleans())
    def end(self, project: str, end: TurnOutcome, run: bool) -> None:
        if self.turns[project]:
            last = self.turns[project][-1]
            more = {"run_id": f"run-{last.number}"} if run else {}
            self.turns[project][-1] = TurnStore(self.ledger, project).update(
                last.id, outcome=end, stage=Stage.GATE, reason="so", **more
            )

    @rule(project=projects, fact=st.integers(0, 3))
    def record(self, project: str, fact: int) -> None:
        """The first record of a stage stands for the rest of the turn's life."""
        if self.turns[project]:
            turn = self.turns[project][-1].id
            before = TurnStore(self.ledger, project).recorded(turn, "pin")
            assert TurnStore(self.ledger, project).record(turn, "pin", {"fact": fact}) == (before or {"fact": fact})

    @invariant()
    def agrees(self) -> None:
        for project, turns in getattr(self, "turns", {}).items():
            assert {t.id for t in TriggerStore(self.ledger, project).pending()} == {t.id for t in self.pending[project]}
            assert TurnStore(self.ledger, project).list() == turns[::-1]
            running = [t for t in turns if t.outcome is TurnOutcome.RUNNING]
            assert TurnStore(self.ledger, project).unfinished() == running
            for turn in turns:
                assert TurnStore(self.ledger, project).find(str(turn.number)) == turn
                assert TurnStore(self.ledger, project).find(turn.id) == turn == TurnStore(self.ledger, project).get(turn.id)
            newest = turns[-1] if turns else None
            early = newest if newest and newest.run_id is None and newest.outcome is not TurnOutcome.RUNNING else None
            assert TurnStore(self.ledger, project).ended_early() == early

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            self.folder.cleanup()


TestBook = Book.TestCase
TestBook.settings = settings(max_examples=6, stateful_step_count=12, deadline=None)


def test_what_is_no_number_and_no_id_finds_no_turn(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.projects.ensure("p", "p")
    TriggerStore(ledger, "p").add(TriggerKind.MANUAL, "one")
    TurnStore(ledger, "p").start()
    for odd in ("0", "2", "-1", "1.0", "\u0661", "1" * 30, "", "turn-", "1 OR 1=1"):
        assert TurnStore(ledger, "p").find(odd) is None
    ledger.close()
