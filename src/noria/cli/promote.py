"""`noria promote`: a sealed release serves an environment, because a person says so."""

from __future__ import annotations

import click

from noria.cli.context import Home, actor, pass_home
from noria.cli.output import emit, json_option


@click.command()
@click.argument("release")
@click.option("--environment", "-e", help="Where; the last environment of noria.yaml when not named.")
@click.option("--force", is_flag=True, help="In a freeze too.")
@json_option
@pass_home
def command(home: Home, release: str, environment: str | None, force: bool, as_json: bool) -> int:
    """Let RELEASE (v3) serve an environment at once; counts as an approval, and lifts a bar. Refused in a freeze, and while
    more people must approve.

    \b
    Example:
      noria promote v3
      noria promote v3 --environment staging

    JSON: environment, release, text, ms.
    """
    from noria.engine import actions, assembly

    context = assembly.assemble(home.path, actor=actor())
    done = actions.promote(context, release, environment, actor(), force=force)
    emit(as_json, done, lambda: f"{done['text']} ({done['ms']} ms)")
    return 0
