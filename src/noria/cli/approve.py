"""`noria approve`: one person's yes to a release."""

from __future__ import annotations

import click

from noria.cli.context import Home, actor, pass_home
from noria.cli.output import emit, json_option


@click.command()
@click.argument("release")
@click.option("--environment", "-e", help="For which; the last environment of noria.yaml when not named.")
@json_option
@pass_home
def command(home: Home, release: str, environment: str | None, as_json: bool) -> None:
    """Approve of RELEASE (v3) for an environment; a rollout that waits for it goes on by itself.

    \b
    Example:
      noria approve v3
      noria approve v3 --environment production

    JSON: environment, release, text, ms, missing.
    """
    from noria.engine import actions, assembly

    context = assembly.assemble(home.path, actor=actor())
    done = actions.approve(context, release, environment, actor())
    emit(as_json, done, lambda: str(done["text"]))
