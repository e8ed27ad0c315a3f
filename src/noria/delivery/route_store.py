"""Desired routes: the row with the highest revision is what an environment shall serve."""

from __future__ import annotations

import builtins
import itertools

from msgspec.structs import replace

from noria.kernel.errors import StoreError
from noria.serving.rollout_records import Route
from noria.storage.connection import Database
from noria.storage.rows import StructTable

NEWEST = "revision = (SELECT max(revision) FROM routes n WHERE n.project = routes.project AND n.environment = routes.environment)"


class RouteStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._table = StructTable(database, "routes", Route)

    def get(self, project: str, environment: str) -> Route | None:
        return self._table.one(f"project = ? AND environment = ? AND {NEWEST}", project, environment)

    def put(self, route: Route, expected_revision: int | None = None) -> Route:
        """The next revision. Raises StoreError when somebody changed the route after ``expected_revision``."""
        with self._database.transaction():
            now = self.get(route.project, route.environment)
            revision = now.revision if now else 0
            if expected_revision is not None and expected_revision != revision:
                raise StoreError(
                    f"the route of {route.environment} changed meanwhile: revision {revision}, not {expected_revision}"
                )
            made = replace(route, revision=revision + 1)
            self._table.insert(made)
        return made

    def all(self) -> builtins.list[Route]:
        """The newest route of every environment of every project."""
        return self._table.many(f"{NEWEST} ORDER BY project, environment")

    def champions(self, project: str, environment: str) -> builtins.list[str]:
        """Versions that served, newest first, each once for every time that it got its place."""
        rows = self._database.rows(
            "SELECT champion_version AS version FROM routes WHERE project = ? AND environment = ? ORDER BY revision DESC",
            (project, environment),
        )
        return [version for version, _ in itertools.groupby(str(row["version"]) for row in rows)]

    def history(self, project: str, environment: str, limit: int = 50) -> builtins.list[Route]:
        """Newest first."""
        return self._table.many("project = ? AND environment = ? ORDER BY revision DESC LIMIT ?", project, environment, limit)
