"""`noria audit`: the hash-chained log of every change of state."""

from __future__ import annotations

from contextlib import closing

import click

from noria.cli.context import Home, actor, pass_home
from noria.cli.output import ExitCode, emit, json_option, moment, table
from noria.console.view import event_facts, newest_events


@click.group()
def command() -> None:
    """Read and verify the audit log.

    \b
    Example:  noria audit verify
              noria audit log --limit 20
              noria audit new-key
    """


@command.command()
@json_option
@pass_home
def verify(home: Home, as_json: bool) -> int:
    """Check the whole hash chain, offline. Exit code 1 when it is broken.

    \b
    Example:  noria audit verify

    JSON keys: ok, events, first_bad_seq, text.
    """
    with closing(home.existing_ledger()) as ledger:
        chain = ledger.events.verify()
    document = {"ok": chain.ok, "events": chain.count, "first_bad_seq": chain.first_bad_seq, "text": chain.text}
    emit(as_json, document, lambda: chain.text)
    return ExitCode.PASSED if chain.ok else ExitCode.NO


@command.command("new-key")
@json_option
@pass_home
def new_key(home: Home, as_json: bool) -> None:
    """Make a new signing key where the old one is lost for good. What the old one signed stays valid.

    It is refused while the old key is there.

    \b
    Example:  noria audit new-key

    JSON keys: key (the new public key), text.
    """
    from noria.adapters import signing

    with closing(home.existing_ledger()) as ledger:
        key = signing.make_new(home.state)
        text = f"a new signing key was made, {key[:16]}..., in place of one that is lost"
        ledger.events.append(home.project_name(), "key.made", key[:16], text, {"key": key}, actor=actor())
    emit(as_json, {"key": key, "text": text}, lambda: f"{text}\nback {home.state / signing.KEY} up")


@command.command()
@click.option("--limit", default=30, show_default=True, type=click.IntRange(1, 100_000), help="How many, the newest last.")
@json_option
@pass_home
def log(home: Home, limit: int, as_json: bool) -> None:
    """Print the latest events, the newest last.

    \b
    Example:  noria audit log --limit 100

    JSON keys: events [{seq, project, at, clock_at, clock_speed, actor, kind, subject, text, facts, previous, hash}].
    """
    with closing(home.existing_ledger()) as ledger:
        events = newest_events(ledger, home.project_name(), limit)[::-1]
    rows = [(e.seq, moment(e.at), e.actor, e.kind, e.text) for e in events]
    emit(as_json, {"events": [event_facts(e) for e in events]}, lambda: table(("seq", "at", "actor", "kind", "what"), rows))
