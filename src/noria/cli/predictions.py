"""`noria predictions`: lists logged predictions, and compacts the log's files."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from noria.cli.context import Home, pass_home
from noria.cli.output import ago, emit, json_option, number, plural, table
from noria.cli.versions import at_work
from noria.config.units import OutOfRange, duration_s
from noria.data.formats.formulas import harmless
from noria.kernel import where as conditions
from noria.kernel.errors import StoreError, UsageError
from noria.kernel.words import size
from noria.predictions import log_query, retention
from noria.storage.disk import whole_path

if TYPE_CHECKING:
    import polars as pl

    from noria.predictions.records import Damage
    from noria.predictions.retention import RetentionReport

FORMATS = (".parquet", ".csv")


class PredictionsOptions(msgspec.Struct, frozen=True):
    """What is asked for."""

    environment: str
    since: float | None
    release: str | None
    where: str | None
    limit: int | None


class PredictionCounts(msgspec.Struct, frozen=True):
    """How many there are: ``predictions`` and of them ``labelled``; ``estimated``: for how many they stand where some were
    sampled; by release."""

    predictions: int
    labelled: int
    conflicting: int  # got labels that differ
    estimated: int
    releases: dict[str, int]


@click.group(invoke_without_command=True)
@click.option("--environment", "-e", help="The environment whose log to read; by default the last one of noria.yaml.")
@click.option("--since", metavar="TIME", help="Only predictions since then: 12h, 1d or 4w ago, or 2026-11-20 (UTC).")
@click.option("--release", metavar="RELEASE", help="Only predictions of this release, as in v3.")
@click.option(
    "--where", metavar="QUERY", help="Only predictions that match, as in: outputs.probability > 0.9 and label is not null"
)
@click.option("--limit", type=click.IntRange(1, 1_000_000), help="How many, newest first.  [default: 20; all with --to]")
@click.option("--to", "target", metavar="FILE", help="Write them with all columns to a new .parquet or .csv file.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    environment: str | None,
    since: str | None,
    release: str | None,
    where: str | None,
    limit: int | None,
    target: str | None,
    as_json: bool,
) -> None:
    """List logged predictions, newest first, with their labels if any came.

    A query is an SQL expression, as in a contract's rules: = != < <= > >= in like between, ~* (contains, in any case), functions,
    `and`, `or`, `not`, brackets; text and times in single quotes; `label is null` means that none came. Fields: inputs.NAME,
    outputs.NAME, id, at, release, variant, rollout, key, event_time, latency_ms, error, sample, label, labels (how many different
    ones came; the last counts). A prediction that lacks a field matches no comparison with it.

    \b
    Example:  noria predictions --since 1d --where "outputs.probability > 0.9"
              noria predictions --release v3 --to v3.parquet
              noria predictions compact

    In a .csv file, an apostrophe precedes text that a spreadsheet would run as a formula; a .parquet file holds exactly what was
    recorded.

    JSON keys: environment, count, labelled, conflicting (got labels that differ), estimated (of how many, where only a sample was
    recorded), damaged {places, size_bytes} of the log that cannot be read, releases {release: count}, predictions [{id, at,
    release, variant, rollout, key, event_time, latency_ms, error, sample, label, labels, inputs, outputs}] (null inputs are left
    out); with --to: file instead of predictions.
    """
    if ctx.invoked_subcommand is None:
        _ask(environment, since, release, where, limit, target, as_json)


@pass_home
def _ask(
    home: Home,
    environment: str | None,
    since: str | None,
    release: str | None,
    where: str | None,
    limit: int | None,
    target: str | None,
    as_json: bool,
) -> None:
    path = _target(target) if target is not None else None
    wish = PredictionsOptions(home.environment(environment), _since(since), release, where, limit)
    rows, damage = _rows(home, wish)
    shown = limit or (None if path else 20)
    if path is not None:
        found = _write(rows, wish, shown, path)
        known = document(wish, found, damage) | {"file": str(path)}
        emit(as_json, known, lambda: f"{path}: {summary(found, None)}{_damage_words(damage)}")
        return
    newest, found = _collect(rows, wish, shown)
    emit(
        as_json,
        lambda: document(wish, found, damage) | {"predictions": [facts(row) for row in newest]},
        lambda: render(newest, found, wish.environment) + _damage_words(damage),
    )


def _damage_words(damage: Damage) -> str:
    return f"\n{damage.words} of the log cannot be read: those records are missing here" if damage.places else ""


@command.command("compact")
@click.option("--environment", "-e", help="The environment whose log to compact; by default every environment.")
@click.option("--trust-clock", is_flag=True, help="Delete expired days even if the clock seems to have jumped.")
@json_option
@pass_home
def compact(home: Home, environment: str | None, trust_clock: bool, as_json: bool) -> None:
    """Compact finished segments of the log into Parquet now; the daemon does so by itself after a day.

    Days older than `serving.log.keep` are deleted, as the daemon does. If nothing was recorded for more than 3 days, nothing is
    deleted for the next 2 days: the clock may have jumped.

    Files: log/ENVIRONMENT/parquet/project=P/date=YYYY-MM-DD/*.parquet in the state folder. The segment that a running worker
    writes is finished when it is six hours old or full.

    \b
    Example:  noria predictions compact
              noria predictions compact -e production --json

    JSON keys: environments {name: {segments, records, files, size_bytes, damaged, expired {dates,
    predictions, labels, damaged (segments)}, kept (why days that are over were not deleted, or empty)}}.
    """
    project = home.project()
    names = [home.environment(environment)] if environment else list(project.environments)
    with at_work(home, as_json) as context:
        kept = [retention.keep(context, project, name, again=True, trust_clock=trust_clock) for name in names]
    plain = msgspec.to_builtins
    done = {k.environment: plain(k.compacted) | {"expired": plain(k.expired), "kept": k.refused} for k in kept}
    emit(as_json, {"environments": done}, lambda: "\n".join(_render_retention(k) for k in kept))


def _render_retention(kept: RetentionReport) -> str:
    done = kept.compacted
    old = f"; {kept.refused}" if kept.refused else ""
    gone = [plural(len(kept.expired.dates), "day")] if kept.expired.dates else []
    gone += [plural(kept.expired.damaged, "damaged segment")] if kept.expired.damaged else []
    old += f"; {' and '.join(gone)} older than serving.log.keep deleted" if gone else ""
    if not done.segments and not done.damaged:
        return f"{kept.environment}: nothing to compact{old}"
    files = f"{plural(done.records, 'record')} of {plural(done.segments, 'segment')} in {plural(done.files, 'file')}"
    damaged = f"; {plural(len(done.damaged), 'damaged segment')} left as they are" if done.damaged else ""
    return f"{kept.environment}: {files}, {size(done.size_bytes)}{damaged}{old}"


def _since(text: str | None) -> float | None:
    """Wall time. Raises UsageError."""
    if text is None:
        return None
    try:
        return time.time() - duration_s(text)
    except OutOfRange as error:
        raise UsageError(f"--since {text!r} is no time", hint=str(error)) from None
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--since {text!r} is no time", hint="Like 12h, 1d, 4w, or 2026-11-20.") from None
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def _target(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--to {text!r} is neither .parquet nor .csv")
    if path.exists():
        raise UsageError(f"{text} is there already", hint="Choose another name, or move it away.")
    if not path.resolve().parent.is_dir():
        raise UsageError(f"the folder of {text} does not exist")
    return path


def _rows(home: Home, wish: PredictionsOptions) -> tuple[pl.LazyFrame, Damage]:
    """What is asked for, not yet read, and what of the log cannot be. Raises UsageError for a query about columns that no
    prediction has."""
    import polars as pl  # tables are read only by who asks

    parsed = conditions.parse(wish.where, language=conditions.PREDICTIONS) if wish.where is not None else None
    found = log_query.scan(home.state / "log" / wish.environment, home.project_name(), wish.since)
    rows = log_query.labelled_predictions(found)
    if wish.release is not None:
        rows = rows.filter(pl.col("release") == wish.release)
    if parsed is None:
        return rows, found.damage
    schema = rows.collect_schema()
    for field in parsed.fields:
        if str(field) not in schema:
            near = conditions.nearest(str(field), [name for name in schema if "." in name])
            raise parsed.wrong(f"no prediction has {field}", field.position, near)
    return log_query.meeting(rows, parsed, found.predictions.kinds | found.feedback.kinds), found.damage


def _collect(rows: pl.LazyFrame, wish: PredictionsOptions, limit: int | None) -> tuple[list[dict[str, Any]], PredictionCounts]:
    """The newest rows, newest first, and the counts of all; the log is read in parts."""
    import polars as pl

    newest = rows.sort("at", "id", descending=True).limit(limit or 0)
    with _readable(wish):
        first, counts = pl.collect_all([newest, _counts(rows)], engine="streaming")
    return first.to_dicts(), _sum_counts(counts)


def _write(rows: pl.LazyFrame, wish: PredictionsOptions, limit: int | None, path: Path) -> PredictionCounts:
    """All rows, or the newest, to a file that is there whole or not at all."""
    import polars as pl

    rows = rows.sort("at", "id", descending=True)
    rows = rows if limit is None else rows.limit(limit)
    with _readable(wish), whole_path(path, 0o644) as fresh:
        if path.suffix.lower() == ".csv":
            harmless(rows).sink_csv(fresh, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")
        else:
            rows.sink_parquet(fresh, compression="zstd")
    written = pl.scan_csv(path, infer_schema=False) if path.suffix.lower() == ".csv" else pl.scan_parquet(path)
    return _sum_counts(_counts(written.with_columns(pl.col("sample").cast(pl.Float64))).collect())


@contextmanager
def _readable(wish: PredictionsOptions) -> Iterator[None]:
    """Turn what Polars says of a file that is gone or damaged into StoreError, of a condition into UsageError."""
    import polars as pl

    try:
        yield
    except FileNotFoundError as error:
        raise StoreError("part of the log was deleted meanwhile", hint="Try again.") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        if wish.where is None:
            raise StoreError(f"a file of the log cannot be read: {error}") from error
        said = str(error).partition("\n")[0][:200]
        raise UsageError(f"it cannot be computed for every prediction: {said}", where="--where, column 1") from error


def _counts(rows: pl.LazyFrame) -> pl.LazyFrame:
    import polars as pl

    return rows.group_by("release").agg(
        pl.len().alias("predictions"),
        pl.col("label").count().alias("labelled"),
        (pl.col("labels").cast(pl.Int64) > 1).sum().alias("conflicting"),
        (1 / pl.col("sample")).sum().alias("estimated"),
    )


def _sum_counts(counts: pl.DataFrame) -> PredictionCounts:
    rows = sorted(counts.to_dicts(), key=lambda row: (-row["predictions"], row["release"]))
    total = round(sum(row["estimated"] for row in rows))
    releases = {row["release"]: row["predictions"] for row in rows}
    labelled, conflicting = (sum(row[name] for row in rows) for name in ("labelled", "conflicting"))
    return PredictionCounts(sum(releases.values()), labelled, conflicting, total, releases)


def document(wish: PredictionsOptions, found: PredictionCounts, damage: Damage) -> dict[str, Any]:
    """The stable keys."""
    return {
        "environment": wish.environment,
        "count": found.predictions,
        "labelled": found.labelled,
        "conflicting": found.conflicting,
        "estimated": found.estimated,
        "damaged": {"places": damage.places, "size_bytes": damage.size_bytes},
        "releases": found.releases,
    }


def facts(row: dict[str, Any]) -> dict[str, Any]:
    """One prediction's stable keys; a number that JSON does not know is null."""
    plain = {name: _finite(value) for name, value in row.items()}
    nested = {
        place: {name.partition(".")[2]: v for name, v in plain.items() if name.startswith(f"{place}.") and v is not None}
        for place in ("inputs", "outputs")
    }
    return {name: value for name, value in plain.items() if "." not in name} | {"at": row["at"].timestamp()} | nested


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def render(newest: list[dict[str, Any]], found: PredictionCounts, environment: str) -> str:
    """One context a prediction, and the counts."""
    if not newest:
        return f"no prediction in {environment} matches"
    lines = [_line(row) for row in newest]
    return f"{table(('when', 'id', 'release', 'answer', 'label', 'key', 'inputs'), lines)}\n\n{summary(found, len(newest))}"


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    outputs = {n.removeprefix("outputs."): v for n, v in row.items() if n.startswith("outputs.") and v is not None}
    answer = _render_value(outputs.pop("prediction", None))
    if "probability" in outputs:
        answer = f"{answer} ({_render_value(outputs['probability'])})"
    inputs = [
        f"{n.removeprefix('inputs.')}={_render_value(v)}" for n, v in row.items() if n.startswith("inputs.") and v is not None
    ]
    release = row["release"] if row["variant"] == "champion" else f"{row['release']} ({row['variant']})"
    label, key = _render_value(row["label"]), _render_value(row["key"])
    return ago(row["at"].timestamp()), row["id"], release, answer, label, key, " ".join(inputs)


def _render_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, int | float):
        return "–" if value is None else str(value)
    return f"{value:g}" if float(value).is_integer() and abs(value) < 1e15 else number(value)


def summary(found: PredictionCounts, shown: int | None) -> str:
    """``1,234 predictions, 56 with a label (v3: 1,000, v2: 234)``."""
    text = f"{plural(found.predictions, 'prediction')}, {found.labelled:,} with a label"
    releases = ", ".join(f"{release}: {count:,}" for release, count in list(found.releases.items())[:5])
    text += f" ({releases})" if found.releases else ""
    if found.conflicting:
        text += f"; {found.conflicting:,} got labels that differ, and the last counts (--where 'labels > 1')"
    if found.estimated != found.predictions:
        text += f"; only a sample was recorded, which stands for about {found.estimated:,}"
    more = found.predictions - (shown if shown is not None else found.predictions)
    return text + (f"; the newest {shown} are shown; --limit or --to gives more" if more else "")
