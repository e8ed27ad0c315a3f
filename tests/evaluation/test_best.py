"""Which release is the best so far: what the newest was compared with on the same rows, or the newest itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.evaluation.evaluate import best_so_far
from noria.releases.release import ServedForm
from noria.releases.store import ReleaseStore
from noria.storage.ledger import Ledger


class Context:
    """As much of one as is asked: releases and their bundles."""

    name = "p"

    def __init__(self, state: Path) -> None:
        self.state = state
        self.ledger = Ledger.open(state / "ledger")

    def bundle(self, digest: str) -> Path:
        return self.state / digest

    def seal(self, version: str, evaluation: dict[str, Any] | None, barred: str | None = None) -> None:
        releases = ReleaseStore(self.ledger, self.name)
        made = releases.seal(version * 3, "run-1", None, ServedForm.COMPILED, None, {}, version)
        assert made.version == version
        if barred is not None:
            releases.bar(version, barred)
        if evaluation is not None:
            folder = self.bundle(made.digest) / "evidence"
            folder.mkdir(parents=True)
            (folder / "evaluation.json").write_text(json.dumps(evaluation))

    def best(self, *metrics: str) -> str | None:
        found = best_so_far(self, metrics or ("roc_auc",))  # type: ignore[arg-type]  # as much of a context as is asked
        return found.version if found else None


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    made = Context(tmp_path)
    yield made
    made.ledger.close()


def against(best: str | None, difference: float | None, metric: str = "roc_auc", champion: str | None = None) -> dict[str, Any]:
    found = {} if difference is None else {metric: {"difference": difference}}
    if best is None:
        return {"champion": champion, "versus": found}
    return {"champion": champion, "versus": {}, "best": best, "versus_best": found}


def test_many_small_steps_down_keep_the_best(context: Context) -> None:
    """Number 30."""
    assert context.best() is None
    context.seal("v1", {"champion": None})
    assert context.best() == "v1"
    context.seal("v2", against(None, -0.005, champion="v1"))  # before there was a best
    assert context.best() == "v1"
    context.seal("v3", against("v1", -0.008, champion="v2"))
    assert context.best() == "v1"
    context.seal("v4", against("v1", 0.003, champion="v3"))
    assert context.best() == "v4"
    context.seal("v5", against("v4", -0.001, champion="v4"))
    assert context.best() == "v4"


def test_a_loss_is_better_when_it_is_smaller(context: Context) -> None:
    context.seal("v1", {"champion": None})
    context.seal("v2", against(None, -0.5, "mae", "v1"))
    assert context.best("mae") == "v2"
    assert context.best() == "v2"  # not compared by this metric: the newest


def test_what_is_barred_or_gone_is_not_the_best(context: Context) -> None:
    context.seal("v1", {"champion": None}, barred="it did harm")
    context.seal("v2", against(None, -0.02, champion="v1"))
    context.seal("v3", against("v2", 0.02, champion="v2"), barred="rolled back")
    context.seal("v4", None)  # its bundle is not on this machine
    assert context.best() == "v2"


def test_nothing_is_looked_up_where_no_gate_asks(context: Context) -> None:
    context.seal("v1", {"champion": None})
    assert best_so_far(context, ()) is None  # type: ignore[arg-type]  # as much of a context as is asked
