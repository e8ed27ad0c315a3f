"""`noria data`: versions of datasets listed, compared, copied out, kept and moved; what was refused; what is damaged."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from noria.cli.context import Home, pass_home
from noria.cli.lazy_group import LazyGroup
from noria.cli.output import ago, emit, json_option, plural, table
from noria.cli.versions import at_work, snapshot_facts
from noria.data import versions
from noria.data.store import DataStore
from noria.kernel import names
from noria.kernel.errors import UsageError
from noria.kernel.words import size
from noria.releases import dataset_versions
from noria.storage.blobs import BlobStore

if TYPE_CHECKING:
    from noria.data.snapshot import FilePin, SnapshotDifference, SnapshotFacts
    from noria.releases.dataset_versions import Version

OTHERS = {  # those that need more than a list of versions
    "export": ("noria.cli.exchange:export", "Write SNAPSHOT with all its files into FILE, a tar."),
    "import": ("noria.cli.exchange:take_in", "Take in the snapshot that `noria data export` wrote to FILE."),
    "quarantine": ("noria.cli.quarantine:quarantine", "List what was refused, when and why; or write out the failing rows."),
    "verify": ("noria.cli.verify:verify", "Read every blob that something needs, and each release's bundle."),
    "erase": ("noria.cli.erase:erase", "Erase a FILE, or all files of a SNAPSHOT, for good."),
}
SHOWN = 20  # files of one kind that are listed; --all lists every one


@click.group(cls=LazyGroup, lazy=OTHERS)
def command() -> None:
    """Versions of your datasets: list, compare, copy out, keep, move, erase; what was refused.

    A SNAPSHOT is named by the beginning of its digest, by its dataset (`flights`: the newest), by a release that used it
    (`flights@v3`), or by the name of a pin.

    \b
    Example:  noria data log flights
              noria data diff flights@v3 flights
              noria data checkout flights@v3 --into old
    """


# --- log


@command.command()
@click.argument("dataset", required=False)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000), help="How many, newest first.")
@json_option
@pass_home
def log(home: Home, dataset: str | None, limit: int, as_json: bool) -> None:
    """List the versions of DATASET, or of every dataset, newest first.

    \b
    Example:  noria data log
              noria data log flights --limit 5

    JSON keys: snapshots [{dataset, digest, files, rows, size_bytes, at, current, releases, pinned, erased (a file of it was)}].
    """
    with closing(home.existing_ledger()) as ledger:
        found = dataset_versions.known_versions(ledger, BlobStore(home.state / "blobs"), home.project_name(), dataset, limit)
    document = {"snapshots": [_version_facts(one) for one in found]}
    emit(as_json, document, lambda: _render_log(found))


def _version_facts(one: Version) -> dict[str, Any]:
    names_of = {"current": one.current, "releases": list(one.releases), "pinned": list(one.pinned), "erased": one.erased}
    return snapshot_facts(one.facts) | names_of


def _render_log(found: list[Version]) -> str:
    if not found:
        return "no data was taken in yet; next: noria run"
    head = ("dataset", "snapshot", "first seen", "files", "rows", "size", "used by")
    return table(head, [_log_row(one) for one in found])


def _log_row(one: Version) -> tuple[str, ...]:
    used = [*(["now"] if one.current else []), *one.releases, *(f"pin {name}" for name in one.pinned)]
    used += ["not whole: erased"] if one.erased else []
    facts = one.facts
    rows = f"{facts.rows:,}" if facts.rows else "–"
    counts = (f"{facts.files:,}", rows, size(facts.size_bytes))
    return (facts.dataset, names.short(facts.digest), ago(facts.at), *counts, ", ".join(used))


# --- diff


@command.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--all", "everything", is_flag=True, help="List every file.")
@json_option
@pass_home
def diff(home: Home, a: str, b: str, everything: bool, as_json: bool) -> None:
    """Compare two SNAPSHOTS: files added, removed and changed from A to B, with rows and bytes.

    \b
    Example:  noria data diff flights@v3 flights
              noria data diff 3f2a 91bc --json | jq .added

    JSON keys: before and after (as in `noria data log`), files, rows, size_bytes (each B less A), added [{name, digest,
    size_bytes, rows}], removed [...], changed [{name, before {...}, after {...}}].
    """
    with closing(home.existing_ledger()) as ledger:
        project = home.project_name()
        before, after = (dataset_versions.find(ledger, project, reference) for reference in (a, b))
        if before.dataset != after.dataset:
            raise UsageError(
                f"{a} is of {before.dataset}, {b} of {after.dataset}", hint="Two versions of one dataset can be compared."
            )
        found = DataStore(ledger, project).difference(before.digest, after.digest)
    emit(as_json, lambda: _diff_facts(before, after, found), lambda: _render_diff(before, after, found, everything))


def _diff_facts(before: SnapshotFacts, after: SnapshotFacts, found: SnapshotDifference) -> dict[str, Any]:
    return {
        "before": snapshot_facts(before),
        "after": snapshot_facts(after),
        "files": after.files - before.files,
        "rows": after.rows - before.rows,
        "size_bytes": after.size_bytes - before.size_bytes,
        "added": [_file_facts(pin) for pin in found.added],
        "removed": [_file_facts(pin) for pin in found.removed],
        "changed": [{"name": a.name, "before": _file_facts(a), "after": _file_facts(b)} for a, b in found.changed],
    }


def _file_facts(pin: FilePin) -> dict[str, Any]:
    return {"name": pin.name, "digest": pin.digest, "size_bytes": pin.size_bytes, "rows": pin.rows}


def _render_diff(before: SnapshotFacts, after: SnapshotFacts, found: SnapshotDifference, everything: bool) -> str:
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


# --- checkout


@command.command()
@click.argument("snapshot")
@click.option("--into", required=True, type=click.Path(file_okay=False, path_type=Path), help="The folder to write to.")
@click.option(
    "--link",
    default="reflink",
    show_default=True,
    type=click.Choice(["reflink", "hardlink", "copy"]),
    help="reflink: shares blocks where the file system can, else copies; hardlink: the store's own files, read-only.",
)
@click.option("--force", is_flag=True, help="Replace files that are there and differ.")
@json_option
@pass_home
def checkout(home: Home, snapshot: str, into: Path, link: str, force: bool, as_json: bool) -> None:
    """Write the files of SNAPSHOT into a folder, under their own names. What is there and differs is never overwritten unasked.

    \b
    Example:  noria data checkout flights@v3 --into old
              noria data checkout baseline --into old --link hardlink

    JSON keys: snapshot (as in `noria data log`), folder, written, same, size_bytes.
    """
    with at_work(home, as_json) as context:
        facts = dataset_versions.find(context.ledger, context.name, snapshot)
        done = versions.checkout(context, facts, into, versions.LinkKind(link), force=force)
    document = {"snapshot": snapshot_facts(facts), "folder": done.folder, "written": done.written, "same": done.same}
    same = f", {done.same:,} were there" if done.same else ""
    text = f"{facts.dataset} {names.short(facts.digest)}: {plural(done.written, 'file')} written to {done.folder}{same}"
    emit(as_json, document | {"size_bytes": done.size_bytes}, lambda: f"{text} ({size(done.size_bytes)})")


# --- pin and unpin


@command.command()
@click.argument("snapshot")
@click.argument("name")
@json_option
@pass_home
def pin(home: Home, snapshot: str, name: str, as_json: bool) -> None:
    """Keep SNAPSHOT for ever, under NAME: no `noria gc` takes its files.

    \b
    Example:  noria data pin flights@v3 baseline

    JSON keys: name, snapshot (as in `noria data log`).
    """
    with at_work(home, True) as context:
        facts = dataset_versions.pin(context, snapshot, name)
    text = f"{name}: {facts.dataset} {names.short(facts.digest)}, {plural(facts.files, 'file')}, kept for ever"
    emit(as_json, {"name": name, "snapshot": snapshot_facts(facts)}, lambda: text)


@command.command()
@click.argument("name")
@json_option
@pass_home
def unpin(home: Home, name: str, as_json: bool) -> None:
    """Let a pinned snapshot go. It stays as long as something else needs it.

    \b
    Example:  noria data unpin baseline

    JSON keys: name, digest.
    """
    with at_work(home, True) as context:
        digest = dataset_versions.unpin(context, name)
    emit(as_json, {"name": name, "digest": digest}, lambda: f"{names.short(digest)} is no longer pinned as {name}")
