"""A glob as a machine that goes down a tree: each folder is read once, and only where a file below it can match."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Callable

DEEP = "**"  # any number of folders, none included
States = frozenset[int]  # the parts of the pattern that the names in a folder are held against


class Pattern:
    """The parts of a glob below its fixed beginning. A hidden folder matches only a part that begins with a dot."""

    def __init__(self, parts: tuple[str, ...]) -> None:
        self._parts = parts
        self._last = len(parts) - 1
        self._matches = [re.compile(fnmatch.translate(part)).match for part in parts]
        self.start = self._closed([0])

    def matcher(self, states: States) -> Callable[[str], object] | None:
        """What the names of files, in a folder in these states, are held against; None when none of them can match."""
        if self._last not in states:
            return None
        return _anything if self._parts[self._last] in (DEEP, "*") else self._matches[self._last]

    def enter(self, states: States, name: str) -> States:
        """The states of a folder of this name; none when nothing below it can match."""
        onward = []
        for at in states:
            if self._fits(at, name):
                if self._parts[at] == DEEP:
                    onward.append(at)
                elif at < self._last:
                    onward.append(at + 1)
        return self._closed(onward)

    def _fits(self, at: int, name: str) -> bool:
        part = self._parts[at]
        if name[0] == "." and part[0] != ".":
            return False
        return part == DEEP or self._matches[at](name) is not None

    def _closed(self, states: list[int]) -> States:
        found = set(states)
        for at in states:
            while self._parts[at] == DEEP and at < self._last:
                at += 1
                found.add(at)
        return frozenset(found)


def _anything(_: str) -> bool:
    return True


def split(start: str, path: str) -> tuple[str, tuple[str, ...]]:
    """Where a source below ``start`` begins, and the parts of its path from the first magic one on; none when it is no pattern.

    ``start`` is never part of the pattern, and neither is what is there under that very name: ``sales [2024].csv``.
    """
    parts = [part for part in path.split("/") if part]
    place = "/" if path.startswith("/") else start
    for at, part in enumerate(parts):
        below = os.path.join(place, part)
        if glob.has_magic(part) and not os.path.lexists(below):
            return place, tuple(parts[at:])
        place = below
    return place, ()
