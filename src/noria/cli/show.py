"""`noria show REF`: shows everything recorded of a release, a run, a turn or a delivery."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from noria.cli import story
from noria.cli.context import Home, pass_home
from noria.cli.output import emit, json_option, plain
from noria.cli.step_log import log_tail
from noria.data import versions
from noria.data.kept_versions import erased_files
from noria.data.quarantine_store import QuarantineStore
from noria.delivery.rollout_record import Rollout
from noria.delivery.rollout_store import RolloutStore
from noria.evaluation.judge_compare import summary
from noria.evaluation.records import sort_gated_first
from noria.evaluation.store import EvaluationStore
from noria.kernel.errors import NotFoundError, UsageError
from noria.monitor.store import QualityStore
from noria.pipeline.run import Run, StepState
from noria.pipeline.run_store import RunStore
from noria.pipeline.series_store import SeriesStore
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import Turn
from noria.pipeline.turn_store import TurnStore
from noria.releases.decision_store import DecisionStore
from noria.releases.release import Release
from noria.releases.store import ReleaseStore
from noria.serving.route_store import RouteStore
from noria.serving.tallies import total
from noria.storage.blobs import BlobStore
from noria.views.status import delivery_facts, release_facts, turn_facts
from noria.views.turn_reference import find_turn

if TYPE_CHECKING:
    from noria.storage.blobs import BlobStore
    from noria.storage.ledger import Ledger

EVIDENCE = ("evaluation", "gate", "parity", "environment", "params", "data", "training", "steps", "reference", "origin")
LATEST = "latest"
SHOWN = 10_000  # rollouts and windows of a release, newest first


@click.command()
@click.argument("ref")
@click.option("--log", "step", metavar="STEP", help="Print only the whole log of this step of the run.")
@json_option
@pass_home
def command(home: Home, ref: str, step: str | None, as_json: bool) -> None:
    """Show everything recorded of a release, run, turn or delivery.

    REF is a release (v3, or the beginning of its digest), the id of a run or of a search's trial or the beginning of it, `latest`
    (the latest run), a turn's number or id, or a delivery's id.

    \b
    Example:  noria show v3
              noria show 12
              noria show 12 --log train
              noria show v3 --json | jq .gate

    JSON keys of a release: kind, release, decisions [{kind, asked, actor, why, text}: what a person had to accept], serves, turn,
    run, triggers, evaluation, gate, parity, environment, params, data, training, steps, reference, origin (of an imported one:
    file, sha256, by, at, framework), rollouts, quality, missing [what the bundle does not hold], not_reproducible (why: what was
    erased; null when nothing was).
    Of a run: kind, run, turn, triggers, evaluation and gate (null where no candidate was measured), series {step: {metric:
    {points, last, least, most}}}, logs {step: its last lines}; of `latest`, ended_early: a later turn that ended without a run.
    Of the others: kind, and turn, run, triggers, evaluation, gate, rollouts, series and logs, or delivery and decision (of a
    person: outcome, actor, why, at, delivery, accepted_as; or null). With --log: run, step, log.
    """
    with closing(home.existing_ledger()) as ledger:
        document = find(home, ledger, home.project_name(), ref)
        in_order(document, home.gated())
        if step is not None:
            return show_log(home, document.get("run"), ref, step, as_json)
    return emit(as_json, document, lambda: story.tell(document))


def in_order(document: dict[str, Any], gated: Sequence[str]) -> None:
    """What gates ask for stands first among the metrics."""
    for facts in (document.get("evaluation"), document.get("run"), document.get("release")):
        if isinstance(facts, dict) and isinstance(facts.get("metrics"), dict):
            facts["metrics"] = {name: facts["metrics"][name] for name in sort_gated_first(facts["metrics"], gated)}
        if isinstance(facts, dict) and facts.get("serving"):
            values = facts["serving"]["metrics"]
            facts["serving"] = facts["serving"] | {"metrics": {name: values[name] for name in sort_gated_first(values, gated)}}


def show_log(home: Home, run: dict[str, Any] | None, ref: str, step: str, as_json: bool) -> None:
    """The log of one step, whole. Raises UsageError where there is no such run or step, NotFoundError where there is no log."""
    if run is None:
        raise UsageError(f"{ref} has no run, and so no logs")
    known = {s["name"]: s for s in run["steps"]}
    if step not in known:
        raise UsageError(f"run {run['id']} has no step {step}", hint=f"Steps: {', '.join(known) or 'none'}.")
    if known[step]["log"] is None:
        state, reason = known[step]["state"], known[step]["reason"]["text"]  # of one that ran: why it had to
        why = "it printed nothing" if state == StepState.RAN else f"{state}, {reason}"
        raise NotFoundError(f"step {step} wrote no log in this run: {why}")
    text = _blobs(home.state).read(known[step]["log"]).decode(errors="replace")
    emit(as_json, {"run": run["id"], "step": step, "log": text}, lambda: plain(text, lines=True))


def find(home: Home, ledger: Ledger, project: str, ref: str) -> dict[str, Any]:
    """The document about ``ref``; raises NotFoundError."""
    turn = find_turn(ledger, project, ref)
    if turn is not None:
        return of_turn(home.state, ledger, project, turn)
    if ref == LATEST:
        newest = RunStore(ledger, project).list(1)
        if not newest:
            raise NotFoundError("there is no run yet", hint="`noria run` runs a first turn.")
        early = TurnStore(ledger, project).ended_early()
        return of_run(home.state, ledger, project, newest[0]) | {"ended_early": turn_facts(early) if early else None}
    if ref.startswith(("run-", "trial-")):
        return of_run(home.state, ledger, project, RunStore(ledger, project).find(ref))
    if ref.startswith("delivery-"):
        return of_delivery(QuarantineStore(ledger, project), ref)
    return of_release(home.state, ledger, project, ReleaseStore(ledger, project).get(ref))


def _run(ledger: Ledger, project: str, run_id: str | None) -> Run | None:
    try:
        return RunStore(ledger, project).find(run_id) if run_id else None
    except NotFoundError:
        return None  # of another store, or collected


def of_release(state: Path, ledger: Ledger, project: str, release: Release) -> dict[str, Any]:
    """Everything that is recorded about a release."""
    evidence = read_evidence(state / "releases" / release.digest)
    turn = TurnStore(ledger, project).find(release.turn_id) if release.turn_id else None
    run = _run(ledger, project, release.run_id)
    rollouts = [rollout_facts(r) for r in RolloutStore(ledger, project).list(SHOWN, digest=release.digest)]
    windows = [msgspec.to_builtins(w) for w in QualityStore(ledger, project).windows(SHOWN, release=release.version)]
    return {
        "kind": "release",
        "release": release_facts(release),
        "decisions": [
            msgspec.to_builtins(one) | {"text": one.words} for one in DecisionStore(ledger, project).of_release(release.version)
        ],
        "serves": [r.environment for r in RouteStore(ledger, project).all() if r.champion == release.digest],
        "turn": turn_facts(turn) if turn else None,
        "triggers": _triggers(ledger, turn),
        "run": msgspec.to_builtins(run) if run else None,
        **evidence,
        "rollouts": rollouts,
        "quality": windows,
        "missing": [name for name in EVIDENCE if evidence[name] is None and name != "origin"],
        "not_reproducible": _erasure_reason(state, ledger, project, run.pins.snapshots if run else {}),
    }


def _erasure_reason(state: Path, ledger: Ledger, project: str, snapshots: dict[str, str]) -> str | None:
    """Why a release cannot be made again; None when nothing that it was made of was erased."""
    if not erased_files(ledger):
        return None

    return versions.erasure_words(ledger, _blobs(state), project, snapshots) or None


def read_evidence(bundle: Path) -> dict[str, Any]:
    """Each piece of evidence; None where the bundle does not hold it."""
    return {name: _read(bundle / "evidence" / f"{name}.json") for name in EVIDENCE}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None  # erased or torn: `show` says so, `noria doctor` and `reproduce` judge it


def of_turn(state: Path, ledger: Ledger, project: str, turn: Turn) -> dict[str, Any]:
    """A turn, what set it off, its run and its rollouts."""
    run = _run(ledger, project, turn.run_id)
    return {
        "kind": "turn",
        "turn": turn_facts(turn),
        "triggers": _triggers(ledger, turn),
        "run": msgspec.to_builtins(run) if run else None,
        **_evaluation_facts(ledger, turn),
        "rollouts": [rollout_facts(r) for r in RolloutStore(ledger, project).list(SHOWN, turn_id=turn.id)],
        **(_series_and_logs(state, ledger, run) if run else {}),
    }


def of_run(state: Path, ledger: Ledger, project: str, run: Run) -> dict[str, Any]:
    """A run, the turn it belongs to, and what its steps left."""
    turn = TurnStore(ledger, project).find(run.turn_id) if run.turn_id else None
    facts = {"run": msgspec.to_builtins(run), "turn": turn_facts(turn) if turn else None, "triggers": _triggers(ledger, turn)}
    return {"kind": "run", **facts, **_evaluation_facts(ledger, turn), **_series_and_logs(state, ledger, run)}


def _evaluation_facts(ledger: Ledger, turn: Turn | None) -> dict[str, Any]:
    """The evaluation of the turn's candidate, and its gates, whether it was released or not; None where none was measured."""
    nothing: dict[str, Any] = {"evaluation": None, "gate": None}
    found = EvaluationStore(ledger, turn.project).of_turn(turn.id) if turn else None
    return found.facts() if found is not None else nothing


def _series_and_logs(state: Path, ledger: Ledger, run: Run) -> dict[str, Any]:
    """The series that the steps logged, in short, and how their logs end."""
    series = {
        step: {name: msgspec.to_builtins(found) for name, points in of_step.items() if (found := summary(points)) is not None}
        for step, of_step in SeriesStore(ledger, run.project).of_run(run.id).items()
    }
    blobs = _blobs(state)
    return {"series": series, "logs": {r.name: tail for r in run.steps if (tail := log_tail(blobs, r))}}


def _blobs(state: Path) -> BlobStore:
    return BlobStore(state / "blobs")


def of_delivery(store: QuarantineStore, reference: str) -> dict[str, Any]:
    """A file as it arrived, what became of it, and what a person decided of it or of the delivery that it was released from."""
    delivery = store.delivery(reference)
    decision = store.decision(delivery.id) or next((d for d in store.decisions() if d.accepted_as == delivery.id), None)
    decided = None if decision is None else msgspec.to_builtins(decision)
    return {"kind": "delivery", "delivery": delivery_facts(delivery), "decision": decided}


def _triggers(ledger: Ledger, turn: Turn | None) -> list[dict[str, Any]]:
    return (
        [msgspec.to_builtins(t) | {"kind": str(t.kind)} for t in TriggerStore(ledger, turn.project).of_turn(turn.id)]
        if turn
        else []
    )


def rollout_facts(rollout: Rollout) -> dict[str, Any]:
    """A rollout with every look's counts, and their totals."""
    blocks = [msgspec.to_builtins(block) for block in rollout.blocks]
    totals = {
        "champion": msgspec.to_builtins(total(b.champion for b in rollout.blocks)),
        "candidate": msgspec.to_builtins(total(b.candidate for b in rollout.blocks)),
    }
    facts: dict[str, Any] = msgspec.to_builtins(rollout)
    return facts | {"state": str(rollout.state), "blocks": blocks, "totals": totals}
