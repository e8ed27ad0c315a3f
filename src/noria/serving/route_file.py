"""The desired routes of a model server that has no ledger: a file of its state folder."""

from __future__ import annotations

from pathlib import Path

import msgspec

from noria.kernel.errors import StoreError
from noria.serving.route import Route
from noria.storage.disk import write_whole

ROUTES = "routes.json"


def read_routes(file: Path) -> list[Route] | None:
    """The routes in a file; None when there is no such file. Raises StoreError when it cannot be read."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Route])
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise StoreError(f"the routes cannot be read: {error}", where=str(file)) from error


def write_routes(file: Path, routes: list[Route]) -> None:
    """Whole or not at all. Raises StoreError."""
    write_whole(file, msgspec.json.format(msgspec.json.encode(routes), indent=1))
