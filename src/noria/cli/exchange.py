"""`noria data export` and `noria data import`: write a snapshot to one file, and read it back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from noria.cli.context import Home, pass_home
from noria.cli.output import emit, json_option, plural
from noria.cli.versions import at_work, snapshot_facts
from noria.data import exchange
from noria.kernel import names
from noria.kernel.words import size
from noria.releases import dataset_versions

if TYPE_CHECKING:
    from noria.data.exchange import SnapshotImport


@click.command(name="export")
@click.argument("snapshot")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
@pass_home
def export(home: Home, snapshot: str, file: Path, as_json: bool) -> None:
    """Write SNAPSHOT with all its files into FILE, a tar. The same snapshot always gives the same bytes.

    \b
    Example:  noria data export flights@v3 flights-v3.tar
              noria data import flights-v3.tar            (in another project)

    JSON keys: snapshot (as in `noria data log`), file, size_bytes (of FILE).
    """
    home.existing_ledger().close()  # says so where nothing has happened yet
    with at_work(home, as_json) as context:
        facts = dataset_versions.find(context.ledger, context.name, snapshot)
        exchange.export(context, facts, file.resolve())
    written = file.stat().st_size
    text = f"{facts.dataset} {names.short(facts.digest)}: {plural(facts.files, 'file')} written to {file} ({size(written)})"
    emit(as_json, {"snapshot": snapshot_facts(facts), "file": str(file.resolve()), "size_bytes": written}, lambda: text)


@click.command(name="import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--as", "name", metavar="NAME", help="The name of its pin; by default imported-DIGEST.")
@click.option("--into", type=click.Path(file_okay=False, path_type=Path), help="Also copy its files to this new folder.")
@click.option("--even-erased", is_flag=True, help="Also import files that were erased here.")
@json_option
@pass_home
def take_in(home: Home, file: Path, name: str | None, into: Path | None, even_erased: bool, as_json: bool) -> None:
    """Import the snapshot that `noria data export` wrote to FILE, and pin it. If any part of FILE is damaged, nothing is
    imported.

    The snapshot becomes one more version of its dataset: `noria data` lists, compares and checks it out, and it is kept until it
    is unpinned. It does not replace the current files of the dataset, and no run uses it.

    \b
    Example:  noria data import flights-v3.tar
              noria data import flights-v3.tar --as baseline --into old

    JSON keys: snapshot (as in `noria data log`), name, known (the version was there before), added (contents that were not in the
    store), folder (null without --into).
    """
    with at_work(home, as_json) as context:
        found = exchange.take_in(context, file, name, into, erased=even_erased)
    keys = {"name": found.name, "known": found.known, "added": found.added, "folder": found.folder}
    emit(as_json, {"snapshot": snapshot_facts(found.facts)} | keys, lambda: _render(found))


def _render(found: SnapshotImport) -> str:
    facts = found.facts
    what = f"{facts.dataset} {names.short(facts.digest)}: {plural(facts.files, 'file')} ({size(facts.size_bytes)})"
    kept = "was here before" if found.known else f"imported, {found.added:,} of its files new here"
    place = f"written to {found.folder}" if found.folder else f"next: noria data checkout {found.name} --into FOLDER"
    return f"{what}, {kept}\npinned as {found.name}; {place}"
