"""The step that computes the project's own metrics, with the candidate's code, of all releases on the same held-out rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from noria.evaluation import row_groups
from noria.evaluation.scores import CANDIDATE
from noria.kernel.task import Task
from noria.kernel.words import plural
from noria.models import project_functions
from noria.models.labels import label_numbers
from noria.models.user_time import user_code
from noria.stats import bootstrap, groups, student
from noria.stats.bootstrap import Rows
from noria.stats.groups import Grouping
from noria.stats.measures import Comparison, Measure
from noria.stats.metrics import Undefined

RESAMPLING_S = 60.0  # that the resamples of one comparison may take, wall time ...
LEAST_RESAMPLES = 199  # ... with at least so many


class HeldOut(msgspec.Struct, frozen=True):
    """The rows, and the scores of each release on them. ``grouping``: which rows depend on each other."""

    rows: pl.DataFrame
    labels: NDArray[Any]
    scores: Mapping[str, NDArray[np.float64]]
    grouping: Grouping | None


class NoValueError(ValueError):
    """What a metric returned is no value, in words."""


def run(job: dict[str, Any]) -> dict[str, Any]:
    """The job: ``rows`` (an Arrow file), ``label``, ``task``, ``classes``, ``groups``, ``event_time``, ``metrics`` (name ->
    "module:function"), ``scores`` (release -> a file of scores; "candidate" among them).

    Returns ``measures`` by name, ``versus`` by release and name (candidate minus release), ``unmeasured``: why a metric has no
    value, by name.
    """
    table = pl.read_ipc(job["rows"])
    held_out = HeldOut(
        table,
        label_numbers(table[job["label"]], Task(job["task"]), job["classes"]),
        {name: np.load(path, allow_pickle=False) for name, path in job["scores"].items()},
        groups.coarsest(row_groups.find_groupings(table, job["groups"], job["event_time"])),
    )
    rivals = [name for name in job["scores"] if name != CANDIDATE]
    found: dict[str, Any] = {"measures": {}, "versus": {name: {} for name in rivals}, "unmeasured": {}}
    for name, target in job["metrics"].items():
        try:
            measured, compared = _measure(held_out, target)
        except (NoValueError, Undefined) as error:
            found["unmeasured"][name] = str(error)
            continue
        found["measures"][name] = msgspec.to_builtins(measured)
        for release, comparison in compared.items():
            found["versus"][release][name] = msgspec.to_builtins(comparison)
    return found


def _measure(held_out: HeldOut, target: str) -> tuple[Measure, dict[str, Comparison]]:
    """Raises NoValueError when the function raises, or returns no value."""
    n = len(held_out.labels)
    every = np.arange(n)
    statistics: dict[str, Callable[[Rows], float]] = {}
    values: dict[str, float] = {}
    took = 0.0
    for release, scores in held_out.scores.items():
        began = time.perf_counter()
        returned = _call(target, held_out, scores, every)
        took = max(took, time.perf_counter() - began)
        if returned.ndim:
            statistics[release] = partial(_mean_of, returned)
            took = 0.0
        else:
            statistics[release] = partial(_value, target, held_out, scores)
        values[release] = float(returned.mean())
    resamples = int(np.clip(RESAMPLING_S / max(2 * took, 1e-9), LEAST_RESAMPLES, bootstrap.RESAMPLES))
    mine, value = statistics[CANDIDATE], values[CANDIDATE]
    bounds = _bounds(mine, value, held_out.grouping, n, resamples)
    more = {} if held_out.grouping is None else groups.facts_of(held_out.grouping)
    measured = Measure(value, *bounds, n, **more)
    compared = {}
    for release, theirs in statistics.items():
        if release == CANDIDATE:
            continue
        difference = value - values[release]
        bounds = _bounds(partial(_difference, mine, theirs), difference, held_out.grouping, n, resamples)
        compared[release] = Comparison(values[release], difference, *bounds, n, **more)
    return measured, compared


def _bounds(
    statistic: Callable[[Rows], float], value: float, grouping: Grouping | None, n: int, resamples: int
) -> tuple[float, float]:
    """As wide as Student's t asks for where rows come in few groups, which a bootstrap takes as known too well."""
    low, high = bootstrap.bca_bounds(statistic, n, None if grouping is None else grouping.ids, resamples=resamples)
    factor = 1.0 if grouping is None else student.quantile(0.95, groups.count_groups(grouping) - 1.0) / student.quantile(0.95)
    return value - factor * max(value - low, 0.0), value + factor * max(high - value, 0.0)


def _mean_of(values: NDArray[np.float64], rows: Rows) -> float:
    return float(values[rows].mean())


def _difference(mine: Callable[[Rows], float], theirs: Callable[[Rows], float], rows: Rows) -> float:
    return mine(rows) - theirs(rows)


def _value(target: str, held_out: HeldOut, scores: NDArray[np.float64], rows: Rows) -> float:
    """Of a resample; NaN where it has none."""
    try:
        return float(_call(target, held_out, scores, rows).mean())
    except NoValueError:
        return float("nan")


def _call(target: str, held_out: HeldOut, scores: NDArray[np.float64], rows: Rows) -> NDArray[np.float64]:
    """What the project's function returns: one number, or one for each row. Raises NoValueError."""
    with user_code():
        function = project_functions.load(target)
        more = {"rows": held_out.rows[rows]} if project_functions.takes(function, "rows") else {}
        try:
            returned = function(held_out.labels[rows], scores[rows], **more)
        except Exception as error:  # the project's code may raise anything
            raise NoValueError(f"{target} raised {type(error).__name__}: {error}") from error
    try:
        found = np.asarray(returned, dtype=np.float64)
    except (TypeError, ValueError):
        raise NoValueError(f"{target} returned {type(returned).__name__}, which is no number") from None
    if found.shape not in ((), (len(rows),)):
        raise NoValueError(f"{target} returned an array of shape {found.shape} for {plural(len(rows), 'row')}")
    odd = int((~np.isfinite(found)).sum())
    if odd:
        what = "no finite number" if not found.ndim else f"no finite number for {odd:,} of {plural(len(rows), 'row')}"
        raise NoValueError(f"{target} returned {what}")
    return found
