"""Desired routes: the row with the highest revision is what an environment shall serve."""

from __future__ import annotations

import builtins
import itertools

from msgspec.structs import replace

from noria.kernel.errors import StoreError
from noria.serving.route import Route
from noria.storage.bound_store import BoundStore
from noria.storage.ledger import Ledger
from noria.storage.rows import StructTable

NEWEST = "revision = (SELECT max(revision) FROM routes n WHERE n.project = routes.project AND n.environment = routes.environment)"


class RouteStore(BoundStore):
    def __init__(self, ledger: Ledger, project: str) -> None:
        super().__init__(ledger, project)
        self._table = StructTable(ledger.database, "routes", Route)

    def get(self, environment: str) -> Route | None:
        return self._table.one(f"project = ? AND environment = ? AND {NEWEST}", self.project, environment)

    def put(self, route: Route, expected_revision: int | None = None) -> Route:
        """The next revision. Raises StoreError when somebody changed the route after ``expected_revision``."""
        with self._database.transaction():
            now = self.get(route.environment)
            revision = now.revision if now else 0
            if expected_revision is not None and expected_revision != revision:
                raise StoreError(
                    f"the route of {route.environment} changed meanwhile: revision {revision}, not {expected_revision}"
                )
            made = replace(route, revision=revision + 1)
            self._table.insert(made)
        return made

    def all(self) -> builtins.list[Route]:
        """The newest route of each environment."""
        return self._table.many(f"project = ? AND {NEWEST} ORDER BY environment", self.project)

    def champions(self, environment: str) -> builtins.list[str]:
        """Versions that served, newest first, each once for every time that it got its place."""
        rows = self._database.rows(
            "SELECT champion_version AS version FROM routes WHERE project = ? AND environment = ? ORDER BY revision DESC",
            (self.project, environment),
        )
        return [version for version, _ in itertools.groupby(str(row["version"]) for row in rows)]

    def history(self, environment: str, limit: int = 50) -> builtins.list[Route]:
        """Newest first."""
        return self._table.many(
            "project = ? AND environment = ? ORDER BY revision DESC LIMIT ?", self.project, environment, limit
        )


def all_routes(ledger: Ledger) -> list[Route]:
    """The newest route of each environment of every project."""
    return StructTable(ledger.database, "routes", Route).many(f"{NEWEST} ORDER BY project, environment")
