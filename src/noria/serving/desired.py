"""What the ledger wants: the newest route of an environment, read and never written."""

from __future__ import annotations

from pathlib import Path

from noria.domain.rollout import Route
from noria.store.ledger import Ledger


class Desired:
    """The ledger, opened on first use: a server may be up before the first turn made one."""

    def __init__(self, state: Path) -> None:
        self._path = state / "ledger.db"
        self._ledger: Ledger | None = None

    def routes(self, environments: list[str]) -> dict[str, Route]:
        """Environment -> its newest route. Raises StoreError."""
        if self._ledger is None:
            if not self._path.exists():
                return {}
            self._ledger = Ledger.open(self._path.parent)
        newest: dict[str, Route] = {}
        for route in self._ledger.routes.all():
            held = newest.get(route.environment)
            if route.environment in environments and (held is None or route.revision > held.revision):
                newest[route.environment] = route
        return newest
