"""The holdout is a budget: how many verdicts these rows have given already, and what the next one must show therefore.

Whoever sees a verdict chooses the next candidate by it. After k verdicts of pass or not there are 2**k histories, so that the
next candidate may be any of 2**k (the fully adaptive scenario of Renggli et al., *Continuous integration of machine learning
models with ease.ml/ci*, MLSys 2019, section 3). Look k + 1 is judged at

    alpha / ((k + 1) * (k + 2) * 2**k)

where alpha is what the gate's own confidence leaves. Over all looks and histories these sum to alpha: with each gate, the chance
that these rows ever release a candidate that does not reach the gate is at most alpha, in whatever way verdicts steer the user.

An earlier verdict counts by the share of today's rows that it saw: a window that half overlaps has told half of it. A gate that
asks for proof is charged (a comparison with a margin, or a threshold with ``at 95%``). A threshold on the bare value claims no
confidence, and ``no worse than`` asks for proof of harm: more doubt would weaken it. Both stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from noria.evaluation import judge_gate
from noria.evaluation.records import HoldoutBudget, HoldoutRows
from noria.kernel.policy import Gate
from noria.kernel.verdict import Outcome, Reason
from noria.kernel.words import number, percent
from noria.releases.evidence import Evaluation
from noria.stats import row_sketch

SPENT = "gate.holdout_spent"


def count(now: HoldoutRows, earlier: Sequence[HoldoutRows], budget: int | None) -> HoldoutBudget:
    """Counts the looks at the rows of ``now``. ``earlier``: what was looked at before, oldest first.

    The same candidate on the same rows tells nothing new: it gets the count that it had.
    """
    before = next((place for place, look in enumerate(earlier) if _is_same(now, look)), None)
    others = earlier[:before]
    looks = 1.0 + sum(_share_seen(now, [look]) for look in others)
    alike = [[look for look in others if look.keyed is keyed] for keyed in (True, False)]
    fresh = 1.0 - max(_share_seen(now, looks_alike) for looks_alike in alike)
    return HoldoutBudget(looks, budget, now.rows, round(fresh * now.rows), before is not None)


def level(alpha: float, looks: float) -> float:
    """The chance of a false pass that one gate may take at this look."""
    before = looks - 1.0
    return alpha / ((before + 1) * (before + 2) * math.pow(2.0, before))


def judge(gates: Sequence[Gate], evaluation: Evaluation, holdout: HoldoutBudget | None) -> tuple[Reason, ...]:
    """The gates' reasons, one for each, and where a budget is set one more: how much of it is used."""
    found = judge_gate.judge(gates, evaluation).reasons
    if holdout is None or holdout.budget is None:
        return found
    if gates and not holdout.spent:
        found = tuple(_charge(gate, reason, evaluation, holdout) for gate, reason in zip(gates, found, strict=True))
    return (*found, _budget_reason(holdout))


def charged(gate: Gate) -> bool:
    """Whether a gate asks for proof that the candidate reaches it."""
    return gate.bound or (gate.champion and not gate.no_worse)


def _charge(gate: Gate, reason: Reason, evaluation: Evaluation, holdout: HoldoutBudget) -> Reason:
    """A gate that passes by its own confidence must pass by that of this look, too."""
    if not charged(gate) or reason.outcome is not Outcome.PASS or "low" not in reason.numbers:
        return reason
    asked = 1.0 - level(1.0 - gate.confidence, holdout.looks)
    (strict,) = judge_gate.judge([replace(gate, confidence=asked)], evaluation).reasons
    if strict.outcome is Outcome.PASS:
        return strict
    text = f"{strict.text}; it passes at {percent(gate.confidence)}, and look {number(round(holdout.looks, 1))} at these rows"
    return replace(strict, outcome=Outcome.NOT_ENOUGH_DATA, text=f"{text} asks for {percent(asked)}")


def _budget_reason(holdout: HoldoutBudget) -> Reason:
    assert holdout.budget is not None
    numbers = {"looks": holdout.looks, "budget": float(holdout.budget), "rows": float(holdout.rows)}
    numbers["fresh_rows"] = float(holdout.fresh_rows)
    if not holdout.spent:
        return Reason("gate.holdout", holdout.words, Outcome.PASS, numbers)
    text = f"the holdout is spent: {holdout.words}; `model.holdout.budget` allows {holdout.budget}"
    return Reason(SPENT, text, Outcome.NOT_ENOUGH_DATA, numbers, _fresh_rows_words(holdout))


def _fresh_rows_words(holdout: HoldoutBudget) -> str:
    """How many fresh rows make room for one more look, where the old ones stay in the holdout."""
    assert holdout.budget is not None
    if holdout.budget == 1:
        return "held-out rows that no verdict saw before: all of them must be fresh"
    wanted = math.ceil(holdout.rows * ((holdout.looks - 1) / (holdout.budget - 1) - 1) * 1.001)
    return f"about {max(1, wanted):,} more held-out rows that no verdict saw before: bring newly labelled data"


def _is_same(now: HoldoutRows, look: HoldoutRows) -> bool:
    return (now.candidate, now.rows, now.beside(look)) == (look.candidate, look.rows, look.smallest)


def _share_seen(now: HoldoutRows, looks: Sequence[HoldoutRows]) -> float:
    """The share of the rows of ``now`` that looks saw whose hashes are made in one way."""
    if not looks:
        return 0.0
    return row_sketch.share_within(_hashes(now.beside(looks[0])), [_hashes(look.smallest) for look in looks])


def _hashes(smallest: Sequence[int]) -> row_sketch.Hashes:
    return np.array(smallest, dtype=np.uint64)
