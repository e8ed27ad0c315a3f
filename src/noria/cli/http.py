"""One JSON request to the model server, with the standard library."""

from __future__ import annotations

import http.client
import json
import os
from typing import Any
from urllib.parse import urlsplit

from noria.cli.context import Home
from noria.kernel.errors import NotFoundError, RequestError, ServingError, UsageError

TIMEOUT_S = 30.0


def address(home: Home, environment: str | None) -> tuple[str, str]:
    """The environment's name and its address; of several the last in noria.yaml, where production is, when none is named.

    Raises ServingError, NotFoundError.
    """
    addresses = home.server().addresses()
    if not addresses:
        raise ServingError("no model server runs here", where=str(home.state), hint="`noria up` starts it.")
    if environment is None:
        environment = next(iter(addresses)) if len(addresses) == 1 else home.environment(None)
    if environment not in addresses:
        raise NotFoundError(f"there is no environment {environment!r}", hint=f"Running: {', '.join(addresses)}.")
    return environment, addresses[environment]


def post(base: str, path: str, body: object) -> Any:
    """The decoded answer. Raises RequestError with the server's own words on a 4xx, ServingError when it cannot answer."""
    parts = urlsplit(base)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", path, json.dumps(body), _headers())
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServingError(
            f"the model server at {base} does not answer: {error}", hint="`noria doctor` may find the cause."
        ) from error
    finally:
        connection.close()
    if answer.status >= 400:
        _refuse(answer.status, content)
    return json.loads(content) if content else {}


def _headers() -> dict[str, str]:
    """With the API key that NORIA_API_KEY holds, for a server that asks for one. Raises UsageError, which does not show it."""
    key = os.environ.get("NORIA_API_KEY")
    if key and (not key.isascii() or not key.isprintable() or " " in key):
        wrong = next(place for place, sign in enumerate(key, 1) if not "!" <= sign <= "~")
        text = f"NORIA_API_KEY must be printable ASCII without spaces, got another character at place {wrong} of {len(key)}"
        raise UsageError(text)
    return {"content-type": "application/json"} | ({"x-api-key": key} if key else {})


def _refuse(status: int, content: bytes) -> None:
    message, hint = _words(content)
    kind = RequestError if status < 500 else ServingError
    raise kind(message or f"the server answered {status}", where=f"HTTP {status}", hint=hint)


def _words(content: bytes) -> tuple[str, str | None]:
    """What the server said, whichever of its two shapes the error has."""
    try:
        said = json.loads(content)
    except ValueError:
        return content.decode(errors="replace")[:500], None
    error = said.get("error", said) if isinstance(said, dict) else said
    if isinstance(error, dict):
        return str(error.get("message") or error.get("error") or error), error.get("hint")
    return str(error), None
