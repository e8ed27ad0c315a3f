"""Judges whether the inputs drifted from the training profile.

A column has drifted when its stability index lies above the limit, and above what chance gives for a reference and a window of
these sizes, and above what windows did in the training data itself. So a small reference widens the mark by its own error, and a
column that follows the calendar is compared with windows that do so too.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from noria.kernel.verdict import Outcome, Reason, Verdict, combine
from noria.kernel.words import lasting, plural
from noria.stats import profile
from noria.stats.profile_records import Profile, Wander

FALSE_ALARM = 0.001  # per window, of any column, where nothing changed
BEYOND = 1.5  # times the farthest window of the training


class DriftRuling(msgspec.Struct, frozen=True):
    """``scores``: population stability index by column, less what chance alone would give; ``worst``: its largest; ``left_out``:
    why a column whose index lies above the limit is not called drifted."""

    verdict: Verdict
    scores: dict[str, float] = {}
    worst: str = ""
    left_out: dict[str, str] = {}


def judge(
    reference: Profile,
    current: Profile,
    limit: float,
    min_rows: int = 200,
    *,
    every_s: float = 0.0,
    calendar: Mapping[str, str] | None = None,
) -> DriftRuling:
    """Fails when any column's index exceeds ``limit`` (0.25 is the customary mark of a large shift) and what else may explain it.

    ``every_s`` is the window's length. ``calendar``: columns that are a part of the row's own date or time, and which ("the
    weekday"): what a window holds of them is decided by when it is.
    """
    scores = profile.distances(reference, current)
    missing = profile.missing(reference, current)
    if current.rows < min_rows or not scores:
        text = f"inputs: {current.rows:,} rows are too few; {min_rows:,} are needed" if scores else "inputs: no column to compare"
        reason = Reason("drift.too_few", text, Outcome.NOT_ENOUGH_DATA, {"rows": current.rows})
        return DriftRuling(combine((reason,)), scores, max(scores, key=scores.__getitem__, default=""))
    ranked = sorted(scores, key=scores.__getitem__, reverse=True)
    like = alike(reference, every_s)
    gone = {name for name, score in missing.items() if score > limit}  # a feed that broke off, whatever else the column does
    above = {
        name: "" if name in gone else _excuse(reference, like, name, scores, current.rows, calendar or {})
        for name in ranked
        if scores[name] > limit
    }
    drifted = tuple(_reason(name, scores[name], limit, current.rows) for name, excuse in above.items() if not excuse)
    left_out = {name: excuse for name, excuse in above.items() if excuse}
    judged = [name for name in ranked if name not in left_out]
    worst = judged[0] if judged else ranked[0]
    steady = _steady(worst, scores[worst], limit, current.rows, left_out)
    return DriftRuling(combine(drifted or (steady,)), scores, worst, left_out)


def alike(reference: Profile, every_s: float) -> Wander | None:
    """The training's own windows that are most like those of this length: the longest that are no longer. Shorter ones wander
    more, so that they excuse more, never less."""
    fitting = [wander for wander in reference.wander if wander.every_s <= every_s]
    return max(fitting, key=lambda wander: wander.every_s, default=None)


def mark(like: Wander, name: str, columns: int) -> float:
    """How far a window of a column may lie from the training where windows of the training themselves wandered so far.

    Where the means of windows are normal the index of one, over the mean index of W others, is distributed as F with 1 and W
    degrees of freedom at the longest; a column that jumps on a few days (a holiday) is held by the farthest of its windows.
    """
    from scipy.special import fdtri  # heavy: kept out of start-up

    if name not in like.mean:
        return 0.0
    times = float(fdtri(1, like.windows, 1 - FALSE_ALARM / columns))
    return max(times * like.mean[name], BEYOND * like.most[name])


def _excuse(
    reference: Profile, like: Wander | None, name: str, scores: Mapping[str, float], rows: int, calendar: Mapping[str, str]
) -> str:
    """Why a column that lies above the limit has not drifted; empty when it has."""
    score = scores[name]
    if like is None and name in calendar:
        return f"{name} is {calendar[name]}"
    if like is not None and score <= mark(like, name, len(scores)):
        far = like.most[name]
        return f"{name} moves by up to {far:.2g} between windows of {lasting(like.every_s)} of its own training"
    if score <= profile.chance(reference.columns[name], rows, FALSE_ALARM / len(scores)):
        return f"{name} differs as {reference.columns[name].rows:,} training rows and {rows:,} of the window do by chance"
    return ""


def _reason(name: str, score: float, limit: float, rows: int) -> Reason:
    text = f"{name} drifted: stability index {score:.3f} over {plural(rows, 'row')}, at most {limit:g} is allowed"
    return Reason("drift.column", text, Outcome.FAIL, {"score": score, "limit": limit, "rows": rows})


def _steady(name: str, score: float, limit: float, rows: int, left_out: Mapping[str, str]) -> Reason:
    text = (
        f"no input drifted: the largest stability index is {score:.3f} ({name}) over {rows:,} rows, at most {limit:g} is allowed"
    )
    text += "".join(f"; {excuse}" for excuse in left_out.values())
    return Reason("drift.steady", text, Outcome.PASS, {"score": score, "limit": limit, "rows": rows})
