"""Which breaches start a turn."""

from __future__ import annotations

import pytest

from noria.kernel.policy import RetrainPolicy
from noria.kernel.trigger import TriggerKind
from noria.monitor.judge_retraining import Breach, RetrainDecision, decide

SUNK = Breach("quality", "v3", "brier 0.210, worse beyond chance")
MOVED = Breach("drift", "v3", "distance drifted")
BOTH = RetrainPolicy(on=("quality", "drift"))
PACED = RetrainPolicy(on=("quality",), at_most_count=1, at_most_period_s=86400.0)

CASES = [
    ("quality", RetrainPolicy(), (SUNK,), (), RetrainDecision(TriggerKind.BREACH, f"v3: {SUNK.text}")),
    ("drift is off by default", RetrainPolicy(), (MOVED,), (),
     RetrainDecision(None, f"v3: {MOVED.text}; no new turn: retrain.on is code, data, quality, without drift")),
    ("only what is on is named", RetrainPolicy(), (MOVED, SUNK), (), RetrainDecision(TriggerKind.BREACH, f"v3: {SUNK.text}")),
    ("both", BOTH, (SUNK, MOVED), (), RetrainDecision(TriggerKind.BREACH, f"v3: {SUNK.text}; v3: {MOVED.text}")),
    ("one sentence said twice", BOTH, (SUNK, SUNK), (), RetrainDecision(TriggerKind.BREACH, f"v3: {SUNK.text}")),
    ("nothing", BOTH, (), (), RetrainDecision(None, "no breach: no new turn is needed")),
    ("all off", RetrainPolicy(on=("code",)), (SUNK, MOVED), (),
     RetrainDecision(None, f"v3: {SUNK.text}; v3: {MOVED.text}; no new turn: retrain.on is code, without drift, quality")),
    ("free again", PACED, (SUNK,), (1_000_000.0 - 86_400.0,), RetrainDecision(TriggerKind.BREACH, f"v3: {SUNK.text}")),
    ("at most", PACED, (SUNK,), (1_000_000.0 - 3_600.0,), RetrainDecision(None,
     f"v3: {SUNK.text}; no new turn yet: 1 turn started within 1 d, and retrain.at_most allows 1: the next may start in 23 h",
          1_000_000.0 + 23 * 3_600.0)),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "breaches", "starts", "wish"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_decide(policy: RetrainPolicy, breaches: tuple[Breach, ...], starts: tuple[float, ...], wish: RetrainDecision) -> None:
    assert decide(policy, breaches, starts, 1_000_000.0) == wish
