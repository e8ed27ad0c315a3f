"""Prometheus text (exposition format 0.0.4), right over all workers of the environment."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from noria.domain.rollout import Route, Tally
from noria.serving.counts import BUCKETS_S, Counts, turned


def render(counts: Counts, environment: str, routes: Sequence[Route], usage: Mapping[str, Any] | None = None) -> str:
    """Counters since the environment's counter file was made; they grow across restarts of workers and server.

    ``usage`` is what the parent measured last (``serving.usage.Usage`` as a mapping): of now, and of the tree that runs.
    """
    label = f'environment="{environment}"'
    parts = (_requests(counts, label), _latency(counts, label), _arms(counts, label, routes), _usage(label, usage or {}))
    return "\n".join((*itertools.chain.from_iterable(parts), ""))


def _requests(counts: Counts, label: str) -> Iterable[str]:
    yield from _head("noria_http_answers_total", "counter", "HTTP answers by status code.")
    yield from (f'noria_http_answers_total{{{label},code="{c}"}} {n}' for c, n in counts.codes().items() if n)
    yield from _head("noria_predictions_total", "counter", "Answered prediction requests by who answered.")
    yield from (f'noria_predictions_total{{{label},variant="{v}"}} {n}' for v, n in counts.variants().items())
    yield from _head("noria_prediction_rows_total", "counter", "Predicted rows.")
    yield f"noria_prediction_rows_total{{{label}}} {counts.rows()}"
    yield from _head("noria_prediction_rows_outside_total", "counter", "Predicted rows with a value outside the training range.")
    yield f"noria_prediction_rows_outside_total{{{label}}} {counts.rows_outside()}"
    yield from _head("noria_predictions_dropped_total", "counter", "Answered rows that are not in the prediction log.")
    yield from (f'noria_predictions_dropped_total{{{label},reason="{r}"}} {n}' for r, n in counts.dropped().items())
    yield from _head("noria_shadow_total", "counter", "Requests that another release was to score too, by what came of it.")
    yield from (f'noria_shadow_total{{{label},result="{r}"}} {n}' for r, n in counts.shadows().items())
    yield from _head("noria_feedback_total", "counter", "Labels recorded.")
    yield f"noria_feedback_total{{{label}}} {counts.feedback()}"


def _latency(counts: Counts, label: str) -> Iterable[str]:
    name = "noria_prediction_seconds"
    yield from _head(name, "histogram", "Seconds from the parsed request to its answer.")
    buckets, total = counts.histogram()
    running = 0
    for bound, n in zip((*BUCKETS_S, "+Inf"), buckets, strict=True):
        running += n
        yield f'{name}_bucket{{{label},le="{bound}"}} {running}'
    yield f"{name}_sum{{{label}}} {total}"
    yield f"{name}_count{{{label}}} {running}"


def _arms(counts: Counts, label: str, routes: Sequence[Route]) -> Iterable[str]:
    if not routes:
        return
    yield from _head("noria_route_requests_total", "counter", "Requests assigned to each arm of the present route revision.")
    tallies = counts.tallies()
    for route in routes:
        champion, candidate = tallies.get(route.tally_key, (Tally(), Tally()))
        before, now = (route.previous_version, route.champion_version) if turned(route) else (None, route.candidate_version)
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
        ("noria_workers_wanted", "wanted", "Workers that the present load needs, as a fraction; an autoscaler may sum it."),
        ("noria_worker_busy_ratio", "busy", "The share of wall time that a worker had the CPU, mean of the workers."),
        ("noria_worker_wait_seconds", "wait_s", "How long a request waits until a worker looks at it, where that is longest."),
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
