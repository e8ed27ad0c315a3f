"""Evaluate: scores candidate and champion, each in its own sealed form, on the same raw held-out rows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from msgspec.structs import replace

from noria.config.gate import NONE, is_step_metric
from noria.evaluation import judge_gate as judge
from noria.evaluation.behaviours import add_behaviours
from noria.evaluation.custom_metrics import add_custom_metrics
from noria.evaluation.latency import LatencyMeter, LatencyRounds, ServeCandidate
from noria.evaluation.scores import ComparedRelease, Scores
from noria.kernel.errors import NoriaError, StepError
from noria.kernel.tasks import find_metric
from noria.pipeline import environment, recording, steps
from noria.pipeline.context import PinnedRun, PipelineContext
from noria.pipeline.executors.task import Resources, StepTask
from noria.pipeline.judge_staleness import StepFacts
from noria.pipeline.orders import TaskInputs
from noria.pipeline.run import StepState
from noria.releases.bundle import read_manifest, stored_bundle
from noria.releases.evidence import Evaluation, Measured
from noria.releases.packaging import Package
from noria.releases.release import Release
from noria.releases.store import ReleaseStore


def evaluate(
    context: PipelineContext, pinned_run: PinnedRun, package: Package, champion: Release | None, serve: ServeCandidate
) -> Measured:
    """Measures the candidate, and compares it with the champion, if there is one, on the same rows.

    ``serve`` starts the server for measuring latency, if a gate needs it.
    """
    if not judge.asks_for_latency(pinned_run.judging.gates):
        return _score_and_compare(context, pinned_run, package, champion)
    with serve(context, pinned_run, package) as private:  # it starts up while models are scored
        measured = _score_and_compare(context, pinned_run, package, champion)
        return replace(measured, evaluation=_with_latency(context, pinned_run, private, measured.evaluation))


def _score_and_compare(context: PipelineContext, pinned_run: PinnedRun, package: Package, champion: Release | None) -> Measured:
    own = {name: metric.greater_is_better for name, metric in pinned_run.project.metrics.items()}
    best = best_so_far(context, judge.best_metrics(pinned_run.judging.gates), own)
    with ThreadPoolExecutor(3) as pool:
        mine = pool.submit(_score, context, pinned_run, f"run:{pinned_run.run_id}", package.model, package, "score.candidate")
        theirs = pool.submit(_rival, context, pinned_run, package, champion, "score.champion")
        other = None
        if best is not None and (champion is None or best.digest != champion.digest):
            other = pool.submit(_rival, context, pinned_run, package, best, "score.best")
        candidate, serving, second = mine.result(), theirs.result(), other.result() if other is not None else None
    if candidate.predictions is None:
        raise StepError(candidate.note, where="step score.candidate")
    from noria.evaluation import measure  # the numerics: only work that was done is measured

    if best is not None and (second is None or second.scores.predictions is None):
        second = serving  # the champion is the best, or the best cannot be compared on these rows
    measured = measure.measure(pinned_run, package, candidate, serving, second)
    whole = add_custom_metrics(context, pinned_run, package, measured.evaluation, candidate, serving, second)
    whole = add_behaviours(context, pinned_run, package, whole)
    if any(is_step_metric(gate.metric) for gate in pinned_run.judging.gates):
        whole = replace(whole, step_metrics=recording.gather(context, pinned_run).metrics)
    return replace(measured, evaluation=whole)


def _with_latency(context: PipelineContext, pinned_run: PinnedRun, private: LatencyMeter, evaluation: Evaluation) -> Evaluation:
    """Adds the latency that a gate needs.

    It is measured now, and once more if the verdict depends on it: the figure from packaging may be old, and was not measured
    over HTTP.
    """
    first = private.measure()
    found = _set_latency(evaluation, first)
    if judge.hangs_on_latency(pinned_run.judging.gates, found):
        context.progress(f"latency: {found.latency_p99_ms:.3g} ms is near the gate: measuring again")
        found = _set_latency(evaluation, first, private.measure())
    return found


def _set_latency(evaluation: Evaluation, *timed: LatencyRounds) -> Evaluation:
    p50, p99 = ([one for each in timed for one in getattr(each, name)] for name in ("p50_ms", "p99_ms"))
    middle = statistics.median(p50), statistics.median(p99)
    return replace(evaluation, latency_p50_ms=middle[0], latency_p99_ms=middle[1], latency_rounds_ms=tuple(p99))


def best_so_far(context: PipelineContext, metrics: Sequence[str], own: Mapping[str, bool] = NONE) -> Release | None:
    """The best of the releases that are neither barred nor gone, by the first of ``metrics``; None where none is asked for.

    ``own``: of the project's own metrics, whether greater is better.
    Each release was compared with the best before it, on the same rows: so the newest is the best, or that one is.
    """
    if not metrics:
        return None
    here = {r.version: r for r in ReleaseStore.of(context).list() if r.barred is None and _evaluation_file(context, r).is_file()}
    if not here:
        return None
    newest = max(here.values(), key=lambda release: release.created_at)
    found = msgspec.json.decode(_evaluation_file(context, newest).read_bytes())
    before, versus = found.get("best"), found.get("versus_best") or {}
    if before is None:
        before, versus = found.get("champion"), found.get("versus") or {}
    difference = (versus.get(metrics[0]) or {}).get("difference")
    if before not in here or difference is None:
        return newest
    metric = find_metric(metrics[0])
    greater_is_better = own.get(metrics[0], False) if metric is None else metric.greater_is_better
    better = difference >= 0 if greater_is_better else difference <= 0
    return newest if better else here[before]


def _evaluation_file(context: PipelineContext, release: Release) -> Path:
    return context.bundle(release.digest) / "evidence" / "evaluation.json"


def _rival(
    context: PipelineContext, pinned_run: PinnedRun, package: Package, release: Release | None, name: str
) -> ComparedRelease | None:
    if release is None:
        return None
    try:
        stored_bundle(context.state, release)
        note = _overlap(context.bundle(release.digest), package)
    except NoriaError as error:
        note = error.message
    if note:
        return ComparedRelease(release, Scores(None, note))
    return ComparedRelease(release, _score(context, pinned_run, f"release:{release.digest}", release.digest, package, name))


def _overlap(bundle: Path, package: Package) -> str:
    """Returns why the champion may not be measured on these rows, such as that it was trained on some of them."""
    training = bundle / "evidence" / "training.json"
    if not training.is_file():
        return "its training record is missing"
    before, now = msgspec.json.decode(training.read_bytes())["split"], package.trained["split"]
    if before["kind"] != now["kind"]:
        return f"it was split by {before['kind']}, the candidate by {now['kind']}: it may have seen these rows"
    if now["kind"] == "time" and before["train_until"] > now["holdout_from"]:
        return "it was trained on some of these rows"
    return ""


def _score(context: PipelineContext, pinned_run: PinnedRun, tree: str, identity: str, package: Package, name: str) -> Scores:
    """Scores the sealed form in a separate process, with the sealed code and nothing else of the project."""
    record = steps.perform(context, pinned_run, _order(context, pinned_run, tree, identity, package, name))
    if record.state is StepState.FAILED:
        return Scores(None, record.reason.text.splitlines()[0])
    import numpy as np

    files = steps.output(context, record).files
    called = np.load(context.blobs.path(files["called"]), allow_pickle=False) if "called" in files else None
    return Scores(np.load(context.blobs.path(files["scores"]), allow_pickle=False), "", called, files["scores"])


def _order(
    context: PipelineContext, pinned_run: PinnedRun, tree: str, identity: str, package: Package, name: str
) -> steps.StepOrder:
    model = pinned_run.project.model
    assert model is not None
    rule = read_manifest(context.places.tree(tree)).signature.decision
    facts = StepFacts(
        code=identity,
        inputs={"holdout": package.holdout_digest},
        # the same model may use another decision rule
        params={"decision": repr(msgspec.to_builtins(rule))} if rule is not None else {},
        environment=environment.digest(pinned_run.environment),
    )
    inputs = TaskInputs()
    task = StepTask(
        f"{pinned_run.run_id}/{name}",
        tree,
        target="noria.evaluation.score_step:run",
        job={"bundle": ".", "rows": inputs.add(package.holdout_digest, "holdout.arrow")},
        roots=(),
        inputs=inputs.files,
        outs={"scores": "scores.npy", "called": "called.npy"},
        resources=Resources(None, model.memory_bytes, model.timeout_s),
    )
    return steps.StepOrder(name, facts, task)
