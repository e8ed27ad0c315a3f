"""A rollout's look reads noria.yaml when it has changed, not each time."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from noria.config import loading
from noria.delivery.rollout_controller import RolloutController
from noria.delivery.rollout_record import Rollout, RolloutState

POLICY = "project: p\nenvironments: {production: {rollout: {steps: [50%%, 100%%]}, freeze: [%s]}}\n"


def test_looks_read_the_project_file_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed, home, reads = tmp_path / "sealed", tmp_path / "home", list[Path]()
    real = loading._read
    monkeypatch.setattr(loading, "_read", lambda place, *more: (reads.append(place), real(place, *more))[1])
    put(sealed / "code", "")
    put(home, "fri 16:00 .. mon 08:00")
    rollout = Rollout("rollout-1", "p", "production", None, "v2", "b" * 64, RolloutState.CANARY, 0, 0.0)
    controller = RolloutController(cast(Any, SimpleNamespace(home=home, bundle=lambda digest: sealed)))
    for _ in range(30):
        _, environment = controller._policy(rollout)
        assert [freeze.text for freeze in environment.freeze] == ["fri 16:00 .. mon 08:00"]
    assert reads == [sealed / "code", home]
    put(home, "sat 00:00 .. mon 00:00")
    _, environment = controller._policy(rollout)
    assert [freeze.text for freeze in environment.freeze] == ["sat 00:00 .. mon 00:00"]
    assert reads == [sealed / "code", home, home]


def put(folder: Path, freeze: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "noria.yaml").write_text(POLICY % freeze)
    at = 1000.0 + len(freeze)  # a while ago: a file of this moment is not trusted to stay
    os.utime(folder / "noria.yaml", (at, at))
