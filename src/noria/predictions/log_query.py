"""The prediction log as lazy tables, for questions: what was compacted and what was not, with labels, under a condition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import polars as pl

from noria.kernel import row_sql
from noria.kernel.errors import StoreError
from noria.kernel.where import Condition
from noria.predictions import compacted, tabular
from noria.predictions.compacted import File
from noria.predictions.reader import segment_parts
from noria.predictions.records import Damage
from noria.predictions.tabular import NUMBERS, GroupPart, RecordGroup

TRIES = 5  # a segment may be compacted while it is being read: then all is looked at anew
MOMENT = pl.Datetime("us", "UTC")
_TEXTS = ("id", "release", "variant", "rollout", "key", "event_time", "error")
FACTS: dict[str, pl.DataType | type[pl.DataType]] = {
    "at": MOMENT, **dict.fromkeys(_TEXTS, pl.String), "latency_ms": pl.Float64, "sample": pl.Float64,
}  # fmt: skip
LABEL: dict[str, pl.DataType | type[pl.DataType]] = {
    "at": MOMENT, **dict.fromkeys(("id", "key", "kind", "segment"), pl.String), "row": pl.Int64,
}  # fmt: skip


class LogTable(msgspec.Struct, frozen=True):
    """Rows of one sort, not yet read; ``kinds`` of the columns whose kind the values decide, as `tabular` names them."""

    rows: pl.LazyFrame
    kinds: dict[str, str]


class LogSelection(msgspec.Struct, frozen=True):
    """A project's part of a log: ``predictions`` with FACTS, inputs.NAME and outputs.NAME, ``feedback`` with LABEL and label;
    ``damage``: what of the log could not be read."""

    predictions: LogTable
    feedback: LogTable
    damage: Damage


def scan(folder: Path, project: str, since: float | None = None) -> LogSelection:
    """The log of an environment as it stands now; ``since``: only what came at that wall time or later.

    Raises StoreError for a damaged index, and when compactions follow each other too fast.
    """
    for _ in range(TRIES):
        paths = sorted(folder.glob("*.plog"))  # first: what goes from here is in the index then
        index = compacted.read(folder)
        known = {name for batch in index.batches for name in batch.segments}
        damage = Damage()
        try:
            recent = _recent([path for path in paths if path.stem not in known], project, since, damage)
        except FileNotFoundError:
            continue
        tables = [_table(folder, index.files(sort), recent, sort, project, since) for sort in ("prediction", "feedback")]
        return LogSelection(tables[0], tables[1], damage)
    raise StoreError("the prediction log is being compacted again and again", where=str(folder), hint="Try again in a moment.")


def _recent(paths: Sequence[Path], project: str, since: float | None, damage: Damage) -> dict[RecordGroup, list[GroupPart]]:
    """What stands in segments; what cannot be read is counted. Raises FileNotFoundError when one was compacted meanwhile."""
    found: dict[RecordGroup, list[GroupPart]] = {}
    for path in paths:
        if since is not None and path.stat().st_mtime < since:
            continue  # nothing was added later
        for stretch in segment_parts(path, damage, project):
            for group, part in tabular.tabulate(stretch.segment, stretch.first_row, stretch.records).items():
                found.setdefault(group, []).append(part)
    return found


def _table(
    folder: Path,
    files: Iterable[File],
    recent: dict[RecordGroup, list[GroupPart]],
    record: str,
    project: str,
    since: float | None,
) -> LogTable:
    """One table of both forms. Files whose columns are alike are scanned together."""
    first = None if since is None else datetime.fromtimestamp(since, UTC)
    day = "" if first is None else first.date().isoformat()
    alike: dict[tuple[tuple[str, str], ...], list[Path]] = {}
    for file in files:
        if file.project == project and file.date >= day:
            alike.setdefault(tuple(file.kinds.items()), []).append(folder / file.path)
    parts = [(dict(kinds), pl.scan_parquet(paths, hive_partitioning=False)) for kinds, paths in alike.items()]
    for group, several in recent.items():
        if group.record == record and group.date >= day:
            part = tabular.unite_parts(several)
            held = pl.DataFrame(pl.from_arrow(tabular.finish_table(group, part)))
            parts.append((part.kinds, held.lazy()))
    facts = FACTS if record == "prediction" else LABEL
    kinds = _kinds([kinds for kinds, _ in parts], {} if record == "prediction" else {"label": "null"})
    frames = [pl.LazyFrame(schema=facts), *(_cast_columns(frame, own, kinds, facts) for own, frame in parts)]
    empty = [pl.lit(None, _type(kind)).alias(name) for name, kind in kinds.items() if kind == "null"]
    rows = pl.concat(frames, how="diagonal").with_columns(empty)
    return LogTable(rows if first is None else rows.filter(pl.col("at") >= first), kinds)


def _kinds(several: list[dict[str, str]], start: dict[str, str]) -> dict[str, str]:
    """The kind of each column over all parts: numbers stay numbers, of the rest what differs becomes text."""
    found = dict(start)
    for kinds in several:
        for name, kind in kinds.items():
            found[name] = _common(found.get(name, "null"), "number" if kind in NUMBERS else kind, name)
    return found


def _common(one: str, other: str, name: str) -> str:
    if one == other or other == "null":
        return one
    if one == "null":
        return other
    return "number" if name == "label" and {one, other} == {"bool", "number"} else "text"


def _type(kind: str) -> pl.DataType | type[pl.DataType]:
    return {"bool": pl.Boolean, "number": pl.Float64}.get(kind, pl.String)


def _cast_columns(frame: pl.LazyFrame, own: dict[str, str], kinds: dict[str, str], facts: Iterable[str]) -> pl.LazyFrame:
    """The columns that the table has, in its types."""
    valued = [name for name, kind in own.items() if kind != "null"]
    return frame.select(*facts, *(pl.col(name).cast(_type(kinds[name])) for name in valued))


def labelled_predictions(asked: LogSelection) -> pl.LazyFrame:
    """The predictions with ``label``, the one that counts (null: none), and ``labels``, how many different ones came: who said
    otherwise is not passed over. The rule is that of `label_join`."""
    rows = asked.predictions.rows.select("id", "key", "at")
    said = asked.feedback.rows.filter(pl.col("kind") == "label")
    by_id = said.filter(pl.col("id").is_not_null()).join(rows.select("id").unique(), on="id", how="semi")
    by_key = (
        said.filter(pl.col("id").is_null() & pl.col("key").is_not_null())
        .drop("id")
        .sort("at")
        .join_asof(
            rows.filter(pl.col("key").is_not_null()).sort("at", "id"),
            on="at", by="key", strategy="backward", check_sortedness=False,
        )
        .filter(pl.col("id").is_not_null())
    )  # fmt: skip
    columns = ("id", "label", "at", "segment", "row")
    joined = pl.concat([by_id.select(columns), by_key.select(columns)]).sort("at", "segment", "row")
    last = joined.group_by("id").agg(pl.col("label").last(), pl.col("label").n_unique().cast(pl.Int64).alias("labels"))
    return asked.predictions.rows.join(last, on="id", how="left").with_columns(pl.col("labels").fill_null(0))


def training(asked: LogSelection) -> pl.LazyFrame:
    """The labelled predictions as a table to train on: id, release, variant, key, event_time, at (seconds), output (the number or
    class that a label is compared with), label, _labels (how many different ones came), and the inputs. Numbers are Float64,
    anything else is text.

    Where not all were recorded, ``sample`` is the chance that a row was: it stands for 1/sample rows. An input with one of these
    names stands as ``input.NAME``.
    """
    rows = labelled_predictions(asked).filter(pl.col("label").is_not_null())
    kinds = asked.predictions.kinds | asked.feedback.kinds
    ours = ("id", "release", "variant", "key", "event_time", "at", "output", "label", "sample")
    names = [name for name in ("outputs.probability", "outputs.prediction") if name in kinds]
    mixed = (pl.col(names[0]).is_null() & pl.col(names[1]).is_not_null()).any() if len(names) == 2 else pl.lit(True)
    facts = rows.select(sampled=(pl.col("sample") != 1.0).any(), mixed=mixed).collect(engine="streaming").to_dicts()[:1]
    sampled, said = (facts[0]["sampled"], facts[0]["mixed"]) if facts else (False, False)
    wanted = names if said or len(names) < 2 else names[:1]
    text = any(kinds[name] not in ("number", "bool", "null") for name in wanted)
    answer = (
        pl.coalesce(*(pl.col(n).cast(pl.String if text else pl.Float64) for n in wanted)) if wanted else pl.lit(None, pl.Float64)
    )
    columns = [pl.col(name) for name in ours[:5]]
    columns += [
        (pl.col("at").dt.epoch("us") / 1e6).alias("at"),
        answer.alias("output"),
        _plain("label", kinds),
        pl.col("labels").alias("_labels"),
    ]
    if sampled:
        columns.append(pl.col("sample"))
    for name in (n for n in kinds if n.startswith("inputs.")):
        shown = name.removeprefix("inputs.")
        columns.append(_plain(name, kinds).alias(f"input.{shown}" if shown in ours else shown))
    return rows.select(columns)


def _plain(name: str, kinds: dict[str, str]) -> pl.Expr:
    return pl.col(name) if kinds[name] not in ("null", "bool") else pl.col(name).cast(pl.Float64)


def meeting(rows: pl.LazyFrame, condition: Condition, kinds: Mapping[str, str]) -> pl.LazyFrame:
    """The rows that meet a condition whose fields they all have; ``kinds`` as in `LogTable`. Raises UsageError for one that
    cannot be computed."""
    schema, names = rows.collect_schema(), {str(field): field.column for field in condition.fields}
    nothing = pl.lit(None)
    asked = [
        (nothing if kinds.get(name) == "null" else _comparable_column(name, schema[name])).alias(column)
        for name, column in names.items()
    ]
    row_sql.check(condition, rows.select(asked).collect_schema())
    found = rows.with_columns(asked).filter(pl.sql_expr(condition.sql))
    return found.drop(list(names.values()))


def _comparable_column(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column as a condition asks for it: times are text, and a number that is none is no value."""
    if dtype == MOMENT:
        return pl.col(name).dt.strftime("%Y-%m-%d %H:%M:%S%.6f")
    return pl.col(name).fill_nan(None) if dtype.is_float() else pl.col(name)
