"""Do the inputs still look like the ones the release was trained on?"""

from __future__ import annotations

from dataclasses import dataclass, field

from noria.domain.profile import Profile
from noria.domain.verdict import Outcome, Reason, Verdict, combine
from noria.stats import profile


@dataclass(frozen=True, slots=True)
class DriftRuling:
    """``scores``: population stability index by column, less what chance alone would give; ``worst``: its largest."""

    verdict: Verdict
    scores: dict[str, float] = field(default_factory=dict)
    worst: str = ""


def judge(reference: Profile, current: Profile, limit: float, min_rows: int = 200) -> DriftRuling:
    """Fails when any column's index exceeds ``limit`` (0.25 is the customary mark of a large shift)."""
    scores = profile.distances(reference, current)
    if current.rows < min_rows or not scores:
        text = f"inputs: {current.rows:,} rows are too few; {min_rows:,} are needed" if scores else "inputs: no column to compare"
        reason = Reason("drift.too_few", text, Outcome.NOT_ENOUGH_DATA, {"rows": current.rows})
        return DriftRuling(combine((reason,)), scores, max(scores, key=scores.__getitem__, default=""))
    ranked = sorted(scores, key=scores.__getitem__, reverse=True)
    drifted = tuple(_reason(name, scores[name], limit, current.rows) for name in ranked if scores[name] > limit)
    return DriftRuling(combine(drifted or (_steady(ranked[0], scores[ranked[0]], limit, current.rows),)), scores, ranked[0])


def _reason(name: str, score: float, limit: float, rows: int) -> Reason:
    text = f"{name} drifted: stability index {score:.3f} over {rows:,} rows, at most {limit:g} is allowed"
    return Reason("drift.column", text, Outcome.FAIL, {"score": score, "limit": limit, "rows": rows})


def _steady(name: str, score: float, limit: float, rows: int) -> Reason:
    text = (
        f"inputs are steady: the largest stability index is {score:.3f} ({name}) over {rows:,} rows, at most {limit:g} is allowed"
    )
    return Reason("drift.steady", text, Outcome.PASS, {"score": score, "limit": limit, "rows": rows})
