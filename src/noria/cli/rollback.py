"""`noria rollback`: an earlier release serves again, in milliseconds."""

from __future__ import annotations

import click

from noria.cli.context import Home, actor, pass_home
from noria.cli.output import emit, json_option


@click.command()
@click.option("--environment", "-e", help="Where; the last environment of noria.yaml when not named.")
@click.option("--to", metavar="RELEASE", help="To this one; else to the newest before that nobody barred.")
@json_option
@pass_home
def command(home: Home, environment: str | None, to: str | None, as_json: bool) -> int:
    """Put an earlier release back; a rollout that is under way is ended instead. The one that leaves is barred: a second
    rollback goes one further. The release before is still resident, so that takes milliseconds; an older one is loaded first.

    \b
    Example:
      noria rollback
      noria rollback --environment staging
      noria rollback --to v7

    JSON: environment, release, text, ms.
    """
    from noria.engine import actions, assembly

    context = assembly.assemble(home.path, actor=actor())
    done = actions.roll_back(context, environment, actor(), to)
    emit(as_json, done, lambda: f"{done['text']} ({done['ms']} ms)")
    return 0
