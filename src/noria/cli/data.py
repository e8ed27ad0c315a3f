"""`noria data`: lists, compares, checks out, pins, exports and verifies versions of datasets, and lists refused files."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from noria.cli.context import Home, pass_home
from noria.cli.lazy_group import LazyGroup
from noria.cli.output import ago, emit, json_option, plural, table
from noria.cli.versions import at_work, snapshot_facts
from noria.data import versions
from noria.kernel import names
from noria.kernel.words import size
from noria.releases import dataset_versions
from noria.storage.blobs import BlobStore

if TYPE_CHECKING:
    from noria.releases.dataset_versions import IrregularFile, Version

OTHERS = {  # those that need more than a list of versions
    "check": ("noria.cli.data_check:check_file", "Check a data FILE, against a contract or by itself; no project is needed."),
    "diff": ("noria.cli.data_diff:diff", "Compare two SNAPSHOTS or data files: files, schema, and what changed in the content."),
    "infer": ("noria.cli.data_infer:infer", "Draft a contract from a dataset of the project, or from any data FILE."),
    "contract": ("noria.cli.data_contract:contract", "Write a contract in the Open Data Contract Standard (ODCS)."),
    "export": ("noria.cli.exchange:export", "Write SNAPSHOT with all its files into FILE, a tar."),
    "import": ("noria.cli.exchange:take_in", "Import the snapshot that `noria data export` wrote to FILE."),
    "quarantine": ("noria.cli.quarantine:quarantine", "List refused files; show, export, release or discard one."),
    "personal": ("noria.cli.personal:personal", "Report personal data in a FILE or DATASET: kinds, columns and counts."),
    "verify": ("noria.cli.verify:verify", "Verify every blob that is needed, and each release's bundle."),
    "erase": ("noria.cli.erase:erase", "Erase a FILE, or all files of a SNAPSHOT, permanently."),
}


@click.group(cls=LazyGroup, lazy=OTHERS)
def command() -> None:
    """List, compare, check out, pin, export, import and erase versions of your datasets; list refused files.

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
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000), help="How many snapshots, newest first.")
@json_option
@pass_home
def log(home: Home, dataset: str | None, limit: int, as_json: bool) -> None:
    """List the versions of DATASET, or of every dataset, newest first.

    \b
    Example:  noria data log
              noria data log flights --limit 5

    JSON keys: snapshots [{dataset, digest, files, rows, size_bytes, at, current, releases, pinned, erased (a file of it was),
    irregular [{name, delivery, dropped_rows, by (who released it from quarantine), why}]}].
    """
    with closing(home.existing_ledger()) as ledger:
        found = dataset_versions.known_versions(ledger, BlobStore(home.state / "blobs"), home.project_name(), dataset, limit)
    document = {"snapshots": [_version_facts(one) for one in found]}
    emit(as_json, document, lambda: _render_log(found))


def _version_facts(one: Version) -> dict[str, Any]:
    names_of = {"current": one.current, "releases": list(one.releases), "pinned": list(one.pinned), "erased": one.erased}
    return snapshot_facts(one.facts) | names_of | {"irregular": [msgspec.to_builtins(file) for file in one.irregular]}


def _render_log(found: list[Version]) -> str:
    if not found:
        return "there are no snapshots yet; next: noria run"
    head = ("dataset", "snapshot", "first seen", "files", "rows", "size", "used by")
    shown = table(head, [_log_row(one) for one in found])
    notes = dict.fromkeys(_irregular_words(file) for one in found for file in one.irregular)
    return "\n".join([shown, *(["", *notes] if notes else [])])


def _irregular_words(file: IrregularFile) -> str:
    if file.by:
        return f"{file.name} was released from quarantine by {file.by}: {file.why} ({file.delivery})"
    return f"{file.name} is without {plural(file.dropped_rows, 'row')} that broke the contract ({file.delivery})"


def _log_row(one: Version) -> tuple[str, ...]:
    used = [*(["now"] if one.current else []), *one.releases, *(f"pin {name}" for name in one.pinned)]
    used += ["incomplete: files were erased"] if one.erased else []
    released, dropped = sum(bool(f.by) for f in one.irregular), sum(f.dropped_rows for f in one.irregular)
    used += [f"{plural(released, 'file')} released from quarantine"] if released else []
    used += [f"without {plural(dropped, 'row')} that failed"] if dropped else []
    facts = one.facts
    rows = f"{facts.rows:,}" if facts.rows else "–"
    counts = (f"{facts.files:,}", rows, size(facts.size_bytes))
    return (facts.dataset, names.short(facts.digest), ago(facts.at), *counts, ", ".join(used))


# --- checkout


@command.command()
@click.argument("snapshot")
@click.option("--into", required=True, type=click.Path(file_okay=False, path_type=Path), help="The folder to write to.")
@click.option(
    "--link",
    default="reflink",
    show_default=True,
    type=click.Choice(["reflink", "hardlink", "copy"]),
    help="reflink: share blocks if the file system can, else copy; hardlink: link to the store's own files, read-only.",
)
@click.option("--force", is_flag=True, help="Replace files that are there and differ.")
@json_option
@pass_home
def checkout(home: Home, snapshot: str, into: Path, link: str, force: bool, as_json: bool) -> None:
    """Write the files of SNAPSHOT into a folder, under their own names. Without --force, no file there is overwritten with other
    content.

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
    """Pin SNAPSHOT under NAME: `noria gc` keeps its files until it is unpinned.

    \b
    Example:  noria data pin flights@v3 baseline

    JSON keys: name, snapshot (as in `noria data log`).
    """
    with at_work(home, True) as context:
        facts = dataset_versions.pin(context, snapshot, name)
    text = f"{name}: {facts.dataset} {names.short(facts.digest)}, {plural(facts.files, 'file')}, kept until it is unpinned"
    emit(as_json, {"name": name, "snapshot": snapshot_facts(facts)}, lambda: text)


@command.command()
@click.argument("name")
@json_option
@pass_home
def unpin(home: Home, name: str, as_json: bool) -> None:
    """Unpin a snapshot. It stays as long as something else needs it.

    \b
    Example:  noria data unpin baseline

    JSON keys: name, digest.
    """
    with at_work(home, True) as context:
        digest = dataset_versions.unpin(context, name)
    emit(as_json, {"name": name, "digest": digest}, lambda: f"{names.short(digest)} is no longer pinned as {name}")
