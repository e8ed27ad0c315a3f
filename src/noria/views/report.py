"""Report: gathers everything that is recorded of one evaluated candidate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from noria.config.gate import read_gate
from noria.evaluation import judge_behaviours
from noria.evaluation.judge_compare import ComparedSide, RunDifference
from noria.evaluation.judge_shortfall import shortfall_words
from noria.evaluation.records import Assessment, sort_gated_first
from noria.evaluation.store import EvaluationStore, read_evaluation
from noria.kernel import names
from noria.kernel.errors import ConfigError, NotFoundError
from noria.kernel.tasks import find_metric
from noria.kernel.verdict import GateVerdict, Outcome, Reason
from noria.kernel.words import moment, plural
from noria.pipeline.run import RunKind
from noria.pipeline.turn_record import Turn
from noria.pipeline.turn_store import TurnStore
from noria.releases.decision_store import DecisionStore
from noria.releases.evidence import Evaluation
from noria.releases.store import ReleaseStore
from noria.stats.curve_records import EvaluationCurves
from noria.stats.measures import Comparison
from noria.views import comparison
from noria.views.comparison import Archive, NamedRun
from noria.views.report_records import Report, ReportBehaviour, ReportData, ReportFact, ReportGate, ReportMetric, ReportSlice
from noria.views.turn_reference import find_turn

NO_CURVES = "curves were not recorded: this candidate was evaluated before Noria kept them"
ORDER = {Outcome.FAIL: 0, Outcome.NOT_ENOUGH_DATA: 1, Outcome.PASS: 2}


class Assessed(msgspec.Struct, frozen=True):
    """A run whose candidate was evaluated."""

    named: NamedRun
    assessment: Assessment
    curves: EvaluationCurves | None


def read_report(archive: Archive, ref: str | None) -> Report:
    """The report of what ``ref`` names (v8, a turn, a run, an environment, ``latest``); without one, of the newest evaluation.

    Raises NotFoundError, which says how a turn ended that evaluated no candidate.
    """
    found = find_assessed(archive, ref)
    side = comparison.side(archive, found.named)
    assessment, turn = found.assessment, _turn(archive, found.named)
    evaluation = assessment.evaluation
    name = _candidate_name(found.named, turn)
    changes, note = _changes(archive, replace(found.named, name=name), evaluation)
    gates = tuple(_gates(assessment))
    return Report(
        project=archive.project,
        name=name,
        outcome=assessment.outcome,
        headline=_headline(name, assessment, gates),
        why=tuple(gate.text for gate in gates if gate.outcome is assessment.outcome) if gates else (),
        remedies=tuple(dict.fromkeys(gate.remedy for gate in gates if gate.remedy and gate.outcome is not Outcome.PASS)),
        afterwards=_afterwards(turn),
        decisions=tuple(_decisions(archive, found.named)),
        gates=gates,
        champion=evaluation.champion,
        champion_note=evaluation.champion_note,
        environment=assessment.environment,
        changes=changes,
        changes_note=note,
        metrics=tuple(_metrics(evaluation, [gate.metric for gate in gates])),
        curves=found.curves,
        curves_note="" if found.curves is not None else NO_CURVES,
        slices=tuple(sorted(_slices(evaluation), key=lambda s: (-s.shown_behind, -s.behind))),
        data=tuple(_data(side)),
        holdout=evaluation.holdout,
        rows=evaluation.rows,
        positives=evaluation.positives,
        latency_p50_ms=evaluation.latency_p50_ms,
        latency_p99_ms=evaluation.latency_p99_ms,
        latency_rounds_ms=evaluation.latency_rounds_ms,
        model_size_mb=evaluation.model_size_mb,
        remarks=evaluation.remarks,
        unmeasured=evaluation.unmeasured,
        step_metrics=evaluation.step_metrics,
        lineage=tuple(ReportFact(*fact) for fact in _lineage(archive, found.named, side, turn, assessment)),
        at=assessment.at,
        ref=found.named.release.version if found.named.release else str(turn.number) if turn else found.named.run.id,
        looks=assessment.holdout,
        behaviours=tuple(_behaviours(evaluation)),
    )


# --- finding


def find_assessed(archive: Archive, ref: str | None) -> Assessed:
    """Raises NotFoundError where nothing is named so, or its candidate was never evaluated."""
    store = EvaluationStore(archive.ledger, archive.project)
    if ref is None:
        newest = store.newest()
        if newest is None:
            raise NotFoundError("no candidate has been evaluated yet", hint="`noria run` runs a turn.")
        ref = newest.run_id or newest.turn_id
    turn = find_turn(archive.ledger, archive.project, ref)
    if turn is not None and turn.run_id is None:
        raise _not_evaluated(f"turn {turn.number}", turn, ref)
    named = comparison.find(archive, ref)
    turn = _turn(archive, named)
    found = store.of_turn(turn.id) if turn is not None else store.of_run(named.run.id)
    if found is not None:
        return Assessed(named, found, store.curves(found.turn_id))
    sealed = _sealed_assessment(archive, named)
    if sealed is None:
        raise _not_evaluated(named.name, turn, ref, named)
    return Assessed(named, sealed, comparison.sealed_evidence(archive, named, "curves", EvaluationCurves))


def _turn(archive: Archive, named: NamedRun) -> Turn | None:
    return TurnStore(archive.ledger, archive.project).find(named.run.turn_id) if named.run.turn_id else None


def _not_evaluated(name: str, turn: Turn | None, ref: str, named: NamedRun | None = None) -> NotFoundError:
    hint = f"`noria show {ref}` shows all that is recorded of it."
    if named is not None and named.release is not None and named.release.imported:
        return NotFoundError(f"{name} was imported: no gate judged it, so there is no report", hint=hint)
    if named is not None and named.run.kind is not RunKind.TURN:
        text = f"{name} is of {_article(named.run.kind)}: it has metrics, but was not evaluated beside the champion"
        return NotFoundError(text, hint="`noria diff` compares it with what serves.")
    if turn is None:
        return NotFoundError(f"of {name} no evaluation is recorded", hint=hint)
    ended = f"it ended before ({turn.outcome}{f': {turn.reason}' if turn.reason else ''})"
    if turn.ended_at is None:
        ended = f"it has reached the stage {turn.stage}"
    return NotFoundError(f"turn {turn.number} has evaluated no candidate: {ended}", hint=hint)


def _article(kind: RunKind) -> str:
    return "an experiment" if kind is RunKind.EXPERIMENT else "a search's trial"


def _sealed_assessment(archive: Archive, named: NamedRun) -> Assessment | None:
    """From the evidence of a release whose turn is not in this ledger."""
    evaluation = comparison.sealed_evidence(archive, named, "evaluation")
    gate = comparison.sealed_evidence(archive, named, "gate")
    if evaluation is None or gate is None or named.release is None:
        return None
    return Assessment(
        turn_id="",
        project=archive.project,
        run_id=named.run.id,
        environment="",
        evaluation=read_evaluation(evaluation),
        outcome=Outcome(gate["outcome"]),
        reasons=tuple(msgspec.convert(reason, Reason, strict=False) for reason in gate["reasons"]),
        at=named.release.created_at,
    )


# --- the verdict


def _candidate_name(named: NamedRun, turn: Turn | None) -> str:
    if named.release is not None:
        return named.release.version
    return f"the candidate of turn {turn.number}" if turn is not None else named.run.id


def _gates(assessment: Assessment) -> Iterator[ReportGate]:
    """What failed first, then what is undecided; each in the project's order."""
    listed: list[GateVerdict | None] = [*assessment.gates, *[None] * (len(assessment.reasons) - len(assessment.gates))]
    found = [_gate(gate, reason) for gate, reason in zip(listed, assessment.reasons, strict=False)]
    yield from sorted(found, key=lambda gate: ORDER[gate.outcome])


def _gate(gate: GateVerdict | None, reason: Reason) -> ReportGate:
    value = gate.value if gate is not None else reason.numbers.get("value")
    written, metric = (gate.gate, gate.metric) if gate is not None else ("", "")
    remedy = reason.remedy or (_shortfall(written, reason) if reason.outcome is Outcome.FAIL else "")
    return ReportGate(reason.code, written, metric, reason.outcome, reason.text, value, reason.numbers, remedy)


def _shortfall(written: str, reason: Reason) -> str:
    try:
        return shortfall_words(read_gate(written), reason.numbers)
    except ConfigError:
        return ""  # as an older Noria wrote gates


def _headline(name: str, assessment: Assessment, gates: Sequence[ReportGate]) -> str:
    start = name[0].upper() + name[1:] if not names.VERSION.fullmatch(name) else name
    if assessment.outcome is None:
        return f"{start} was measured, and its turn was interrupted before the gates."
    if all(gate.code == "gate.none" for gate in gates):
        return f"{start} passed: no gates are set."
    deciding = [gate for gate in gates if gate.outcome is assessment.outcome]
    many, against = len(assessment.gates) or len(gates), _against(assessment.evaluation)
    behaviours = len(assessment.evaluation.behaviours)
    if assessment.outcome is Outcome.PASS:
        behaved = f" and {plural(behaviours, 'behaviour')}" if behaviours else ""
        return f"{start} passed {'its gate' if many == 1 else f'all {many} gates'}{behaved}{against}."
    short = sum(bool(gate.gate) or not assessment.gates for gate in deciding)
    broken = sum(gate.code == "gate.behaviour" for gate in deciding)
    if not short and not broken:  # every gate holds: what decided concerns the holdout as a whole
        return f"{start} is not judged: {deciding[0].text}."
    counted = [_of_all(short, many, "gate")] if short else []
    counted += [_of_all(broken, behaviours, "behaviour")] if broken else []
    of_all = " and ".join(counted)
    if assessment.outcome is Outcome.FAIL:
        return f"{start} failed {of_all}{against}."
    return f"There is not enough data to judge {name}: {of_all} {'is' if short + broken == 1 else 'are'} undecided."


def _of_all(count: int, many: int, noun: str) -> str:
    return f"its only {noun}" if many == 1 else f"{count} of {plural(many, noun)}"


def _against(evaluation: Evaluation) -> str:
    if evaluation.champion is None:
        return "; nothing serves yet that it could be compared with"
    return f", beside {evaluation.champion} on the same {plural(evaluation.rows, 'row')}" if evaluation.versus else ""


def _afterwards(turn: Turn | None) -> str:
    if turn is None:
        return ""
    release = f", {turn.release}" if turn.release else ""
    return f"Turn {turn.number}: {turn.outcome}{release}." + (f" {turn.reason}" if turn.release and turn.reason else "")


def _decisions(archive: Archive, named: NamedRun) -> Iterator[str]:
    if named.release is not None:
        for decision in DecisionStore(archive.ledger, archive.project).of_release(named.release.version):
            yield decision.words


# --- what was measured


def _metrics(evaluation: Evaluation, gated: Sequence[str]) -> Iterator[ReportMetric]:
    for name in sort_gated_first(evaluation.metrics, gated):
        metric = find_metric(name)
        greater = metric.greater_is_better if metric is not None else None
        measure, versus = evaluation.metrics[name], evaluation.versus.get(name)
        if versus is None or not math.isfinite(versus.difference):
            yield ReportMetric(name, measure, None, None, None, None, "", greater, name in gated)
            continue
        told = (versus.champion, versus.difference, versus.low, versus.high)
        yield ReportMetric(name, measure, *told, _verdict(versus, greater), greater, name in gated)


def _verdict(versus: Comparison, greater_is_better: bool | None) -> str:
    if not (math.isfinite(versus.low) and math.isfinite(versus.high)):
        return ""
    if versus.low <= 0 <= versus.high:
        return "no clear difference" if versus.difference else "the same"
    if greater_is_better is None:
        return "higher" if versus.low > 0 else "lower"
    return "better" if (versus.low > 0) == greater_is_better else "worse"


def _slices(evaluation: Evaluation) -> Iterator[ReportSlice]:
    for column, values in evaluation.slices.items():
        for value, metrics in values.items():
            for metric, measure in metrics.items():
                whole, known = evaluation.metrics.get(metric), find_metric(metric)
                if whole is None or known is None or not math.isfinite(measure.value):
                    yield ReportSlice(column, value, metric, measure, 0.0, 0.0)
                    continue
                sign = 1 if known.greater_is_better else -1
                best = measure.high if known.greater_is_better else measure.low
                shown = max(0.0, sign * (whole.value - best)) if math.isfinite(best) else 0.0
                yield ReportSlice(column, value, metric, measure, sign * (whole.value - measure.value), shown)


def _behaviours(evaluation: Evaluation) -> Iterator[ReportBehaviour]:
    for one in evaluation.behaviours:
        found = judge_behaviours.outcome(one)
        yield ReportBehaviour(one.name, one.words, found, one.rows, one.failing, one.allow, one.sentence, one.examples)


# --- what it was made of


def _changes(archive: Archive, named: NamedRun, evaluation: Evaluation) -> tuple[RunDifference | None, str]:
    if evaluation.champion is None:
        return None, "there was no champion to compare it with"
    try:
        release = ReleaseStore(archive.ledger, archive.project).get(evaluation.champion)
        before = comparison.find(archive, release.version)
    except NotFoundError as error:
        return None, f"{evaluation.champion} is no longer recorded: {error.message}"
    return comparison.difference(archive, before, named), ""


def _data(side: ComparedSide) -> Iterator[ReportData]:
    for name, digest in side.run.pins.snapshots.items():
        snapshot = side.snapshots.get(name)
        yield ReportData(name, digest, len(snapshot.files) if snapshot else None, snapshot.rows if snapshot else None)


def _lineage(
    archive: Archive, named: NamedRun, side: ComparedSide, turn: Turn | None, assessment: Assessment
) -> Iterator[tuple[str, str]]:
    run, release = named.run, named.release
    if release is not None:
        yield "release", f"{release.version}, {release.form}, digest {release.digest}"
    decision = (comparison.sealed_evidence(archive, named, "training") or {}).get("decision")
    if decision:  # where wrong calls have a price
        yield "decision", decision["sentence"]
    yield "run", run.id
    if turn is not None:
        yield "turn", f"{turn.number}; {turn.trigger}"
    yield "evaluated", moment(assessment.at)
    changes = f", with uncommitted changes {names.short(run.pins.dirty)}" if run.pins.dirty else ""
    yield "commit", f"{run.pins.commit or 'none'}{changes}"
    yield "parameters", f"digest {run.pins.params}"
    yield "configuration", f"digest {run.pins.config}"
    yield "environment", f"{_environment_words(side.environment)}digest {run.pins.environment}"


def _environment_words(record: Any) -> str:
    if not isinstance(record, dict):
        return ""
    packages = record.get("packages")
    told = [f"Noria {record['noria']}"] if "noria" in record else []
    told += [f"Python {record['python']}"] if "python" in record else []
    told += [str(record[name]) for name in ("system", "machine") if name in record]
    told += [plural(len(packages), "package")] if isinstance(packages, dict) else []
    return "".join(f"{part}, " for part in told)
