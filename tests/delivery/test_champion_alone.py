"""One route of the champion alone: the server's, when a candidate crashes, and the one that the end of a rollout leaves."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from noria.delivery import rollout as stage
from noria.serving.environment import fit
from noria.serving.route import Route
from noria.serving.worker_pool import WorkerPlan
from noria.storage.ledger import Ledger

TRIED = Route(
    "p",
    "production",
    7,
    "a" * 64,
    "v1",
    candidate="b" * 64,
    candidate_version="v2",
    share=0.25,
    previous="c" * 64,
    previous_version="v0",
    rollout_id="rollout-1",
    slow_ms=80.0,
    deadline_ms=500.0,
    shadow=0.1,
    sticky=True,
)
ALONE = Route("p", "production", 7, "a" * 64, "v1", previous="c" * 64, previous_version="v0", slow_ms=80.0, deadline_ms=500.0)


def test_a_server_and_the_engine_make_the_same_route_of_a_champion_alone(tmp_path: Path) -> None:
    crashing = cast(Any, SimpleNamespace(deaths=SimpleNamespace(is_unfit=lambda route: True)))
    assert fit(crashing, WorkerPlan((TRIED,), {})).routes == (ALONE,)
    with closing(Ledger.open(tmp_path)) as nobody_on_probation:
        assert stage._alone(cast(Any, SimpleNamespace(name="p", ledger=nobody_on_probation)), TRIED) == ALONE
    assert TRIED.without_candidate() == ALONE
