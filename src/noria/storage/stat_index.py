"""The stat index: what a file's outside looked like when its content was last hashed, so that nothing is hashed twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from noria.storage.connection import Database


class StatEntry(msgspec.Struct, frozen=True):
    """``seen`` changes whenever the content may have: size, times and inode of a local file, the version of a remote object."""

    seen: str
    digest: str


class StatIndex:
    """Marks by place: a dataset of a project (``data:NAME``), or a tree that steps work in (``tree:PATH``)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self, project: str, place: str) -> dict[str, StatEntry]:
        """Every mark of a place, by the file's name in it."""
        rows = self._database.each("SELECT name, seen, digest FROM marks WHERE project = ? AND place = ?", (project, place))
        return {name: StatEntry(seen, digest) for name, seen, digest in rows}

    def each(self, project: str, place: str) -> Iterator[tuple[str, str, str]]:
        """Name, mark and digest of every file of a place in the order of names, one at a time."""
        sql = "SELECT name, seen, digest FROM marks WHERE project = ? AND place = ? ORDER BY name"
        yield from (tuple(row) for row in self._database.each(sql, (project, place)))

    def put(self, project: str, place: str, marks: Mapping[str, StatEntry]) -> None:
        """Write marks, or write them anew, in one transaction."""
        values = [(project, place, name, mark.seen, mark.digest) for name, mark in marks.items()]
        self._database.execute_many(
            "INSERT INTO marks (project, place, name, seen, digest) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (project, place, name) DO UPDATE SET seen = excluded.seen, digest = excluded.digest",
            values,
        )

    def drop(self, project: str, place: str, names: Iterable[str]) -> None:
        """Forget files that are gone."""
        values = [(project, place, name) for name in names]
        self._database.execute_many("DELETE FROM marks WHERE project = ? AND place = ? AND name = ?", values)
