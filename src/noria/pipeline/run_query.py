"""Which runs meet a query, and in which order: `noria runs --where ... --sort ...`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from noria.kernel import where as conditions
from noria.kernel.where import Condition, Order, QueryField
from noria.pipeline.run import Run, RunKind
from noria.pipeline.run_store import RunStore
from noria.storage.rows import parse_json

COLUMNS = {  # field of a query -> the column that it is read from; metrics and params are their own
    "id": "id",
    "kind": "kind",
    "outcome": "outcome",
    "tag": "tags",
    "note": "note",
    "parent": "parent",
    "commit": "pins",
    "started": "started_at",
    "seconds": "ended_at",
}


def find_runs(
    store: RunStore,
    where: Condition | None = None,
    order: Order | None = None,
    kind: RunKind | None = None,
    limit: int = 20,
) -> list[Run]:
    """The runs that meet the query, in order; newest first without one. Raises UsageError for names that no run has.

    Only the columns that are asked about are read and decoded, and whole runs for the answer alone.
    """
    asked = [(f, where.source) for f in where.fields] if where is not None else []
    asked += [(order.field, "--sort")] if order is not None else []
    columns = {"id"} | {f.group or COLUMNS[f.name] for f, _ in asked}
    columns |= {"started_at"} if "ended_at" in columns else set()
    facts = [_query_facts(row) for row in store.query_rows(kind, columns, None if asked else limit)]
    _demand_known(asked, facts)
    found = facts
    if where is not None:
        from noria.pipeline import run_filter  # Polars: only a condition needs it

        found = run_filter.matching(where, facts)
    if order is not None:
        found = _sort_runs(order, found)
    return store.by_ids([f["id"] for f in found[:limit]])


def _demand_known(asked: Sequence[tuple[QueryField, str]], facts: Sequence[Mapping[str, Any]]) -> None:
    """Every metric and parameter that is asked about is one of some run; where there is no run at all, anything may be asked."""
    unmet = [(f, source) for f, source in asked if f.group and not any(f.name in held[f.group] for held in facts)]
    if unmet and facts:
        conditions.demand_known(
            unmet, {group: dict.fromkeys(n for held in facts for n in held.get(group, ())) for group in conditions.GROUPS}
        )


def _query_facts(row: dict[str, Any]) -> dict[str, Any]:
    """A row as a query sees it: JSON read, times as text, the commit out of the pins."""
    facts: dict[str, Any] = {name: row[name] for name in ("id", "kind", "outcome", "note", "parent") if name in row}
    if "metrics" in row:
        facts["metrics"] = {n: float(v) for n, v in parse_json(row["metrics"]).items()}  # NaN is kept as text
    if "params" in row:
        facts["params"] = parse_json(row["params"])
    if "tags" in row:
        facts["tag"] = parse_json(row["tags"])
    if "pins" in row:
        facts["commit"] = parse_json(row["pins"])["commit"]
    if "started_at" in row:
        facts["started"] = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row["started_at"]))
    if row.get("ended_at") is not None:
        facts["seconds"] = row["ended_at"] - row["started_at"]
    return facts


def _sort_runs(order: Order, facts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By the order's field; equal ones stay newest first, those without it come last."""
    ranked = [(conditions.rank(order, f), f) for f in facts]
    having = [(r, f) for r, f in ranked if r is not None]
    having.sort(key=lambda pair: pair[0], reverse=order.descending)
    return [f for _, f in having] + [f for r, f in ranked if r is None]
