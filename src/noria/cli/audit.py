"""`noria audit`: the hash-chained log of every change of state."""

from __future__ import annotations

from contextlib import closing

import click
import msgspec

from noria.cli.context import Home, actor, pass_home
from noria.cli.output import ExitCode, emit, json_option, moment, table
from noria.kernel.errors import RefusedError
from noria.releases import signing
from noria.trust import audit
from noria.views.status import event_facts, newest_events


@click.group()
def command() -> None:
    """Read and verify the audit log.

    \b
    Example:  noria audit verify
              noria audit log --limit 20
              noria audit accept
              noria audit new-key
    """


@command.command()
@json_option
@pass_home
def verify(home: Home, as_json: bool) -> int:
    """Verify the hash chain, its signed end, and that the present state agrees with the events.

    Works offline, and on a state folder that cannot be written. Exit code 1 when something is wrong.

    \b
    Example:  noria audit verify

    JSON keys: ok, events, first_bad_seq, problems [sentences], unsigned (newest events that no signature covers yet), text.
    """
    with home.ledger_to_read() as ledger:
        found = audit.verify(ledger, home.state)
    facts = msgspec.structs.asdict(found)
    document = {"ok": found.ok, **{name: value for name, value in facts.items() if name != "state"}}
    emit(as_json, document, lambda: "\n".join(found.problems) or found.text)
    return ExitCode.PASSED if found.ok else ExitCode.NO


@command.command()
@json_option
@pass_home
def accept(home: Home, as_json: bool) -> None:
    """Sign the log as it is now, after a verification found events missing that nobody can restore.

    The findings go into the log and stay there; later verifications do not report them again. A broken chain stays broken.

    \b
    Example:  noria audit accept

    JSON keys: accepted [sentences], events.
    """
    with closing(home.existing_ledger()) as ledger:
        found = audit.verify(ledger, home.state)
        if found.ok:
            raise RefusedError("nothing is wrong with the log", hint="`noria audit verify` says so.")
        text = f"{actor()} accepts the log as it stands: {found.text}"
        ledger.events.append(home.project_name(), audit.ACCEPTED, "audit", text, {"state": list(found.state)}, actor=actor())
        ledger.head.accept(lambda data: signing.sign(home.state, data))
    emit(as_json, {"accepted": list(found.problems), "events": found.events + 1}, lambda: text)


@command.command("new-key")
@json_option
@pass_home
def new_key(home: Home, as_json: bool) -> None:
    """Make a new signing key when the old one is lost for good. What the old one signed stays valid as long as signing.pub, its
    public half, is there: restore that file first.

    Refused while the old key is there.

    \b
    Example:  noria audit new-key

    JSON keys: key (the new public key), text.
    """
    with closing(home.existing_ledger()) as ledger:
        lost = not (home.state / signing.PUBLIC).exists()
        key = signing.make_new(home.state)
        text = f"a new signing key was made, {key[:16]}..., in place of one that is lost"
        text += ", and its public half too: releases that it sealed cannot be verified any more" if lost else ""
        ledger.events.append(home.project_name(), "key.made", key[:16], text, {"key": key}, actor=actor())
    emit(as_json, {"key": key, "text": text}, lambda: f"{text}\nback {home.state / signing.KEY} up")


@command.command()
@click.option(
    "--limit", default=30, show_default=True, type=click.IntRange(1, 100_000), help="How many events; the newest is printed last."
)
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
