"""Evaluate: candidate and champion, each through its own sealed form, on the same raw held-out rows."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from noria import names
from noria.adapters import environment
from noria.config import Model
from noria.decide.plan import StepFacts
from noria.domain.evaluation import Comparison, Evaluation, Measure
from noria.domain.policy import Gate
from noria.domain.release import Release
from noria.domain.run import StepState
from noria.domain.signature import Task, class_text
from noria.errors import NoriaError, StepError
from noria.stages import steps
from noria.stages.bundle import verify
from noria.stages.line import Line, Sheet
from noria.stages.package import Package
from noria.stages.work import split
from noria.stats import intervals, metrics

T = TypeVar("T")
DAY_S = 86400.0
LOSS = {Task.BINARY: "brier", Task.MULTICLASS: "log_loss", Task.REGRESSION: "mae"}  # the monitor's metric, a mean of row losses


@dataclass(frozen=True, slots=True)
class Scores:
    predictions: NDArray[np.float64] | None
    note: str  # why there are none


@dataclass(frozen=True, slots=True)
class Reference:
    """The release's own quality on its holdout: what the monitor compares with."""

    metric: str
    mean: float  # of the units' means
    sd: float  # between units
    n: int  # units: days, or rows where there is no event time
    rows: int


def evaluate(line: Line, sheet: Sheet, package: Package, champion: Release | None) -> tuple[Evaluation, Reference]:
    """Measure the candidate; where a champion exists, compare both on the same rows."""
    model = sheet.project.model
    assert model is not None
    with ThreadPoolExecutor(2) as pool:
        mine = pool.submit(_score, line, sheet, package.folder, package.model, package.holdout, "score.candidate")
        theirs = pool.submit(_champion_scores, line, sheet, package, champion)
        candidate, other = mine.result(), theirs.result()
    if candidate.predictions is None:
        raise StepError(candidate.note, where="step score.candidate")
    rows = pl.read_ipc(package.holdout)
    labels = _labels(rows[model.label], model.task, package.trained["signature"]["classes"])
    return _measure(sheet, package, rows, labels, candidate.predictions, other, champion), _reference(
        model, rows, labels, candidate.predictions
    )


def _champion_scores(line: Line, sheet: Sheet, package: Package, champion: Release | None) -> Scores | None:
    if champion is None:
        return None
    bundle = line.bundle(champion.digest)
    try:
        verify(line, champion)
    except NoriaError as error:
        return Scores(None, error.message)
    note = _overlap(bundle, package)
    if note:
        return Scores(None, note)
    return _score(line, sheet, bundle, champion.digest, package.holdout, "score.champion")


def _overlap(bundle: Path, package: Package) -> str:
    """Why the champion may not be measured on these rows: it was trained on some of them."""
    training = bundle / "evidence" / "training.json"
    if not training.is_file():
        return "the champion's training record is missing"
    before, now = msgspec.json.decode(training.read_bytes())["split"], package.trained["split"]
    if before["kind"] != now["kind"]:
        return f"the champion was split by {before['kind']}, the candidate by {now['kind']}: it may have seen these rows"
    if now["kind"] == "time" and before["train_until"] > now["holdout_from"]:
        return "the champion was trained on some of these rows"
    return ""


def _score(line: Line, sheet: Sheet, bundle: Path, identity: str, holdout: Path, name: str) -> Scores:
    """Score through the sealed form, in a process of its own with the sealed code and nothing else of the project."""
    model = sheet.project.model
    assert model is not None
    facts = StepFacts(
        code=identity,
        files={},
        inputs={"holdout": names.digest_bytes(str(holdout.resolve().name).encode())},
        params={},
        command=None,
        environment=environment.digest(sheet.environment),
    )
    manifest = msgspec.json.decode((bundle / "manifest.json").read_bytes())
    paths = tuple(bundle / "code" / p for p in manifest.get("hosted", {}).get("paths", []))
    job = {"bundle": str(bundle), "rows": str(holdout)}
    order = steps.Order(
        name,
        "noria.stages.work.score:run",
        facts,
        job,
        model.timeout_s,
        model.memory_bytes,
        paths=paths or (bundle,),
        cwd=bundle,
        outs={"scores": "scores.npy"},
    )
    record = steps.perform(line, sheet, order)
    if record.state is StepState.FAILED:
        return Scores(None, record.reason.text.splitlines()[0])
    return Scores(np.load(line.blobs.path(steps.output(line, record).files["scores"]), allow_pickle=False), "")


def _labels(column: pl.Series, task: Task, classes: list[str]) -> NDArray[Any]:
    if task is Task.REGRESSION:
        return column.cast(pl.Float64).to_numpy()
    codes = {name: code for code, name in enumerate(classes)}
    known = {value: codes.get(class_text(value), -1) for value in column.unique().to_list()}
    return np.array([known[value] for value in column.to_list()], dtype=np.int64)


def _measure(
    sheet: Sheet,
    package: Package,
    rows: pl.DataFrame,
    labels: NDArray[Any],
    candidate: NDArray[np.float64],
    other: Scores | None,
    champion: Release | None,
) -> Evaluation:
    model = sheet.project.model
    assert model is not None
    wanted = _metrics(model.task, sheet.project.gates)
    versus: dict[str, Comparison] = {}
    beside = other.predictions if other is not None else None
    if beside is not None:
        versus = _each(wanted, lambda m: intervals.compare(m, model.task, labels, candidate, beside))
    return Evaluation(
        rows=len(labels),
        positives=int((labels == 1).sum()) if model.task is Task.BINARY else 0,
        metrics=_each(wanted, lambda m: intervals.measure(m, model.task, labels, candidate)),
        versus=versus,
        champion=champion.version if champion else None,
        slices=_slices(model, sheet.project.gates, rows, labels, candidate),
        latency_p50_ms=package.packaged["latency_p50_ms"],
        latency_p99_ms=package.packaged["latency_p99_ms"],
        model_size_mb=package.packaged["size_mb"],
        holdout=package.trained["split"]["sentence"],
        champion_note=other.note if other is not None else "",
    )


def _each(wanted: list[str], measure: Callable[[str], T]) -> dict[str, T]:
    found = {}
    for name in wanted:
        try:
            found[name] = measure(name)
        except metrics.Undefined:
            continue  # one class only: the gate that asks for it says so
    return found


def _metrics(task: Task, gates: tuple[Gate, ...]) -> list[str]:
    """Every metric of the task that is cheap, and whatever a gate asks for."""
    cheap = {Task.BINARY: ["roc_auc", "brier", "log_loss", "accuracy"], Task.MULTICLASS: ["accuracy", "log_loss"]}
    wanted = cheap.get(task, ["mae", "rmse", "r2"])
    asked = [g.metric for g in gates if g.metric in metrics.METRICS and task in metrics.METRICS[g.metric].tasks]
    return list(dict.fromkeys([*wanted, *asked]))


def _slices(
    model: Model, gates: tuple[Gate, ...], rows: pl.DataFrame, labels: NDArray[Any], predictions: NDArray[np.float64]
) -> dict[str, dict[str, dict[str, Measure]]]:
    found: dict[str, dict[str, dict[str, Measure]]] = {}
    for gate in gates:
        if gate.by is None or gate.by not in rows.columns:
            continue
        values = rows[gate.by].cast(pl.String).fill_null("(empty)").to_numpy()
        for value in np.unique(values):
            mask = values == value
            measured = _each([gate.metric], partial(_measured, model.task, labels[mask], predictions[mask]))
            found.setdefault(gate.by, {}).setdefault(str(value), {}).update(measured)
    return found


def _measured(task: Task, labels: NDArray[Any], predictions: NDArray[np.float64], metric: str) -> Measure:
    return intervals.measure(metric, task, labels, predictions)


def _reference(model: Model, rows: pl.DataFrame, labels: NDArray[Any], predictions: NDArray[np.float64]) -> Reference:
    name = LOSS[model.task]
    losses = metrics.row_losses(name, model.task, labels, predictions)
    days = split.seconds(rows[model.event_time]) // DAY_S if model.event_time else None
    means = units(losses, days)
    return Reference(name, float(means.mean()), float(means.std(ddof=1)) if len(means) > 1 else 0.0, len(means), len(losses))


def units(losses: NDArray[np.float64], days: pl.Series | None) -> NDArray[np.float64]:
    """Mean losses of the independent units: the days, where rows carry an event time (rows of one day share its weather,
    its strike, its campaign), else the rows. See docs/decisions/0003."""
    if days is None:
        return losses
    means = pl.DataFrame({"day": days, "loss": losses}).group_by("day", maintain_order=True).agg(pl.col("loss").mean())
    return means["loss"].to_numpy()
