"""`noria show REF`: the whole story of a release, a run, a turn or a delivery."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from noria.cli import story
from noria.cli.context import Home, pass_home
from noria.cli.output import emit, json_option
from noria.console.view import delivery_facts, release_facts, total, turn_facts
from noria.domain.data import Delivery
from noria.domain.release import Release
from noria.domain.rollout import Rollout
from noria.domain.run import Run
from noria.domain.turn import Turn
from noria.errors import NotFoundError

if TYPE_CHECKING:
    from noria.store.ledger import Ledger

EVIDENCE = ("evaluation", "gate", "parity", "environment", "params", "data", "training", "steps", "reference")
SEARCHED = 10_000  # turns, runs or deliveries looked through, newest first


@click.command()
@click.argument("ref")
@json_option
@pass_home
def command(home: Home, ref: str, as_json: bool) -> None:
    """Tell the whole story of a release, run, turn or delivery.

    REF is a release (v3, or the beginning of its digest), a run's id, a turn's number or id, or a delivery's id.

    \b
    Example:  noria show v3
              noria show 12
              noria show v3 --json | jq .gate

    JSON keys of a release: kind, release, serves, turn, run, triggers, evaluation, gate, parity, environment, params, data,
    training, steps, reference, rollouts, quality, missing [what the bundle does not hold].
    Of the others: kind, and turn, run, triggers, rollouts or delivery.
    """
    with closing(home.existing_ledger()) as ledger:
        document = find(home, ledger, home.project_name(), ref)
    emit(as_json, document, lambda: story.tell(document))


def find(home: Home, ledger: Ledger, project: str, ref: str) -> dict[str, Any]:
    """The document about ``ref``; raises NotFoundError."""
    if ref.isdigit() or ref.startswith("turn-"):
        return of_turn(ledger, project, _turn(ledger, project, ref))
    if ref.startswith("run-"):
        return of_run(ledger, project, _pick(ledger.runs.list(project, SEARCHED), "run", ref))
    if ref.startswith("delivery-"):
        return of_delivery(_pick(ledger.data.deliveries(project, SEARCHED), "delivery", ref))
    return of_release(home.state, ledger, project, ledger.releases.get(project, ref))


def _turn(ledger: Ledger, project: str, ref: str) -> Turn:
    for turn in ledger.turns.list(project, SEARCHED):
        if ref in (str(turn.number), turn.id):
            return turn
    raise NotFoundError(f"there is no turn {ref}", hint="`noria runs` lists the turns.")


def _pick(things: list[Any], noun: str, ref: str) -> Any:
    found = next((thing for thing in things if thing.id == ref), None)
    if found is None:
        raise NotFoundError(f"there is no {noun} {ref}", hint="`noria runs` and `noria status` list what there is.")
    return found


def of_release(state: Path, ledger: Ledger, project: str, release: Release) -> dict[str, Any]:
    """Everything that is recorded about a release."""
    evidence = read_evidence(state / "releases" / release.digest)
    turn = next((t for t in ledger.turns.list(project, SEARCHED) if t.id == release.turn_id), None)
    run = next((r for r in ledger.runs.list(project, SEARCHED) if r.id == release.run_id), None)
    rollouts = [rollout_facts(r) for r in ledger.rollouts.list(project, SEARCHED) if r.digest == release.digest]
    windows = [asdict(w) for w in ledger.quality.windows(project, SEARCHED) if w.release == release.version]
    return {
        "kind": "release",
        "release": release_facts(release),
        "serves": [r.environment for r in ledger.routes.all() if r.project == project and r.champion == release.digest],
        "turn": turn_facts(turn) if turn else None,
        "triggers": _triggers(ledger, turn),
        "run": asdict(run) if run else None,
        **evidence,
        "rollouts": rollouts,
        "quality": windows,
        "missing": [name for name in EVIDENCE if evidence[name] is None],
    }


def read_evidence(bundle: Path) -> dict[str, Any]:
    """Each piece of evidence; None where the bundle does not hold it."""
    return {name: _read(bundle / "evidence" / f"{name}.json") for name in EVIDENCE}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None  # erased or torn: `show` says so, `noria doctor` and `reproduce` judge it


def of_turn(ledger: Ledger, project: str, turn: Turn) -> dict[str, Any]:
    """A turn, what set it off, its run and its rollouts."""
    run = next((r for r in ledger.runs.list(project, SEARCHED) if r.id == turn.run_id), None)
    return {
        "kind": "turn",
        "turn": turn_facts(turn),
        "triggers": _triggers(ledger, turn),
        "run": asdict(run) if run else None,
        "rollouts": [rollout_facts(r) for r in ledger.rollouts.list(project, SEARCHED) if r.turn_id == turn.id],
    }


def of_run(ledger: Ledger, project: str, run: Run) -> dict[str, Any]:
    """A run, and the turn it belongs to."""
    turn = next((t for t in ledger.turns.list(project, SEARCHED) if t.id == run.turn_id), None)
    return {"kind": "run", "run": asdict(run), "turn": turn_facts(turn) if turn else None, "triggers": _triggers(ledger, turn)}


def of_delivery(delivery: Delivery) -> dict[str, Any]:
    """A file as it arrived, and what became of it."""
    return {"kind": "delivery", "delivery": delivery_facts(delivery)}


def _triggers(ledger: Ledger, turn: Turn | None) -> list[dict[str, Any]]:
    return [asdict(t) | {"kind": str(t.kind)} for t in ledger.triggers.of_turn(turn.id)] if turn else []


def rollout_facts(rollout: Rollout) -> dict[str, Any]:
    """A rollout with every look's counts, and their totals."""
    blocks = [asdict(block) for block in rollout.blocks]
    totals = {
        "champion": asdict(total([b.champion for b in rollout.blocks])),
        "candidate": asdict(total([b.candidate for b in rollout.blocks])),
    }
    return asdict(rollout) | {"state": str(rollout.state), "blocks": blocks, "totals": totals}
