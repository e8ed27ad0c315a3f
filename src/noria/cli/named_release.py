"""The release that a command names: an exported file, or one of this project's versions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import click

from noria.cli.context import Home, pass_home
from noria.cli.exported import find_export, public_keys
from noria.delivery import standalone
from noria.delivery.standalone import Lay
from noria.kernel.errors import UsageError
from noria.releases.store import ReleaseStore


def find_release(name: str, keys: tuple[Path, ...], as_json: bool) -> Lay:
    """Raises NotFoundError, and UsageError where keys are named for a release of this project."""
    path = find_export(name) or (Path(name) if "/" in name else None)
    if path is not None:
        return standalone.from_file(path, public_keys(*keys), teller(as_json))
    refuse_keys(keys)
    return _from_store(name)


def refuse_keys(keys: tuple[Path, ...]) -> None:
    if keys:
        raise UsageError("--key is for an exported FILE: a release of this project is verified with its own key")


def teller(as_json: bool) -> Callable[[str], None]:
    """Where a command says what it does: nowhere, beside a document."""
    return (lambda _: None) if as_json else (lambda text: click.echo(text, err=True))


@pass_home
def _from_store(home: Home, version: str) -> Lay:
    with closing(home.existing_ledger()) as ledger:
        return standalone.from_store(home.state, ReleaseStore(ledger, home.project_name()).get(version))
