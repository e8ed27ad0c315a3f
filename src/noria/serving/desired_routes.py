"""Reads the desired routes: the newest route of each environment. Nothing is written here.

It stands in the ledger of a project; where there is none (`noria serve`), in a file `routes.json` of the state folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from noria.serving.route import Route
from noria.serving.route_file import ROUTES, read_routes
from noria.serving.route_store import all_routes

if TYPE_CHECKING:
    from noria.storage.ledger import Ledger


class DesiredRoutes:
    """The file of routes where there is one, else the ledger, opened on first use: a server may be up before the first turn."""

    def __init__(self, state: Path) -> None:
        self._file = state / ROUTES
        self._path = state / "ledger.db"
        self._ledger: Ledger | None = None

    def routes(self, environments: list[str]) -> dict[tuple[str, str], Route]:
        """Environment and project -> the newest route. Raises StoreError."""
        return {(r.environment, r.project): r for r in self._all() if r.environment in environments}

    @property
    def is_standalone(self) -> bool:
        """Whether the file says what is wanted: no engine changes it."""
        return self._file.exists()

    def _all(self) -> list[Route]:
        if self._ledger is None:
            written = read_routes(self._file)
            if written is not None:
                return written
            if not self._path.exists():
                return []
            from noria.storage.ledger import Ledger  # SQLite: a server without a project does without it

            self._ledger = Ledger.open(self._path.parent)
        return all_routes(self._ledger)
