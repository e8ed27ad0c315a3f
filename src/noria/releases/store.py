"""Releases: versions are given here, one after another, and never again."""

from __future__ import annotations

import builtins
import difflib
import re
import time
from collections.abc import Mapping

from noria.kernel import names
from noria.kernel.errors import AmbiguousError, NotFoundError
from noria.releases.release import Release, ServedForm
from noria.storage.connection import Database
from noria.storage.rows import StructTable

PREFIX = re.compile(r"[0-9a-f]{6,64}")  # of a digest


class ReleaseStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._table = StructTable(database, "releases", Release)

    def seal(
        self,
        project: str,
        digest: str,
        run_id: str,
        turn_id: str | None,
        form: ServedForm,
        commit: str | None,
        metrics: Mapping[str, float],
        pins_identity: str,
    ) -> Release:
        """Give the bundle the next version. A turn that is told again, or an equal bundle, gets the version it had."""
        with self._database.transaction():
            known = self._of_turn(project, turn_id) or self._table.one("project = ? AND digest = ?", project, digest)
            if known is not None:
                return known
            row = self._database.row("SELECT max(number) AS number FROM releases WHERE project = ?", (project,))
            number = int((row["number"] if row else 0) or 0) + 1
            made = Release(names.version_name(number), digest, project, run_id, turn_id, form, time.time(), commit, dict(metrics))
            self._table.insert(made, number=number, pins_identity=pins_identity)
        return made

    def _of_turn(self, project: str, turn_id: str | None) -> Release | None:
        return None if turn_id is None else self._table.one("project = ? AND turn_id = ?", project, turn_id)

    def get(self, project: str, reference: str) -> Release:
        """By version (v3) or by the first six or more digits of its digest. Raises NotFoundError."""
        found = self._matching(project, reference)
        if len(found) > 1:
            versions = ", ".join(r.version for r in found)
            raise AmbiguousError(f"{reference} may be any of {versions}", hint="Give more digits, or the version.")
        if not found:
            near = difflib.get_close_matches(reference, [r.version for r in self.list(project)], n=3, cutoff=0.3)
            hint = f"Nearest: {', '.join(near)}." if near else "`noria releases` lists them."
            raise NotFoundError(f"there is no release {reference}", hint=hint)
        return found[0]

    def _matching(self, project: str, reference: str) -> builtins.list[Release]:
        if names.VERSION.fullmatch(reference):
            return self._table.many("project = ? AND version = ?", project, reference)
        if PREFIX.fullmatch(reference):
            return self._table.many("project = ? AND digest LIKE ? ORDER BY number", project, f"{reference}%")
        return []

    def list(self, project: str) -> builtins.list[Release]:
        """Newest first."""
        return self._table.many("project = ? ORDER BY number DESC", project)

    def bar(self, project: str, version: str, reason: str) -> None:
        """Keep a release, and turns with its pins, out until a person lifts the bar. Raises NotFoundError."""
        self._set_bar(project, version, reason)

    def unbar(self, project: str, version: str) -> None:
        """Lift the bar. Raises NotFoundError."""
        self._set_bar(project, version, None)

    def _set_bar(self, project: str, version: str, reason: str | None) -> None:
        sql = "UPDATE releases SET barred = ? WHERE project = ? AND version = ?"
        if not self._database.execute(sql, (reason, project, version)):
            raise NotFoundError(f"there is no release {version}", hint="`noria releases` lists them.")

    def barred_pins(self, project: str) -> dict[str, tuple[str, str]]:
        """Identity of the pins of each barred release -> its version and the reason."""
        rows = self._database.rows(
            "SELECT pins_identity, version, barred FROM releases WHERE project = ? AND barred IS NOT NULL", (project,)
        )
        return {r["pins_identity"]: (r["version"], r["barred"]) for r in rows}
