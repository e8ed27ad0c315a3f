"""Releases: versions are given here, one after another, and never again."""

from __future__ import annotations

import builtins
import difflib
import re
import time
from collections.abc import Mapping

from noria.kernel import names
from noria.kernel.errors import AmbiguousError, NotFoundError
from noria.kernel.pins import Pins
from noria.releases.release import Release, ServedForm
from noria.storage.bound_store import BoundStore
from noria.storage.ledger import Ledger
from noria.storage.rows import StructTable, parse_json

PREFIX = re.compile(r"[0-9a-f]{6,64}")  # of a digest


class ReleaseStore(BoundStore):
    def __init__(self, ledger: Ledger, project: str) -> None:
        super().__init__(ledger, project)
        self._table = StructTable(ledger.database, "releases", Release)

    def seal(
        self,
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
            known = self.of_turn(turn_id) if turn_id is not None else None
            known = known or self._table.one("project = ? AND digest = ?", self.project, digest)
            if known is not None:
                return known
            row = self._database.row("SELECT max(number) AS number FROM releases WHERE project = ?", (self.project,))
            number = int((row["number"] if row else 0) or 0) + 1
            made = Release(
                names.version_name(number), digest, self.project, run_id, turn_id, form, time.time(), commit, dict(metrics)
            )
            self._table.insert(made, number=number, pins_identity=pins_identity)
        return made

    def of_turn(self, turn_id: str) -> Release | None:
        """The release that a turn sealed; None where it sealed none."""
        return self._table.one("project = ? AND turn_id = ?", self.project, turn_id)

    def get(self, reference: str) -> Release:
        """By version (v3) or by the first six or more digits of its digest. Raises NotFoundError."""
        found = self._matching(reference)
        if len(found) > 1:
            versions = ", ".join(r.version for r in found)
            raise AmbiguousError(f"{reference} may be any of {versions}", hint="Give more digits, or the version.")
        if not found:
            near = difflib.get_close_matches(reference, [r.version for r in self.list()], n=3, cutoff=0.3)
            hint = f"Nearest: {', '.join(near)}." if near else "`noria releases` lists them."
            raise NotFoundError(f"there is no release {reference}", hint=hint)
        return found[0]

    def _matching(self, reference: str) -> builtins.list[Release]:
        if names.VERSION.fullmatch(reference):
            return self._table.many("project = ? AND version = ?", self.project, reference)
        if PREFIX.fullmatch(reference):
            return self._table.many("project = ? AND digest LIKE ? ORDER BY number", self.project, f"{reference}%")
        return []

    def list(self) -> builtins.list[Release]:
        """Newest first."""
        return self._table.many("project = ? ORDER BY number DESC", self.project)

    def bar(self, version: str, reason: str) -> None:
        """Keep a release, and turns with its pins, out until a person lifts the bar. Raises NotFoundError."""
        self._set_bar(version, reason)

    def unbar(self, version: str) -> None:
        """Lift the bar. Raises NotFoundError."""
        self._set_bar(version, None)

    def _set_bar(self, version: str, reason: str | None) -> None:
        sql = "UPDATE releases SET barred = ? WHERE project = ? AND version = ?"
        if not self._database.execute(sql, (reason, self.project, version)):
            raise NotFoundError(f"there is no release {version}", hint="`noria releases` lists them.")

    def barred_pins(self) -> dict[str, tuple[str, str]]:
        """Identity of the pins of each barred release -> its version and the reason."""
        rows = self._database.rows(
            "SELECT pins_identity, version, barred FROM releases WHERE project = ? AND barred IS NOT NULL", (self.project,)
        )
        return {r["pins_identity"]: (r["version"], r["barred"]) for r in rows}

    def snapshots_used(self) -> dict[str, dict[str, str]]:
        """Release -> dataset -> the snapshot that its run used."""
        sql = (
            "SELECT releases.version, runs.pins FROM releases JOIN runs ON runs.id = releases.run_id "
            "WHERE releases.project = ? ORDER BY releases.number"
        )
        return {
            row["version"]: parse_json(row["pins"], kind=Pins, strict=False).snapshots
            for row in self._database.rows(sql, (self.project,))
        }
