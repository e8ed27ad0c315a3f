"""`kill -9` of the daemon and of the workers at every step of a rollout: the next daemon goes on from where it stood."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, suppress

import psutil
import pytest
from rollout_traffic import Clients
from small_project import Small, Up, address_of, end_server, server_pids, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SHAPE = """\
import polars as pl


def features(rows):
    if (rows["a"] == 9.0).any():
        raise ValueError("nobody knows such a row")
    return rows.select("a", b=pl.when(pl.col("b").is_null()).then(0.0).otherwise(pl.col("b")))
"""
GUARD = "{errors: 3%, latency: {over: 5s, by: 30%}}"
STEPS = "[{shadow: 50%}, 30%, {pause: 2s}, 60%, {approve: 1}, 100%]"
POLICY = f"{{rollout: {{steps: {STEPS}, replay: 200, guard: {GUARD}, probation: 6s, pairs: 30%}}}}"
KINDS = ("rollout.replay", "rollout.replayed", "rollout.started", "rollout.advanced", "rollout.promoted", "probation.passed")


def rollout(small: Small) -> tuple[str, int] | None:
    found = small.ledger("SELECT state, step FROM rollouts ORDER BY started_at DESC LIMIT 1")
    return found[0] if found else None


def reached(small: Small, daemon: Up, moments: list[tuple[str, int]], moment: tuple[str, int]) -> tuple[str, int] | None:
    """Where the rollout stands, once it is there or further."""
    daemon.demand_alive()
    now = rollout(small)
    assert now is None or now[0] != "rolled back", small.ledger("SELECT text FROM events WHERE kind = 'rollout.rolled_back'")
    return now if now in moments and moments.index(now) >= moments.index(moment) else None


def kill_all(small: Small, daemon: Up) -> None:
    """`kill -9` of the daemon, and of every process below the server that answers; the server starts new ones."""
    daemon.kill()
    for pid in server_pids(small):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error, ProcessLookupError):  # it has just ended
                if "noria.serving.worker" in " ".join(process.cmdline()):
                    os.kill(process.pid, signal.SIGKILL)


def test_a_rollout_that_is_killed_at_every_step_goes_on_from_there(small: Small) -> None:
    small.write("shape.py", SHAPE)
    small.edit("noria.yaml", 'train: "model:train"', 'train: "model:train"\n  features: "shape:features"')
    small.commit("the champion")
    moments = [("replay", 0), *(("canary", step) for step in range(5)), ("probation", 4)]
    seen: set[tuple[str, int]] = set()
    with ExitStack() as daemons:
        daemon = daemons.enter_context(small.up()).ready()
        until(lambda: small.ledger("SELECT 1 FROM routes WHERE champion_version = 'v2'"), "the champion serves")
        small.edit("noria.yaml", "{rollout: direct}", POLICY)
        with Clients(address_of(small)) as clients:
            until(lambda: clients.answered > 300, "something to replay")
            small.edit("model.py", "LogisticRegression()", "LogisticRegression(C=0.3)")
            small.commit("to be killed")
            for moment in moments:
                now = until(lambda moment=moment, daemon=daemon: reached(small, daemon, moments, moment), f"{moment}", 300)
                if now in seen:
                    continue  # it went on faster than it was killed
                seen.add(now)
                kill_all(small, daemon)
                daemon = daemons.enter_context(small.up()).ready()
                if now == ("canary", 4):
                    assert small.noria("approve", "v3", "--json").code == 0
            until(lambda: (rollout(small) or ("", 0))[0] == "promoted", "the end of probation", 300)
    assert seen >= {("canary", 0), ("canary", 2), ("canary", 4), ("probation", 4)}
    assert len(seen) >= 5
    counts = {kind: len(small.ledger("SELECT 1 FROM events WHERE kind = ?", kind)) for kind in KINDS}
    assert counts == dict(zip(KINDS, (1, 1, 1, 4, 3, 1), strict=True))
    assert small.champion() == "v3"
    assert small.noria("audit", "verify", "--json").facts["ok"] is True


def test_what_was_rolled_back_never_serves_again_whoever_is_killed(small: Small) -> None:
    small.write("shape.py", SHAPE.replace("== 9.0", ">= 8.0"))
    small.edit("noria.yaml", 'train: "model:train"', 'train: "model:train"\n  features: "shape:features"')
    with ExitStack() as daemons:
        daemon = daemons.enter_context(small.up()).ready()
        small.edit("noria.yaml", "{rollout: direct}", POLICY.replace("replay: 200", "replay: 0").replace(STEPS, "[50%, 100%]"))
        with Clients(address_of(small)) as clients:
            small.commit("it fails on five in a hundred")
            until(lambda: small.happened("rollout.rolled_back"), "the rollback is written down", 300)
            kill_all(small, daemon)
            daemon, answered = daemons.enter_context(small.up()).ready(), clients.answered
            until(lambda: clients.answered > answered + 100, "answers go on")
        daemon.kill()
        end_server(small)
        daemons.enter_context(small.up()).ready()
        with Clients(address_of(small)) as after:
            until(lambda: after.answered > 200, "a new server answers")
    assert after.failed == []
    assert after.variants == {("v1", "champion")}
    assert rollout(small) == ("rolled back", 0)
    assert small.ledger("SELECT candidate, champion_version FROM routes ORDER BY revision DESC LIMIT 1") == [(None, "v1")]
