"""`noria release withdraw` and `lift`: what they refuse, record, and change."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from noria.cli import execute
from noria.delivery.rollout_record import Rollout, RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.releases.release import ServedForm
from noria.releases.store import ReleaseStore
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.storage.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Releases v1 to v4: v1 serves, v2 is a candidate, v3 waits, v4 is free."""
    (tmp_path / "noria.yaml").write_text("project: pumps\n")
    monkeypatch.chdir(tmp_path)
    with closing(Ledger.open(tmp_path / ".noria")) as ledger:
        ledger.projects.ensure("pumps", str(tmp_path))
        for number in range(1, 5):
            ReleaseStore(ledger, "pumps").seal(str(number) * 64, "run-1", None, ServedForm.COMPILED, None, {}, f"pins{number}")
        with ledger.transaction():
            RouteStore(ledger, "pumps").put(Route("pumps", "staging", 0, "1" * 64, "v1"))
            RouteStore(ledger, "pumps").put(
                Route("pumps", "production", 0, "9" * 64, "v9", candidate="2" * 64, candidate_version="v2")
            )
            RouteStore(ledger, "pumps").put(Route("another", "production", 0, "4" * 64, "v4"))
        RolloutStore(ledger, "pumps").start(
            Rollout("rollout-1", "pumps", "production", None, "v3", "3" * 64, RolloutState.WAITING, 0, time.time())
        )
        yield ledger


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert execute(["release", *arguments, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found if code == 0 else found["error"]


def test_a_withdrawn_release_is_barred_by_a_person_until_one_lifts_it(ledger: Ledger, capsys: Any) -> None:
    done = said(capsys, "withdraw", "v4", "--why", "trained  on the wrong\nlabels")
    reason = done["barred"]
    assert reason.startswith("withdrawn by ")
    assert reason.endswith(": trained on the wrong labels")
    assert done["text"] == f"v4 {reason}"
    assert ReleaseStore(ledger, "pumps").get("v4").barred == reason
    assert ReleaseStore(ledger, "pumps").barred_pins() == {"pins4": ("v4", reason)}
    assert "already barred" in said(capsys, "withdraw", "v4", "--why", "again", code=1)["message"]
    lifted = said(capsys, "lift", "4" * 8)
    assert (lifted["release"], lifted["was"]) == ("v4", reason)
    assert ReleaseStore(ledger, "pumps").get("v4").barred is None
    assert "v4 is not barred" in said(capsys, "lift", "v4", code=1)["message"]
    assert execute(["release", "withdraw", "v4", "--why", "no"]) == 0
    told = capsys.readouterr()
    assert (told.out.count("v4 withdrawn by"), told.err) == (1, "")  # once, on a terminal too
    assert execute(["release", "lift", "v4"]) == 0
    events = {(e.kind, e.subject) for e in ledger.events.newest("pumps") if e.kind.startswith("release.")}
    assert sorted(events) == [("release.lifted", "v4"), ("release.withdrawn", "v4")]


@pytest.mark.parametrize(
    ("version", "message", "hint"),
    [
        ("v1", "v1 serves staging", "noria rollback --environment staging"),
        ("v2", "v2 is being rolled out to production", "noria rollout abort --environment production"),
        ("v3", "v3 is being rolled out to production", "noria rollout abort --environment production"),
    ],
)
def test_one_that_serves_or_is_on_its_way_is_refused(ledger: Ledger, capsys: Any, version: str, message: str, hint: str) -> None:
    error = said(capsys, "withdraw", version, "--why", "no", code=1)
    assert error["message"] == message
    assert hint in error["hint"]
    assert ReleaseStore(ledger, "pumps").get(version).barred is None
    assert [e for e in ledger.events.newest("pumps") if e.kind.startswith("release.")] == []


def test_what_is_not_known_or_not_said(ledger: Ledger, capsys: Any) -> None:
    assert "there is no release v8" in said(capsys, "withdraw", "v8", "--why", "no", code=2)["message"]
    assert "there is no release v8" in said(capsys, "lift", "v8", code=2)["message"]
    assert "needs a reason" in said(capsys, "withdraw", "v4", "--why", " ", code=2)["message"]
