"""`noria data diff A B`: what changed between two versions of a dataset, or between two data files."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from noria.cli.context import Home
from noria.cli.output import emit, json_option, plural, table
from noria.cli.versions import snapshot_facts
from noria.data import contents, judge_table_difference
from noria.data.snapshot import FilePin, SnapshotFacts
from noria.data.store import DataStore
from noria.kernel import names
from noria.kernel.errors import NoriaError, UsageError
from noria.kernel.words import size
from noria.releases import dataset_versions
from noria.storage.blobs import BlobStore

if TYPE_CHECKING:
    import polars as pl

    from noria.data.snapshot import SnapshotDifference
    from noria.data.table_change import TableChange, TableDifference

SHOWN = 20  # files of one kind, and changes, that are listed; --all lists every one
READ_MOST_BYTES = 2_000_000_000  # of the files of both sides: more is not compared by content


class DataSide(msgspec.Struct, frozen=True):
    """One of the two: a file, or a version of a dataset with its files."""

    shown: str
    path: Path | None = None
    facts: SnapshotFacts | None = None
    pins: tuple[FilePin, ...] = ()

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size if self.path is not None else sum(pin.size_bytes for pin in self.pins)


class ComparedContents(msgspec.Struct, frozen=True):
    """What came of comparing the contents; ``problem``: why they were not compared."""

    found: TableDifference | None = None
    columns: tuple[int, int] = (0, 0)
    problem: str = ""


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--all", "everything", is_flag=True, help="List every file and every difference, those within chance too.")
@click.option("--files", "files_only", is_flag=True, help="Compare the lists of files only; read none of them.")
@json_option
@click.pass_context
def diff(ctx: click.Context, a: str, b: str, everything: bool, files_only: bool, as_json: bool) -> None:
    """Compare two SNAPSHOTS or data files: which files, then the content (schema, rows, empty cells, values, distributions), the
    largest effect first. Two files need no project.

    An effect is 0 where nothing changed and 1 where nothing is in common. Differences that chance may explain are counted, and
    listed with --all: of all that are called more than chance, the probability that any is not is 1 % (docs/data.md).

    \b
    Example:  noria data diff flights@v3 flights
              noria data diff 3f2a 91bc --json | jq .added
              noria data diff january.csv february.parquet
              noria data diff flights new/2013-02.parquet

    JSON keys: before and after (as in `noria data log`; of a file: file, rows, columns, size_bytes); of two snapshots files,
    rows, size_bytes (each B less A), added [{name, digest, size_bytes, rows}], removed [...], changed [{name, before {...}, after
    {...}}]; content {rows_before, rows_after, changes [{column, kind, measure, effect, before, after, text, beyond_chance,
    p_value, numbers, came, went}], equal, not_compared {column: why}}, or null; problem (why it was not compared).
    """
    start = ctx.find_root().obj or Path(".")
    home = None if all(contents.is_file(one, start) for one in (a, b)) else Home.find(start)
    if home is None:
        before, after = (DataSide(one, path=start / one) for one in (a, b))
        listed = None
    else:
        with closing(home.existing_ledger()) as ledger:
            store = DataStore(ledger, home.project_name())
            before, after = (_side(store, start, one) for one in (a, b))
            listed = _listed(store, before, after)
    if files_only and listed is None:
        raise UsageError("--files compares the files of two snapshots", hint="Leave it out: the content of files is compared.")
    compared = None if files_only or _is_same(before, after) else _contents(home, before, after)
    emit(
        as_json, lambda: _document(before, after, listed, compared), lambda: _render(before, after, listed, compared, everything)
    )


def _side(store: DataStore, start: Path, reference: str) -> DataSide:
    if contents.is_file(reference, start):
        return DataSide(reference, path=start / reference)
    facts = dataset_versions.find(store.ledger, store.project, reference)
    pins = tuple(store.files_of(facts.digest))
    return DataSide(f"{facts.dataset} {names.short(facts.digest)}", facts=facts, pins=pins)


def _listed(store: DataStore, before: DataSide, after: DataSide) -> SnapshotDifference | None:
    """The files that differ, of two versions of one dataset; None where one is a file. Raises UsageError for two datasets."""
    if before.facts is None or after.facts is None:
        return None
    if before.facts.dataset != after.facts.dataset:
        raise UsageError(
            f"{before.shown} and {after.shown} are of two datasets", hint="Two versions of one dataset can be compared, or files."
        )
    return store.difference(before.facts.digest, after.facts.digest)


def _is_same(before: DataSide, after: DataSide) -> bool:
    return before.facts is not None and after.facts is not None and before.facts.digest == after.facts.digest


# --- contents


def _contents(home: Home | None, before: DataSide, after: DataSide) -> ComparedContents:
    """The content of both. Of two files it raises DataError; where versions cannot be read, it says why."""
    if before.path is not None and after.path is not None:
        return _judged(contents.read_file(before.path).comparable, contents.read_file(after.path).comparable)
    total = before.size_bytes + after.size_bytes
    if total > READ_MOST_BYTES:
        return ComparedContents(problem=f"the content has {size(total)}; up to {size(READ_MOST_BYTES)} are compared")
    same = {(pin.name, pin.digest) for pin in before.pins} & {(pin.name, pin.digest) for pin in after.pins}
    try:
        first, second = (_read(home, side, same) for side in (before, after))
    except NoriaError as error:
        return ComparedContents(problem=f"{error.where}: {error.message}" if error.where else error.message)
    return _judged(first, second, sum(pin.rows for pin in before.pins if (pin.name, pin.digest) in same))


def _judged(before: pl.DataFrame, after: pl.DataFrame, shared: int = 0) -> ComparedContents:
    return ComparedContents(judge_table_difference.judge(before, after, shared), (before.width, after.width))


def _read(home: Home | None, side: DataSide, same: set[tuple[str, str]]) -> pl.DataFrame:
    """The rows of one side; files that both versions have come first."""
    if side.path is not None or side.facts is None or home is None:
        return contents.read_file(side.path or Path(side.shown)).comparable
    blobs = BlobStore(home.state / "blobs")
    ordered = sorted(side.pins, key=lambda pin: ((pin.name, pin.digest) not in same, pin.name))
    with contents.version_files(blobs, ordered) as files:
        return contents.read_version(home.project().data.get(side.facts.dataset), files)


# --- output


def _document(
    before: DataSide, after: DataSide, listed: SnapshotDifference | None, compared: ComparedContents | None
) -> dict[str, Any]:
    widths = compared.columns if compared is not None else (0, 0)
    heights = (compared.found.rows_before, compared.found.rows_after) if compared is not None and compared.found else (0, 0)
    sides: list[dict[str, Any]] = [
        snapshot_facts(side.facts)
        if side.facts is not None
        else {"file": side.shown, "rows": heights[place], "columns": widths[place], "size_bytes": side.size_bytes}
        for place, side in enumerate((before, after))
    ]
    document: dict[str, Any] = {"before": sides[0], "after": sides[1]}
    if listed is not None:
        document |= {key: sides[1][key] - sides[0][key] for key in ("files", "rows", "size_bytes")}
        document |= {
            "added": [_file_facts(pin) for pin in listed.added],
            "removed": [_file_facts(pin) for pin in listed.removed],
            "changed": [{"name": a.name, "before": _file_facts(a), "after": _file_facts(b)} for a, b in listed.changed],
        }
    found = compared.found if compared is not None else None
    document["content"] = msgspec.to_builtins(found) if found is not None else None
    return document | {"problem": compared.problem if compared is not None else ""}


def _file_facts(pin: FilePin) -> dict[str, Any]:
    return {"name": pin.name, "digest": pin.digest, "size_bytes": pin.size_bytes, "rows": pin.rows}


def _render(
    before: DataSide,
    after: DataSide,
    listed: SnapshotDifference | None,
    compared: ComparedContents | None,
    everything: bool,
) -> str:
    lines = []
    if listed is not None and before.facts is not None and after.facts is not None:
        lines.append(_render_files(before.facts, after.facts, listed, everything))
    if compared is not None:
        lines += [""] if lines else []
        lines += [f"content not compared: {compared.problem}"] if compared.problem else []
        lines += _render_content(before, after, compared.found, everything) if compared.found is not None else []
    return "\n".join(lines)


def _render_files(before: SnapshotFacts, after: SnapshotFacts, found: SnapshotDifference, everything: bool) -> str:
    sides = f"{before.dataset}: {names.short(before.digest)} → {names.short(after.digest)}"
    if before.digest == after.digest:
        return f"{sides}: the same version"
    signed = f"{after.rows - before.rows:+,} rows, {after.size_bytes - before.size_bytes:+,} bytes"
    counts = f"{len(found.added):,} added, {len(found.removed):,} removed, {len(found.changed):,} changed"
    rows = [("added", pin.name, f"{pin.rows:+,}", f"{pin.size_bytes:+,}") for pin in found.added]
    rows += [("removed", pin.name, f"{-pin.rows:+,}", f"{-pin.size_bytes:+,}") for pin in found.removed]
    rows += [("changed", b.name, f"{b.rows - a.rows:+,}", f"{b.size_bytes - a.size_bytes:+,}") for a, b in found.changed]
    shown = rows if everything else rows[:SHOWN]
    more = [f"... and {len(rows) - len(shown):,} more (--all)"] if len(rows) > len(shown) else []
    body = [table(("", "file", "rows", "bytes"), shown)] if shown else []
    return "\n".join([f"{sides}: {counts}; {signed}", *body, *more])


def _render_content(before: DataSide, after: DataSide, found: TableDifference, everything: bool) -> list[str]:
    certain = [change for change in found.changes if change.beyond_chance]
    chance = [change for change in found.changes if not change.beyond_chance]
    rows = f"{found.rows_before:,} → {plural(found.rows_after, 'row')}"
    counts = f"{plural(len(certain), 'difference')} beyond chance"
    lines = [f"{before.shown} → {after.shown}: {rows}; {counts}"]
    shown = [*certain, *chance] if everything else [*certain[:SHOWN], *(one for one in chance if one.came or one.went)]
    if shown:
        lines.append(table(("effect", "column", "what", "before → after"), [_row(one) for one in shown]))
    more = len(certain) - SHOWN
    lines += [f"... and {more:,} more (--all)"] if more > 0 and not everything else []
    hidden = len(chance) - sum(1 for one in shown if not one.beyond_chance)
    lines += [f"{plural(hidden, 'more difference')} that chance may explain (--all)"] if hidden else []
    lines += ["effect: 0 is no difference, 1 is nothing in common"] if shown else []
    lines += [f"equal: {', '.join(found.equal)}"] if found.equal else []
    lines += [f"not compared: {name} ({why})" for name, why in found.not_compared.items()]
    return lines


def _row(change: TableChange) -> tuple[str, ...]:
    words = f"{change.before} → {change.after}; {change.text}"
    maybe = "" if change.beyond_chance else "(maybe chance) "
    return (f"{change.effect:.2f}", change.column or "(table)", change.kind, f"{maybe}{words}")
