"""Rehearses serving a release: builds once what serving needs beside the model, before a route names the release."""

from __future__ import annotations

import msgspec

from noria.kernel.errors import NoriaError, ServingError
from noria.serving import openapi, protocol, v2_messages
from noria.serving.route import Route
from noria.serving.router import RouteTable, describe, table_of
from noria.serving.runtime import LoadedRelease


def rehearse(release: LoadedRelease, max_rows: int) -> None:
    """Make the release's readers and descriptions, and read its example. Raises ServingError with what does not go."""
    try:
        table = table_of(Route(release.project, "rehearsal", 0, release.digest, "v0"), {release.digest: release}, max_rows)
        _read_example(table, release, max_rows)
        msgspec.json.encode((describe(table), openapi.document(release.signature, release.single)))
        msgspec.json.encode(v2_messages.metadata(release.project, ["v0"], release.signature, release.platform))
    except Exception as error:  # whatever breaks here would break in each worker that is to serve it
        why = error.message if isinstance(error, NoriaError) else f"{type(error).__name__}: {error}"
        raise ServingError(f"requests to it cannot be read: {why}") from error


def _read_example(table: RouteTable, release: LoadedRelease, max_rows: int) -> None:
    """By the careful reader, and by the fast one where there is one: both must find the same."""
    body = msgspec.json.encode(protocol.example(release.signature))
    ask = protocol.read(protocol.parse(body), release.signature, table.also, max_rows)
    quick = table.reader.read(body) if table.reader is not None else None
    if quick is not None and quick.columns != ask.columns:
        raise ServingError("its two readers do not agree on its example")
