"""Prometheus text (exposition format 0.0.4) over all workers of the environment."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from noria.serving.counts import BUCKETS_S, SharedCounters, is_on_probation
from noria.serving.route import Route
from noria.serving.tallies import Tally


def render(counts: SharedCounters, environment: str, routes: Sequence[Route], usage: Mapping[str, Any] | None = None) -> str:
    """Counters since the environment's counter file was made; they grow across restarts of workers and server.

    ``usage`` is what the parent measured last (``serving.usage.WorkerUsage`` as a mapping): of now, and of the tree that runs.
    """
    label = f'environment="{environment}"'
    named = dict.fromkeys([*(route.project for route in routes), *counts.projects()])
    each = [(f'{label},project="{project}"', counts.of(project)) for project in named]
    each = [(of, found) for of, found in each if of != f'{label},project=""' or any(found.codes().values())]
    parts = (_requests(each), _latency(each), _log(counts, label), _arms(counts, label, routes), _usage(label, usage or {}))
    return "\n".join((*itertools.chain.from_iterable(parts), ""))


Each = Sequence[tuple[str, SharedCounters]]  # labels, and what was counted for a project
COUNTERS: tuple[
    tuple[str, str, str, Callable[[SharedCounters], Mapping[Any, int]]], ...
] = (  # name, text, label, and its values' counts
    ("noria_http_answers_total", "HTTP answers by status code.", "code", lambda c: {k: n for k, n in c.codes().items() if n}),
    ("noria_predictions_total", "Answered prediction requests by who answered.", "variant", SharedCounters.variants),
    ("noria_prediction_rows_total", "Predicted rows.", "", lambda c: {"": c.rows()}),
    (
        "noria_prediction_rows_outside_total",
        "Predicted rows with a value outside the training range.",
        "",
        lambda c: {"": c.rows_outside()},
    ),
    ("noria_prediction_rows_unanswered_total", "Rows that no release could answer.", "", lambda c: {"": c.rows_unanswered()}),
    ("noria_predictions_dropped_total", "Answered rows that are not in the prediction log.", "reason", SharedCounters.dropped),
    (
        "noria_shadow_total",
        "Requests that the other release was to score too, by outcome.",
        "result",
        SharedCounters.shadows,
    ),
    ("noria_feedback_total", "Labels recorded.", "", lambda c: {"": c.feedback()}),
)


def _requests(each: Each) -> Iterable[str]:
    for name, text, by, read in COUNTERS:
        yield from _head(name, "counter", text)
        for label, counts in each:
            yield from (
                f'{name}{{{label},{by}="{key}"}} {n}' if by else f"{name}{{{label}}} {n}" for key, n in read(counts).items()
            )


def _latency(each: Each) -> Iterable[str]:
    name = "noria_prediction_seconds"
    yield from _head(name, "histogram", "Seconds from the parsed request to its answer.")
    for label, counts in each:
        buckets, total = counts.histogram()
        running = 0
        for bound, n in zip((*BUCKETS_S, "+Inf"), buckets, strict=True):
            running += n
            yield f'{name}_bucket{{{label},le="{bound}"}} {running}'
        yield f"{name}_sum{{{label}}} {total}"
        yield f"{name}_count{{{label}}} {running}"


def _log(counts: SharedCounters, label: str) -> Iterable[str]:
    name = "noria_worker_logs_deleted_total"
    yield from _head(name, "counter", "Segments of the log, of all projects, that were deleted while workers wrote them.")
    yield f"{name}{{{label}}} {counts.logs_deleted()}"


def _arms(counts: SharedCounters, label: str, routes: Sequence[Route]) -> Iterable[str]:
    if not routes:
        return
    yield from _head("noria_route_requests_total", "counter", "Requests assigned to each arm of the current route revision.")
    tallies = counts.tallies()
    for route in routes:
        champion, candidate = tallies.get(route.tally_key, (Tally(), Tally()))
        before, now = (
            (route.previous_version, route.champion_version) if is_on_probation(route) else (None, route.candidate_version)
        )
        arms = [("champion", before or route.champion_version, champion)]
        if route.candidate is not None or before is not None:
            arms.append(("candidate", now or "", candidate))
        of = f'{label},project="{route.project}",revision="{route.revision}"'
        for arm, version, tally in arms:
            for outcome, n in (("assigned", tally.requests), ("error", tally.errors), ("slow", tally.slow)):
                yield f'noria_route_requests_total{{{of},arm="{arm}",release="{version}",outcome="{outcome}"}} {n}'


def _usage(label: str, usage: Mapping[str, Any]) -> Iterable[str]:
    if not usage:
        return
    for name, key, text in (
        ("noria_workers", "workers", "Worker processes that accept connections."),
        ("noria_workers_wanted", "wanted", "Workers that the current load needs, as a fraction; an autoscaler may sum it."),
        ("noria_worker_busy_ratio", "busy", "The share of wall time that a worker had the CPU, mean of the workers."),
        ("noria_worker_wait_seconds", "wait_s", "How long a request waits until a worker handles it, for the slowest worker."),
    ):
        yield from _head(name, "gauge", text)
        yield f"{name}{{{label}}} {usage[key]:.6g}"
    for name, key, kind, text in (
        ("noria_process_cpu_seconds_total", "cpu_s", "counter", "CPU time of each process of the server tree."),
        ("noria_process_resident_memory_bytes", "rss", "gauge", "Memory of each process, shared pages counted in each."),
        ("noria_process_proportional_memory_bytes", "pss", "gauge", "Memory of each process, shared pages divided among them."),
    ):
        yield from _head(name, kind, text)
        yield from (f'{name}{{{label},process="{p["name"]}"}} {p[key]}' for p in usage["processes"] if p[key] is not None)


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"
