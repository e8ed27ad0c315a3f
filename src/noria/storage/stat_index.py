"""The stat index: what a file's outside looked like when its content was last hashed, so that nothing is hashed twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from noria.storage.bound_store import BoundStore


class StatEntry(msgspec.Struct, frozen=True):
    """``seen`` changes whenever the content may have: size, times and inode of a local file, the version of a remote object."""

    seen: str
    digest: str


class StatIndex(BoundStore):
    """Marks by place: a dataset of the project (``data:NAME``), or a tree that steps work in (``tree:PATH``)."""

    def all(self, place: str) -> dict[str, StatEntry]:
        """Every mark of a place, by the file's name in it."""
        rows = self._database.each("SELECT name, seen, digest FROM marks WHERE project = ? AND place = ?", (self.project, place))
        return {name: StatEntry(seen, digest) for name, seen, digest in rows}

    def get(self, place: str, name: str) -> StatEntry | None:
        """The mark of one file."""
        sql = "SELECT seen, digest FROM marks WHERE project = ? AND place = ? AND name = ?"
        row = self._database.row(sql, (self.project, place, name))
        return None if row is None else StatEntry(*row)

    def each(self, place: str) -> Iterator[tuple[str, str, str]]:
        """Name, mark and digest of every file of a place in the order of names, one at a time."""
        sql = "SELECT name, seen, digest FROM marks WHERE project = ? AND place = ? ORDER BY name"
        yield from (tuple(row) for row in self._database.each(sql, (self.project, place)))

    def put(self, place: str, marks: Mapping[str, StatEntry]) -> None:
        """Write marks, or write them anew, in one transaction."""
        values = [(self.project, place, name, mark.seen, mark.digest) for name, mark in marks.items()]
        self._database.execute_many(
            "INSERT INTO marks (project, place, name, seen, digest) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (project, place, name) DO UPDATE SET seen = excluded.seen, digest = excluded.digest",
            values,
        )

    def drop(self, place: str, names: Iterable[str]) -> None:
        """Forget files that are gone."""
        values = [(self.project, place, name) for name in names]
        self._database.execute_many("DELETE FROM marks WHERE project = ? AND place = ? AND name = ?", values)
