"""What a report of an evaluation says, in the order in which a person reads it."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from noria.evaluation.judge_compare import RunDifference
from noria.evaluation.records import HoldoutBudget
from noria.kernel.verdict import Outcome
from noria.stats.curve_records import EvaluationCurves
from noria.stats.measures import Measure


class ReportGate(msgspec.Struct, frozen=True):
    """One gate: what it asks for, what came of it, and what would change that."""

    code: str  # of its reason: "gate.threshold"
    gate: str  # as the project writes it; empty of a reason that concerns the whole holdout, or where there are no gates
    metric: str
    outcome: Outcome
    text: str  # with its numbers
    value: float | None
    numbers: dict[str, float]
    remedy: str  # "about 2,300 more labelled rows"; empty where nothing is to be done


class ReportMetric(msgspec.Struct, frozen=True):
    """A metric of the candidate, and the champion's on the same rows. ``difference`` is candidate - champion; every bound is a
    one-sided 95 % one. ``verdict``: better, worse, no clear difference, the same, or empty without a comparison."""

    name: str
    candidate: Measure
    champion: float | None
    difference: float | None
    low: float | None
    high: float | None
    verdict: str
    greater_is_better: bool | None
    gated: bool


class ReportSlice(msgspec.Struct, frozen=True):
    """Rows of one value of a column. ``behind``: by how much the metric is worse there than on all rows (negative: better);
    ``shown_behind``: by how much at least, going by the slice's bound; 0 where its bound reaches the whole."""

    column: str
    value: str
    metric: str
    measure: Measure
    behind: float
    shown_behind: float


class ReportBehaviour(msgspec.Struct, frozen=True):
    """One behaviour that the project states, and what came of it."""

    name: str
    says: str  # what the project states
    outcome: Outcome
    rows: int
    failing: int
    allow: float  # the share that may
    text: str
    examples: tuple[str, ...]  # held-out rows by their place; the step's log has their inputs


class ReportData(msgspec.Struct, frozen=True):
    """A dataset that the candidate was made of; None: its snapshot is no longer recorded."""

    dataset: str
    digest: str
    files: int | None
    rows: int | None


class ReportFact(msgspec.Struct, frozen=True):
    name: str
    value: str


class Report(msgspec.Struct, frozen=True):
    """Everything that was measured and judged of one candidate."""

    project: str
    name: str  # v8; the candidate of turn 7; run-...
    outcome: Outcome | None  # None: the turn was interrupted before its gates
    headline: str  # the verdict in one sentence
    why: tuple[str, ...]  # the reasons that decided
    remedies: tuple[str, ...]  # what would change the verdict
    afterwards: str  # what became of the candidate
    decisions: tuple[str, ...]  # what a person had to accept about the release, and who did
    gates: tuple[ReportGate, ...]
    champion: str | None  # v7
    champion_note: str  # why there is no comparison, where a champion exists
    environment: str  # whose champion it was compared with
    changes: RunDifference | None  # from the champion's run to the candidate's
    changes_note: str  # why there are none
    metrics: tuple[ReportMetric, ...]
    curves: EvaluationCurves | None
    curves_note: str  # why there are none
    slices: tuple[ReportSlice, ...]  # by harm
    data: tuple[ReportData, ...]
    holdout: str  # "last 14 days: 2013-08-18 to 2013-09-01, 12,899 rows"
    rows: int
    positives: int
    latency_p50_ms: float
    latency_p99_ms: float
    latency_rounds_ms: tuple[float, ...]
    model_size_mb: float
    remarks: tuple[str, ...]
    unmeasured: dict[str, str]  # metric -> why it has no value here
    step_metrics: dict[str, float]  # STEP.METRIC, where a gate asks for one
    lineage: tuple[ReportFact, ...]
    at: float  # wall clock, of the verdict
    ref: str  # how `noria report` finds it
    looks: HoldoutBudget | None = None  # None: looks at the holdout were not counted yet
    behaviours: tuple[ReportBehaviour, ...] = ()

    def document(self) -> dict[str, Any]:
        """As JSON holds it: what could not be measured is null."""
        cleaned: dict[str, Any] = finite(msgspec.to_builtins(self))
        return cleaned


def finite(value: Any) -> Any:
    """Plain values without a number that JSON cannot hold: null stands in its place."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: finite(v) for name, v in value.items()}
    return [finite(v) for v in value] if isinstance(value, list | tuple) else value
