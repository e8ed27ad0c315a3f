"""Rebuilds a release from its record in a new folder, without cached steps, and compares.

What is compared: the bytes that each step leaves, the model, the metrics (``agreement``), the environment.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from noria import config
from noria.config import Project
from noria.data.snapshot import Snapshot
from noria.data.store import DataStore
from noria.data.table import TableType
from noria.delivery.context import DeliveryContext
from noria.delivery.driver import Embedded
from noria.delivery.private_server import private_server
from noria.evaluation.evaluate import evaluate
from noria.kernel.errors import NoriaError, RefusedError
from noria.kernel.words import plural, size
from noria.pipeline import environment, git, interpreters
from noria.pipeline.context import PinnedRun
from noria.pipeline.executors.local import LocalExecutor
from noria.pipeline.executors.pool import Pool
from noria.pipeline.model_facts import SEED
from noria.pipeline.places import Places
from noria.pipeline.source_code import imported_modules
from noria.pipeline.train import train
from noria.pipeline.turn_record import Turn
from noria.releases import agreement, export, export_reader
from noria.releases.agreement import Divergence, MetricAgreement, StepAgreement
from noria.releases.bundle import CODE, Bundle, stored_bundle
from noria.releases.evidence import Evaluation
from noria.releases.packaging import model_file, package
from noria.releases.release import Release
from noria.serving.client import Server
from noria.storage.blobs import BlobStore
from noria.storage.context import Progress
from noria.storage.ledger import Ledger
from noria.storage.listed_archive import ExportMeter, damage_error
from noria.storage.locks import Locks

NAMED = 5  # differences that the sentence names
TOLERANCE = 1e-6  # absolute, of metrics, when the model's bytes differ


class ReproduceOptions(msgspec.Struct, frozen=True):
    """How to reproduce. ``rebuild``: in the recorded environment, made anew; False: in this one; None: in this one, and say
    when another would matter."""

    tolerance: float = TOLERANCE
    rebuild: bool | None = None


_AS_IT_COMES = ReproduceOptions()


class Reproduction(msgspec.Struct, frozen=True):
    """The result. ``agrees``: every metric is within ``tolerance``; ``bytes_agree``: the model is the same, byte for byte."""

    release: str
    agrees: bool
    bytes_agree: bool
    metrics_agree: bool
    worst_difference: float
    tolerance: float
    metrics: dict[str, MetricAgreement]
    steps: tuple[StepAgreement, ...]
    divergence: Divergence | None
    environment: tuple[str, ...]  # differences to the recorded one; empty when equal
    interpreter: str  # in which the steps ran
    lock: tuple[str, ...]  # packages of the record in other versions than the commit's lock file says
    seed: int
    key: str  # the public key of an export, as hex; empty for a release of the own store
    folder: str
    text: str


class _Recipe(msgspec.Struct, frozen=True):
    """What a release was made of, in a store of its own."""

    release: Release
    bundle: Bundle
    context: DeliveryContext  # of the new store
    outputs: BlobStore  # where the original results of the steps may still be
    key: str = ""


def reproduce(context: DeliveryContext, release: Release, folder: Path, asked: ReproduceOptions = _AS_IT_COMES) -> Reproduction:
    """Reproduces a release of this project's store in ``folder``.

    Raises RefusedError when ``folder`` is not empty or data was erased, CorruptBlobError when it was damaged.
    """
    _demand_recorded(release)
    _demand_empty(folder)
    bundle = stored_bundle(context.state, release)
    state = folder / ".noria"
    blobs = BlobStore(state / "blobs")
    snapshots = []
    for snapshot, files in export.data_of(context, release, bundle.pins):
        meter = ExportMeter(f"copying {snapshot.dataset}", sum(pin.size_bytes for pin, _ in files), context.progress)
        for pin, path in files:
            if blobs.put_file(path) != pin.digest:
                raise damage_error(f"{pin.name} of {snapshot.dataset}", path)
            meter.add(pin.size_bytes)
        snapshots.append(snapshot)
    fresh = _fresh_line(release, state, snapshots, blobs, context.progress)
    recipe = _Recipe(release, bundle, fresh, context.blobs)
    return _make_and_compare(recipe, folder, context.state / "interpreters", asked)


def reproduce_file(path: Path, folder: Path, keys: Collection[str], asked: ReproduceOptions, progress: Progress) -> Reproduction:
    """Reproduces an exported release in ``folder``, without its store or project.

    Raises as ``export_reader.unpack``, and RefusedError when the file was exported without its data.
    """
    _demand_empty(folder)
    unpacked = export_reader.unpack(path, folder / ".noria", keys, progress)
    facts = unpacked.facts
    _demand_recorded(facts.release)
    if facts.left_out:
        absent = ", ".join(f"{name} ({plural(a.files, 'file')}, {size(a.size_bytes)})" for name, a in facts.left_out.items())
        raise RefusedError(
            f"{facts.release.version} was exported without its data: {absent}",
            where=path.name,
            hint="Export it again without --without-data, where its store is.",
        )
    progress(f"{facts.release.version} of {facts.release.project}, signed with {facts.key}; its code now runs as you")
    state = folder / ".noria"
    fresh = _fresh_line(facts.release, state, unpacked.snapshots, unpacked.blobs, progress)
    recipe = _Recipe(facts.release, unpacked.bundle, fresh, unpacked.blobs, facts.key)
    return _make_and_compare(recipe, folder, state / "interpreters", asked)


def _demand_recorded(release: Release) -> None:
    if release.imported:
        hint = f"`noria show {release.version}` shows the file it came from."
        raise RefusedError(f"{release.version} was imported: nobody recorded how its model was made", hint=hint)


def _demand_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RefusedError(f"{folder} is not empty", hint="Name a new folder: noria reproduce v1 --into FOLDER")


def _fresh_line(
    release: Release, state: Path, snapshots: Sequence[Snapshot], blobs: BlobStore, progress: Progress
) -> DeliveryContext:
    """Builds a delivery line with a separate store that holds only the pinned data. Its home is the sealed tree."""
    home = state / "worktrees" / _commit(release)
    ledger = Ledger.open(state)
    ledger.projects.ensure(release.project, str(home))
    for snapshot in snapshots:
        DataStore(ledger, release.project).put_snapshot(snapshot)
    places = Places(release.project, home, state, ledger, blobs)
    return DeliveryContext(
        name=release.project,
        home=home,
        state=state,
        ledger=ledger,
        blobs=blobs,
        executor=LocalExecutor(Pool(size=1), places),
        places=places,
        locks=Locks(state / "locks"),
        server=(server := Server(state)),
        driver=Embedded(server),
        reuse=False,
        progress=progress,
    )


def _commit(release: Release) -> str:
    assert release.commit is not None, "a release always has a commit"
    return release.commit


def _make_and_compare(recipe: _Recipe, folder: Path, root: Path, asked: ReproduceOptions) -> Reproduction:
    """Builds the model again in the requested environment, and compares."""
    project = _lay_out(recipe, recipe.context.home)
    around = _surroundings(recipe, project, root, asked)
    context = replace(recipe.context, executor=LocalExecutor(Pool(size=1, interpreter=around.python), recipe.context.places))
    pinned_run = _sheet(context, recipe, project, around.record)
    try:
        made = package(context, pinned_run, train(context, pinned_run))
        measured = evaluate(context, pinned_run, made, None, private_server).evaluation
        found = agreement.of_steps(context, pinned_run, export.recorded_steps(recipe.bundle.folder), recipe.outputs)
        diverged = agreement.divergence(context, pinned_run, found, around.matter)
    finally:
        context.executor.close()
    recorded = msgspec.json.decode((recipe.bundle.folder / "evidence" / "evaluation.json").read_bytes(), type=Evaluation)
    metrics = agreement.of_metrics(recorded, measured)
    release, worst = recipe.release, max((m.difference for m in metrics.values()), default=0.0)
    same = recipe.bundle.manifest.files[model_file(release.form)] == made.model and made.form is release.form
    told = agreement.sentence(release, made.form, same, metrics, asked.tolerance, diverged)
    return Reproduction(
        release=release.version,
        agrees=worst <= asked.tolerance,
        bytes_agree=same,
        metrics_agree=worst <= asked.tolerance,
        worst_difference=worst,
        tolerance=asked.tolerance,
        metrics=metrics,
        steps=found,
        divergence=diverged,
        environment=tuple(around.differences),
        interpreter=str(around.python),
        lock=around.lock,
        seed=SEED,
        key=recipe.key,
        folder=str(folder),
        text=f"{told}; {around.sentence}",
    )


class _Surroundings(msgspec.Struct, frozen=True):
    """The interpreter that steps run in, beside the recorded environment."""

    python: Path
    record: dict[str, Any]
    differences: list[str]
    matter: list[str]  # of these, what steps compute with
    lock: tuple[str, ...]
    advice: str

    @property
    def sentence(self) -> str:
        if not self.differences:
            return "same environment"
        more = f" and {len(self.differences) - NAMED} more" if len(self.differences) > NAMED else ""
        advice = f"; {self.advice}" if self.advice else ""
        return f"the environment differs: {', '.join([*self.matter, *self._others][:NAMED])}{more}{advice}"

    @property
    def _others(self) -> list[str]:
        return [text for text in self.differences if text not in self.matter]


def _surroundings(recipe: _Recipe, project: Project, root: Path, asked: ReproduceOptions) -> _Surroundings:
    """This interpreter, or the recorded one, made anew."""
    evidence, progress = recipe.bundle.folder / "evidence", recipe.context.progress
    then = msgspec.json.decode((evidence / "environment.json").read_bytes())
    seed = int(msgspec.json.decode((evidence / "training.json").read_bytes()).get("seed", SEED))
    lock = interpreters.lock_of(recipe.bundle.folder / CODE)
    modules = _imported_modules(recipe.context.home, project)
    python, now = Path(sys.executable), environment.record()
    if asked.rebuild:
        needed = environment.required_distributions((environment.DISTRIBUTION,), modules)
        made = interpreters.make(root.resolve(), then, lock, needed, progress)
        python, now = made.python, made.record
        progress(f"steps run in {python}, with this Noria ({now['noria']})")
    differences = environment.differences(then, now)
    matter = (
        environment.that_matter(differences, environment.required_distributions(environment.WORKING, modules))
        if differences
        else []
    )
    if seed != SEED:
        differences.append(f"seed {seed} -> {SEED}")
    advice = "`--environment rebuild` makes the recorded one" if matter and asked.rebuild is None else ""
    if advice:
        progress(f"the environment differs in what steps compute with ({', '.join(matter[:NAMED])}): {advice}")
    remarks = lock.against(then["packages"]) if lock else []
    return _Surroundings(python, now, differences, matter, tuple(remarks), advice)


def _lay_out(recipe: _Recipe, tree: Path) -> Project:
    """Lays out the sealed code as the tree of its commit, without files that its steps wrote; what Git ignores stays ignored."""
    tree.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(recipe.bundle.folder / CODE, tree, symlinks=True)
    with contextlib.suppress(NoriaError):  # without Git nothing is ignored
        git.begin(tree)
    project = config.load(tree)
    for out in {out for step in project.steps.values() for out in step.outs}:
        place = tree / out
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
    return project


def _imported_modules(tree: Path, project: Project) -> frozenset[str]:
    """Top-level modules that the project's Python files import, and the library of its search."""
    model = project.model
    return imported_modules(tree) | ({"optuna"} if model is not None and model.search is not None else frozenset())


def _sheet(context: DeliveryContext, recipe: _Recipe, project: Project, record: dict[str, object]) -> PinnedRun:
    release = recipe.release
    turn = Turn("reproduce", context.name, 0, (), f"reproduce {release.version}", release.created_at)
    pinned_run = PinnedRun(
        turn,
        "reproduce",
        project,
        context.home,
        _commit(release),
        None,
        record,
        pins=recipe.bundle.pins,
        sealed=recipe.bundle.folder / CODE,
    )
    kept = recipe.bundle.folder / "evidence" / "tables.json"  # older releases have none: the files say their types
    pinned_run.tables = msgspec.json.decode(kept.read_bytes(), type=dict[str, TableType]) if kept.is_file() else {}
    return pinned_run
