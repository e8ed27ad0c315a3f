"""`kill -9` of the daemon at chosen moments: the server answers all along, and the next daemon does the work once."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from small_project import Asking, Small, address_of, csv_text, rows, until

CANARY = "{rollout: {steps: [50%, 100%], replay: 0, guard: {errors: 30%, latency: {over: 5s, by: 30%}}}}"
MOMENTS: dict[str, Callable[[Small], object]] = {
    "trigger written": lambda p: p.ledger("SELECT 1 FROM triggers WHERE reason LIKE '%points-02%'"),
    "turn started": lambda p: p.ledger("SELECT 1 FROM turns WHERE number > 2 AND trigger LIKE '%points-02%'"),
    "step running": lambda p: list((p.state / "work").glob("*/score.candidate/step.log")),
    "release sealed": lambda p: p.ledger("SELECT 1 FROM releases WHERE version = 'v2'"),
    "route changed": lambda p: p.ledger("SELECT 1 FROM routes WHERE champion_version = 'v2' OR candidate_version = 'v2'"),
}


@pytest.mark.parametrize(
    ("moment", "rollout"),
    [
        ("trigger written", "direct"),
        ("turn started", "direct"),
        ("step running", "direct"),
        ("release sealed", "direct"),
        ("route changed", "canary"),
    ],
)
def test_no_turn_is_lost_or_done_twice(small: Small, moment: str, rollout: str) -> None:
    if rollout == "canary":
        small.edit("noria.yaml", "{rollout: direct}", CANARY)
        small.commit("canary")
    with small.up().ready() as first:
        until(lambda: ended(small, "push: %canary%" if rollout == "canary" else "%"), "the turns of the commits")
        for old in (small.state / "work").glob("*/score.candidate/step.log"):
            old.unlink()
        with Asking(address_of(small)) as asking:
            small.deliver("points-02.csv", csv_text(rows(2)))
            until(lambda: MOMENTS[moment](small), moment)
            first.kill()
            second = small.up().ready()
            until(lambda: ended(small, "%points-02%"), f"the turn that was killed when: {moment}")
            before = asking.right
            until(lambda: asking.right > before + 20, "answers by the new daemon's route")
        with second:
            assert second.process.poll() is None
    assert asking.wrong == []
    assert asking.releases == {"v1", "v2"}
    (row,) = small.ledger("SELECT id, turn_id FROM triggers WHERE reason LIKE '%points-02%'")
    assert small.ledger("SELECT outcome, release FROM turns WHERE id = ?", row[1]) == [("promoted", "v2")]
    assert small.ledger("SELECT count(*) FROM turns WHERE trigger LIKE '%points-02%'") == [(1,)]
    assert small.ledger("SELECT version FROM releases ORDER BY version") == [("v1",), ("v2",)]
    assert small.ledger("SELECT count(*) FROM deliveries WHERE name = 'data/points-02.csv'") == [(1,)]
    until(lambda: small.ledger("SELECT count(*) FROM runs WHERE turn_id = ?", row[1]) == [(1,)], "its run is written down")
    assert small.ledger("SELECT count(*) FROM events WHERE kind = 'turn.ended' AND subject = ?", row[1]) == [(1,)]
    assert small.champion() == "v2"
    assert small.noria("audit", "verify", "--json").facts["ok"] is True


def ended(small: Small, trigger: str) -> bool:
    """Whether there are turns of this trigger, and all of them have ended."""
    found = small.ledger("SELECT outcome FROM turns WHERE trigger LIKE ?", trigger)
    waiting = small.ledger("SELECT 1 FROM triggers WHERE turn_id IS NULL")
    return bool(found) and not waiting and all(outcome not in ("running", "rolling out") for (outcome,) in found)


def test_a_crash_in_native_code_is_told(small: Small) -> None:
    """A fault of a library ends the process at once: without the stacks, nobody would know what it did."""
    with small.up().ready() as daemon:
        daemon.process.send_signal(signal.SIGSEGV)
        assert daemon.process.wait(timeout=120) == -signal.SIGSEGV
        assert "Fatal Python error: Segmentation fault" in daemon.output
        assert "noria/daemon.py" in daemon.output
