"""`noria rollback`: the previous release serves again, in milliseconds."""

from __future__ import annotations

import click

from noria.cli.context import Home, actor, pass_home
from noria.cli.output import emit, json_option


@click.command()
@click.option("--environment", "-e", help="Where; the last environment of noria.yaml when not named.")
@json_option
@pass_home
def command(home: Home, environment: str | None, as_json: bool) -> int:
    """Put the previous release back; an undecided canary is ended instead. Nothing is loaded: it is still resident.

    \b
    Example:
      noria rollback
      noria rollback --environment staging

    JSON: environment, release, text, ms.
    """
    from noria.engine import actions, assembly

    line = assembly.assemble(home.path, actor=actor())
    done = actions.roll_back(line, environment, actor())
    emit(as_json, done, lambda: f"{done['text']} ({done['ms']} ms)")
    return 0
