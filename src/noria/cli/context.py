"""Where a command works: the project's home, its state folder, and what they hold."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import click
import msgspec

from noria.kernel.errors import NoriaError, NotFoundError, StoreError, UsageError
from noria.releases import signing
from noria.storage import disk

if TYPE_CHECKING:
    from noria.config import Project
    from noria.serving.client import Server
    from noria.storage.ledger import Ledger

P = ParamSpec("P")
R = TypeVar("R")
PROJECT_FILE = "noria.yaml"
PROJECT_LINE = re.compile(r"""^project:[ \t]*["']?([a-z][a-z0-9_-]{0,62})["']?[ \t]*(?:#.*)?$""", re.MULTILINE)


class Home(msgspec.Struct, frozen=True):
    """A folder with a noria.yaml."""

    path: Path

    @classmethod
    def find(cls, start: Path) -> Home:
        """Finds the nearest folder at or above ``start`` that holds a noria.yaml; raises UsageError."""
        here = start.resolve()
        for folder in (here, *here.parents):
            if (folder / PROJECT_FILE).is_file():
                found = cls(folder)
                demand_text(found.path)
                demand_text(found.state)
                disk.fix_state_folder(folder)
                return found
        raise UsageError(
            f"there is no {PROJECT_FILE} in {here} or above it",
            hint="`noria init` writes a small working project; `noria -C DIR ...` works in another folder. "
            "To import a model that is trained already, one line in it is enough: `project: NAME`.",
        )

    @property
    def state(self) -> Path:
        """Where everything is kept: NORIA_HOME, or .noria in the project's home."""
        return disk.state_folder(self.path)

    @property
    def ledger_file(self) -> Path:
        return self.state / "ledger.db"

    def project(self) -> Project:
        """noria.yaml, checked; raises ConfigError."""
        from noria import config  # heavier than `noria status` needs

        return config.load(self.path)

    def gated(self) -> tuple[str, ...]:
        """The metrics that gates require, in their order; none while the project file cannot be read."""
        try:
            return tuple(gate.metric for gate in self.project().gates)
        except NoriaError:
            return ()

    def environment(self, named: str | None) -> str:
        """The environment's name; the last one of noria.yaml, where production is, when none is named. Raises NotFoundError."""
        known = list(self.project().environments)
        if named is not None and named not in known:
            raise NotFoundError(f"there is no environment {named!r}", hint=f"noria.yaml has: {', '.join(known)}.")
        return named or known[-1]

    def project_name(self) -> str:
        """The project's name, read cheaply; the whole file is checked only where that line cannot be found."""
        found = PROJECT_LINE.search((self.path / PROJECT_FILE).read_text(encoding="utf-8", errors="replace"))
        return found.group(1) if found else self.project().name

    def ledger(self) -> Ledger:
        """The ledger, made when it is not there yet."""
        from noria.storage.ledger import Ledger  # SQLite is loaded by the commands that need it

        found = Ledger.open(self.state)
        found.head.keep(functools.partial(signing.sign, self.state))
        return found

    def existing_ledger(self) -> Ledger:
        """Opens the ledger of a project that had a turn; raises NotFoundError, or StoreError when the ledger is gone."""
        if not self.ledger_file.is_file():
            if (self.state / "audit.head").exists():
                hint = "Restore ledger.db from a backup."
                raise StoreError("the ledger is missing, and its events were signed", where=str(self.ledger_file), hint=hint)
            raise NotFoundError("no turn has run here yet", where=str(self.state), hint="`noria run` runs a first turn.")
        return self.ledger()

    @contextmanager
    def ledger_to_read(self) -> Iterator[Ledger]:
        """Opens the ledger of a project that had a turn and closes it afterwards; its folder may be read-only."""
        with closing(self.existing_ledger()) as found:
            yield found

    def server(self) -> Server:
        from noria.serving.client import Server  # only where a server is asked

        return Server(self.state)

    def token(self) -> str | None:
        """The control API's token, or None before the first `noria up`."""
        try:
            return (self.state / "token").read_text().strip() or None
        except FileNotFoundError:
            return None


def demand_text(path: Path) -> None:
    """Raises UsageError for a path that is not UTF-8, which ledger, bundles and JSON cannot hold."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"the name of this folder is not UTF-8: {os.fsencode(path)!r}", hint="Rename it, or work in another one."
        ) from None


def pass_home(command: Callable[Concatenate[Home, P], R]) -> Callable[P, R]:
    """Passes a command its Home as the first argument; ``-C`` says where the search begins."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        start = click.get_current_context().find_root().obj or Path(".")
        return command(Home.find(start), *args, **kwargs)

    return wrapper


def actor() -> str:
    """The actor for the audit log: ``cli:anna``, after the account of this process, which no environment variable changes.

    A command that a step runs acts as ``step:anna``.
    """
    import pwd

    from noria.kernel import orphans  # only what writes needs it

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a number
        name = str(os.getuid())
    return f"{'step' if orphans.inside() else 'cli'}:{name}"
