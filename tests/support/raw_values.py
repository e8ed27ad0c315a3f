"""Where a value stands in a state folder that should not be there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import polars as pl


def leaks(state: Path, secrets: Iterable[str]) -> list[str]:
    """The values that stand anywhere in the folder: as they are, or in a table there."""
    found, sought = list[str](), list(secrets)
    for path in (one for one in state.rglob("*") if one.is_file()):
        content = path.read_bytes()
        if content.startswith(b"PAR1"):
            content += str(pl.read_parquet(content).to_dicts()).encode()
        if path.name == "small.db":
            with sqlite3.connect(path) as packed:
                content += "\n".join(packed.iterdump()).encode()
        found += [f"{secret} in {path.name}" for secret in sought if secret.encode() in content]
    return found
