"""`noria reproduce`: build a release again from its record, and compare."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import msgspec

from noria.cli.context import Home, actor, pass_home
from noria.cli.output import ExitCode, emit, json_option, pairs


@click.command()
@click.argument("release")
@click.option("--into", type=click.Path(path_type=Path), help="A new folder to build in; a temporary one when not named.")
@json_option
@pass_home
def command(home: Home, release: str, into: Path | None, as_json: bool) -> int:
    """Rebuild RELEASE from its commit, data, parameters and environment, with every step cache off.

    \b
    Example:
      noria reproduce v1
      noria reproduce v1 --into /tmp/again

    Exit code 0 when bytes or metrics agree, 1 when they do not.
    JSON: release, agrees, bytes_agree, metrics_agree, worst_difference, environment, folder, text.
    """
    from noria.engine import assembly
    from noria.engine.reproduce import reproduce

    progress = (lambda _: None) if as_json else (lambda text: click.echo(text, err=True))
    line = assembly.assemble(home.path, actor=actor(), progress=progress, warm=1)
    try:
        folder = into or Path(tempfile.mkdtemp(prefix=f"noria-{release}-"))
        found = reproduce(line, line.ledger.releases.get(line.name, release), folder.resolve())
    finally:
        line.executor.close()
    line.event("release.reproduced", found.release, found.text, agrees=found.agrees)
    emit(as_json, msgspec.to_builtins(found), lambda: pairs([("result", found.text), ("folder", found.folder)]))
    return ExitCode.PASSED if found.agrees else ExitCode.NO
