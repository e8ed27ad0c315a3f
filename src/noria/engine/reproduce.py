"""Rebuild a release from what was recorded, with every step cache off, in a new folder, and compare."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from noria import config
from noria.adapters import environment, git
from noria.adapters.executors.local import LocalExecutor
from noria.domain.data import Snapshot
from noria.domain.evaluation import Evaluation
from noria.domain.release import Form, Release
from noria.domain.run import Pins
from noria.domain.turn import Turn
from noria.errors import RefusedError
from noria.stages.bundle import verify
from noria.stages.evaluate import evaluate
from noria.stages.line import Line, Sheet
from noria.stages.package import model_file, package
from noria.stages.pin import repository
from noria.stages.places import Places
from noria.stages.train import train
from noria.store.blobs import BlobStore
from noria.store.ledger import Ledger
from noria.store.locks import Locks

TOLERANCE = 1e-6  # absolute, on metrics between 0 and 1, when bytes differ


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What came out. ``agrees`` is bytes, or metrics within TOLERANCE; ``text`` says which."""

    release: str
    agrees: bool
    bytes_agree: bool
    metrics_agree: bool
    worst_difference: float
    environment: tuple[str, ...]  # differences to the recorded one; empty when equal
    folder: str
    text: str


def reproduce(line: Line, release: Release, folder: Path) -> Reproduction:
    """Raises RefusedError when ``folder`` is not empty, CorruptBlobError when recorded data was damaged."""
    if folder.exists() and any(folder.iterdir()):
        raise RefusedError(f"{folder} is not empty", hint="Name a new folder: noria reproduce v1 --into FOLDER")
    bundle = line.bundle(release.digest)
    manifest = verify(line, release)
    pins = msgspec.convert(manifest["pins"], Pins)
    fresh = _fresh_line(line, pins, folder)
    sheet = _sheet(line, fresh, pins, release)
    made = package(fresh, sheet, train(fresh, sheet))
    measured, _ = evaluate(fresh, sheet, made, None)
    recorded = msgspec.json.decode((bundle / "evidence" / "evaluation.json").read_bytes(), type=Evaluation)
    then = msgspec.json.decode((bundle / "evidence" / "environment.json").read_bytes())
    same = manifest["files"][model_file(release.form)] == made.model and made.form is release.form
    return _compare(release, recorded, measured, same, made.form, environment.differences(then, sheet.environment), folder)


def _fresh_line(line: Line, pins: Pins, folder: Path) -> Line:
    """A line with a store of its own; the pinned data is copied in, verified."""
    state = folder / ".noria"
    ledger = Ledger.open(state)
    ledger.projects.ensure(line.name, str(folder))
    blobs = BlobStore(state / "blobs")
    for digest in pins.snapshots.values():
        snapshot: Snapshot = line.ledger.data.snapshot(digest)
        for pin in snapshot.files:
            blobs.put_file(line.blobs.path(pin.digest))
        ledger.data.put_snapshot(line.name, snapshot)
    places = Places(line.name, folder, state, ledger, blobs)
    return replace(
        line,
        home=folder,
        state=state,
        ledger=ledger,
        blobs=blobs,
        places=places,
        locks=Locks(state / "locks"),
        executor=executor_in(line, places),
        reuse=False,
        check_lease=lambda: None,
    )


def executor_in(line: Line, places: Places) -> LocalExecutor:
    """The line's processes, at work in other folders."""
    assert isinstance(line.executor, LocalExecutor), "a reproduction runs on this machine"
    return LocalExecutor(line.executor.pool, places)


def _sheet(line: Line, fresh: Line, pins: Pins, release: Release) -> Sheet:
    assert pins.commit is not None, "a release always has a commit"
    tree = git.worktree(repository(line), pins.commit, fresh.places.tree(f"commit:{pins.commit}"))
    turn = Turn("reproduce", line.name, 0, (), f"reproduce {release.version}", release.created_at)
    return Sheet(turn, "reproduce", config.load(tree), tree, pins.commit, None, environment.record(), pins=pins)


def _compare(
    release: Release,
    recorded: Evaluation,
    measured: Evaluation,
    same: bool,
    form: Form,
    differences: list[str],
    folder: Path,
) -> Reproduction:
    worst = max((abs(recorded.metrics[m].value - measured.metrics[m].value) for m in recorded.metrics), default=0.0)
    close = worst <= TOLERANCE
    if same:
        text = f"{release.version} reproduced: the {form} model is the same, byte for byte, and every metric agrees"
    elif close:
        within = f"within {TOLERANCE:g} (worst {worst:.1e})"
        text = f"{release.version} reproduced: the model's bytes differ, every metric agrees {within}"
    else:
        text = f"{release.version} not reproduced: a metric differs by {worst:.4f}, more than {TOLERANCE:g}"
    text += "; same environment" if not differences else f"; the environment differs: {', '.join(differences[:5])}"
    return Reproduction(release.version, close, same, close, worst, tuple(differences), str(folder), text)
