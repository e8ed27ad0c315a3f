"""What a candidate that failed a gate lacks: by how much its metric would have to be better."""

from __future__ import annotations

import math
from collections.abc import Mapping

from noria.kernel.policy import Gate
from noria.kernel.words import number


def shortfall_words(gate: Gate, numbers: Mapping[str, float]) -> str:
    """``a roc_auc about 0.0996 higher, if its bounds stay as wide``, from a reason's numbers; empty where they do not say."""
    place = "margin" if gate.champion else "threshold"
    asked, reached = numbers.get(place, math.nan), numbers.get(_judged_by(gate), math.nan)
    gap = asked - reached if gate.at_least else reached - asked
    if not math.isfinite(gap) or gap <= 0:
        return ""
    if gate.gap:
        return f"slices of {gate.by} whose {gate.metric} differs by {number(gap)} less"
    where = f" in the slice of {gate.by} that is worst" if gate.by is not None else ""
    shown = "" if _judged_by(gate) == "value" else ", if its bounds stay as wide"
    about = "" if _judged_by(gate) == "value" else "about "
    return f"{gate.metric} {about}{number(gap)} {'higher' if gate.at_least else 'lower'}{where}{shown}"


def _judged_by(gate: Gate) -> str:
    """The number that has to reach what is asked: the value, or the bound that a gate goes by."""
    if gate.no_worse:
        return "high" if gate.at_least else "low"
    if gate.champion or gate.bound:
        return "low" if gate.at_least else "high"
    return "value"
