"""`noria up`: runs the daemon, the model server and the console until Ctrl-C."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from noria.cli.context import Home, pass_home
from noria.cli.output import json_option, pairs, plain, to_json
from noria.engine import assembly
from noria.kernel.access import HOST
from noria.kernel.errors import UsageError

if TYPE_CHECKING:
    from noria.storage.ledger import Ledger


def address(text: str | None) -> tuple[str, int] | None:
    """``127.0.0.1:8000`` or ``:0``; port 0 takes any free one. Raises UsageError."""
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise UsageError(f"{text!r} is not HOST:PORT", hint="As in 127.0.0.1:8000; port 0 takes any free one.")
    return host or HOST, int(port)


@click.command()
@click.option("--serve", metavar="HOST:PORT", help="The address of the first environment; others take the next ports.")
@click.option("--console", "console_at", metavar="HOST:PORT", help="The address of the console.")
@json_option
@pass_home
def command(home: Home, serve: str | None, console_at: str | None, as_json: bool) -> int:
    """Watch code and data, run turns, serve the champion, drive rollouts. Ctrl-C stops everything.

    The model server runs in separate processes: it keeps answering if this process is killed, and the next `noria up` adopts it.

    \b
    Example:
      noria up
      noria up --serve 127.0.0.1:9000 --console 127.0.0.1:0

    JSON: one document when everything runs (addresses, token_file), then one line for each event.
    """
    from noria import daemon  # uvicorn, polars: only the daemon needs them

    context = assembly.assemble(home.path, warm=6)
    news = _News(context.ledger, context.name, as_json)
    wheel = daemon.Daemon(context, serve=address(serve), console_at=address(console_at))
    daemon.run(wheel, lambda found: _print_addresses(home, found, as_json), news.tell)
    return 0


def _print_addresses(home: Home, addresses: dict[str, str], as_json: bool) -> None:
    if as_json:
        click.echo(to_json({"addresses": addresses, "token_file": str(home.state / "token")}))
        return
    shown = [(name, url) for name, url in addresses.items() if name != "console"]
    shown.append(("console", f"{addresses['console']}/?token={home.token()}"))
    click.echo(pairs(shown))
    click.echo("watching code and data; Ctrl-C stops\n")


class _News:
    """Prints every event of the project once, as it happens."""

    def __init__(self, ledger: Ledger, name: str, as_json: bool) -> None:
        self.ledger, self.name, self.as_json = ledger, name, as_json
        self.after = ledger.events.latest_seq()

    def tell(self) -> None:
        for event in self.ledger.events.tail(self.name, after=self.after, limit=200):
            self.after = event.seq
            if self.as_json:
                click.echo(to_json({"seq": event.seq, "kind": event.kind, "subject": event.subject, "text": event.text}))
            else:
                click.echo(f"{time.strftime('%H:%M:%S', time.localtime(event.at))}  {plain(event.text)}")
