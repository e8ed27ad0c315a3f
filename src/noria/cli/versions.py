"""What the data commands share: their context, and the keys of a snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
import msgspec

from noria.cli.context import Home, actor

if TYPE_CHECKING:
    from noria.data.snapshot import SnapshotFacts
    from noria.delivery.context import DeliveryContext


@contextmanager
def at_work(home: Home, quiet: bool) -> Iterator[DeliveryContext]:
    """Opens the project's context.

    Progress goes to standard error, unless ``quiet``: with --json, or where one sentence is the whole output.
    """
    from noria.engine import assembly  # steps and sources: a command that only asks for a size needs neither

    context = assembly.assemble(home.path, actor=actor(), progress=_quiet if quiet else _tell)
    try:
        yield context
    finally:
        context.executor.close()
        context.ledger.close()


def _quiet(_: str) -> None:
    """JSON goes to programs: no progress in between."""


def _tell(text: str) -> None:
    click.echo(text, err=True)


def snapshot_facts(facts: SnapshotFacts) -> dict[str, Any]:
    """A version's stable keys: dataset, digest, files, rows, size_bytes, at."""
    found: dict[str, Any] = msgspec.to_builtins(facts)
    return found
