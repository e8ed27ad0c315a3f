"""What a judge says: an outcome and its reasons, each with its numbers."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    PASS = "pass"  # noqa: S105 - no password: every requirement holds
    FAIL = "fail"  # at least one requirement is shown not to hold
    NOT_ENOUGH_DATA = "not enough data"  # the evidence decides neither way


class Reason(msgspec.Struct, frozen=True):
    """One sentence for people, and the code and numbers behind it for programs."""

    code: str  # stable, dotted: "gate.threshold", "step.code_changed", "contract.range"
    text: str  # one sentence with its numbers
    outcome: Outcome = Outcome.PASS
    numbers: dict[str, float] = {}
    remedy: str = ""  # what would change the verdict: "about 2,300 more labelled rows"


class GateVerdict(msgspec.Struct, frozen=True):
    """What came of one gate."""

    gate: str  # as the project writes it
    metric: str
    outcome: str
    value: float | None  # what the gate looked at; None where it could not be measured
    text: str


class Verdict(msgspec.Struct, frozen=True):
    """The outcome of a judge; ``reasons`` are in the order a person should read them."""

    outcome: Outcome
    reasons: tuple[Reason, ...] = ()

    @property
    def passed(self) -> bool:
        return self.outcome is Outcome.PASS

    def sentence(self) -> str:
        """The reasons that decided, joined: those that share the verdict's outcome."""
        deciding = [r.text for r in self.reasons if r.outcome is self.outcome] or [r.text for r in self.reasons]
        return "; ".join(deciding) if deciding else str(self.outcome)


def combine(reasons: tuple[Reason, ...]) -> Verdict:
    """One verdict from many reasons: any FAIL fails; else any NOT_ENOUGH_DATA; else PASS."""
    outcomes = {r.outcome for r in reasons}
    for outcome in (Outcome.FAIL, Outcome.NOT_ENOUGH_DATA):
        if outcome in outcomes:
            return Verdict(outcome, reasons)
    return Verdict(Outcome.PASS, reasons)
