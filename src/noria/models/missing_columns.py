"""Columns that a model names and a table does not have."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


def missing_columns(named: Iterable[str | None], columns: Collection[str]) -> str:
    """``no column 'fals' (did you mean 'fails'?) and no column 'day'``; empty where all are there."""
    missing = [name for name in dict.fromkeys(filter(None, named)) if name not in columns]
    return " and ".join(f"no column {_nearest(name, columns)}" for name in missing)


def _nearest(name: str, columns: Collection[str]) -> str:
    near = difflib.get_close_matches(name, columns, n=1)
    return f"{name!r} (did you mean {near[0]!r}?)" if near else f"{name!r}"
