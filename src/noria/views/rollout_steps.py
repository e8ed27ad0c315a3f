"""A rollout at a glance: its steps, and its evidence as bars."""

from __future__ import annotations

import math
import re

import msgspec
from markupsafe import Markup

from noria.delivery.rollout_record import Analysis, GuardStatus, Rollout, RolloutState, evidence_words
from noria.kernel.words import percent

MARK = 80.0  # where a bar's needed evidence lies, in percent of its width: there is room to see what goes beyond
TONES = {  # what a state means to the eye
    RolloutState.WAITING: "quiet",
    RolloutState.REPLAY: "busy",
    RolloutState.CANARY: "busy",
    RolloutState.HELD: "warn",
    RolloutState.PROBATION: "good",
    RolloutState.PROMOTED: "good",
    RolloutState.ROLLED_BACK: "bad",
    RolloutState.SUPERSEDED: "quiet",
}


class PlanStep(msgspec.Struct, frozen=True):
    words: str  # 10 % of traffic
    where: str  # done, here, next


def plan(rollout: Rollout) -> tuple[PlanStep, ...]:
    """Returns the rollout's steps in order; replay and probation are shown as steps while the rollout is in them."""
    state = (rollout.resumes or rollout.state) if rollout.state is RolloutState.HELD else rollout.state
    if state is RolloutState.PROBATION:
        return (*(PlanStep(words, "done") for words in rollout.plan), PlanStep("probation", "here"))
    if state is RolloutState.REPLAY:
        return (PlanStep("replay", "here"), *(PlanStep(words, "next") for words in rollout.plan))
    here = -1 if state is RolloutState.WAITING else rollout.step
    return tuple(PlanStep(words, _where(index, here)) for index, words in enumerate(rollout.plan))


def _where(index: int, here: int) -> str:
    if index == here:
        return "here"
    return "done" if index < here else "next"


def headline(rollout: Rollout) -> str:
    """Says in one sentence why the rollout is where it is. What the guards say is left out: they are shown below."""
    if rollout.look is None:
        return rollout.reason
    said = [] if rollout.state is RolloutState.HELD else [_without_guards(rollout.look.text, rollout.look)]
    return next(filter(None, [*said, _without_guards(rollout.reason, rollout.look)]), rollout.reason)


def _without_guards(text: str, look: Analysis) -> str:
    """``paused for 5 min more`` of ``paused for 5 min more; errors: 7 of ...; for safety 3 of 10, for harm 1 of 400``."""
    for stand in look.stands:
        evidence = r"(?:for safety \S+ of \S+ for harm \S+ of [^\s;:]+|evidence \S+ needed [^\s;:]+)"
        text = re.sub(rf"(?:; |(?<=: )|^){re.escape(stand.guard)}: [^;]*; {evidence}", "", text)
    return re.sub(r":(?: [;:])+", ":", text).strip(" ;:")  # where a sentence stood behind a colon, the next one does


def guard_summary(stands: tuple[GuardStatus, ...]) -> str:
    """``1 of 3 guards is cleared``; ``errors does harm``."""
    harmful = [stand.guard for stand in stands if stand.harmful]
    if harmful:
        return f"harm shown by {', '.join(harmful)}"
    count = sum(stand.cleared for stand in stands)
    noun = "guard" if len(stands) == 1 else "guards"
    return f"{count} of {len(stands)} {noun} cleared" if count < len(stands) else f"all {len(stands)} {noun} cleared"


def traffic(rollout: Rollout, share: float, shadow: float) -> str:
    """``25 % of requests, both score 20 %``: what it answers, and what is scored beside that."""
    if rollout.state is RolloutState.PROBATION:
        return f"all requests, {rollout.before} scores {percent(shadow)} too" if shadow else "all requests"
    if share:
        both = f", both score {percent(shadow)}" if shadow else ""
        return f"{percent(share)} of requests{both}"
    return f"no answers, scores {percent(shadow)} of requests" if shadow else "no traffic yet"


def reach(evidence: float, needed: float) -> float:
    """The length of a bar in percent of its width, on a log scale: 0 for no evidence, ``MARK`` for enough."""
    if needed <= 1:
        return 100.0 if evidence >= needed else 0.0
    if evidence <= 1:
        return 0.0
    return round(min(100.0, MARK * math.log(evidence) / math.log(needed)), 1)


def bar(kind: str, evidence: float, needed: float) -> Markup:
    """Draws an SVG bar of evidence (safe, harm) beside what is needed."""
    return Markup(
        '<svg class="evidence {}" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label="{} {} of {}">'
        '<rect class="rest" width="100" height="6"/><rect class="fill" width="{}" height="6"/>'
        '<rect class="mark" x="{}" width="1.2" height="6"/></svg>'
    ).format(kind, kind, evidence_words(evidence), evidence_words(needed), reach(evidence, needed), MARK)


def codes(text: str) -> Markup:
    """Text in which `commands` stand between backticks, as HTML."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one that is not closed
        return Markup("{}").format(text)
    around = (Markup("{}"), Markup("<code>{}</code>"))
    marked = (around[index % 2].format(part) for index, part in enumerate(parts))
    return Markup("").join(marked)
