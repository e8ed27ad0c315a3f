"""`noria releases export` and `verify`: a release as one self-contained file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from noria.cli.context import Home, actor, pass_home
from noria.cli.exported import public_keys
from noria.cli.output import emit, json_option, pairs, plural
from noria.engine import assembly
from noria.kernel.words import size
from noria.releases import export as exporting
from noria.releases import export_reader
from noria.releases.export_facts import ExportFacts
from noria.releases.store import ReleaseStore


@click.command("export")
@click.argument("release")
@click.option("--into", type=click.Path(path_type=Path), help="The file to write; by default RELEASE.noria.tar in this folder.")
@click.option("--without-data", is_flag=True, help="Leave the datasets out: the file can be served, but not reproduced.")
@json_option
@pass_home
def export(home: Home, release: str, into: Path | None, without_data: bool, as_json: bool) -> None:
    """Export RELEASE to one signed file: bundle, code, data, environment record. `noria reproduce FILE` rebuilds it anywhere.

    \b
    Example:  noria releases export v3
              noria releases export v3 --into v3.noria.tar --without-data

    JSON keys: file, size_bytes, release, project, digest, commit, key, snapshots {dataset: digest}, left_out, lock.
    """
    context = assembly.assemble(home.path, actor=actor(), progress=(lambda _: None) if as_json else _tell)
    try:
        found = ReleaseStore.of(context).get(release)
        target = (into or Path(f"{found.version}.noria.tar")).resolve()
        facts = exporting.export(context, found, target, with_data=not without_data)
        text = f"{found.version} exported to {target.name}{' without its data' if without_data else ''}"
        context.event("release.exported", found.version, text, key=facts.key, data=not without_data)
    finally:
        context.executor.close()
    _emit(facts, target, as_json)


@click.command("verify")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), help="The public key (signing.pub) that it must be signed with.")
@json_option
def verify(file: Path, key: Path | None, as_json: bool) -> None:
    """Verify an exported FILE: its signature and digests, and that nothing is missing or added. Nothing in it runs.

    \b
    Example:  noria releases verify v3.noria.tar --key signing.pub

    JSON keys: as for `noria releases export`.
    """
    facts = export_reader.inspect(file, public_keys(key) if key is not None else (), (lambda _: None) if as_json else _tell)
    _emit(facts, file.resolve(), as_json)


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _emit(facts: ExportFacts, path: Path, as_json: bool) -> None:
    document: dict[str, Any] = {
        "file": str(path),
        "size_bytes": path.stat().st_size,
        "release": facts.release.version,
        "project": facts.release.project,
        "digest": facts.release.digest,
        "commit": facts.release.commit,
        "key": facts.key,
        "snapshots": facts.snapshots,
        "left_out": list(facts.left_out),
        "lock": facts.lock,
    }
    data = ", ".join(facts.snapshots) or ("none: it can be served, but not reproduced" if facts.left_out else "none")
    what = f"{facts.release.version} of {facts.release.project}, {facts.release.form}, {plural(len(facts.pieces), 'file')}"
    items = [("file", f"{path} ({size(document['size_bytes'])})"), ("release", what), ("data", data), ("signed with", facts.key)]
    emit(as_json, document, lambda: pairs(items))
