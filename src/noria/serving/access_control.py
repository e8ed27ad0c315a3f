"""Access to the model server: Host and Origin, API keys, rates. A caller is known by the name of its key, never by the key."""

from __future__ import annotations

from pathlib import Path

from noria.kernel.access import KEPT_OPEN, Access, is_loopback
from noria.kernel.errors import ForbiddenError, NoKeyError, TooOftenError
from noria.serving.api_keys import ApiKeys
from noria.serving.http import LOOPBACK, Headers
from noria.serving.rate_limits import RateLimits

Peer = tuple[str, int] | None
WORDS = {"predict": "predict", "feedback": "send feedback"}


class AccessControl:
    """``guarded`` is False where nobody needs a key and nobody is counted: then ``authorise`` need not be called."""

    def __init__(self, access: Access, host: str, rates: RateLimits | None = None) -> None:
        self.hosts = allowed_hosts(access, host)
        self._keys = ApiKeys(Path(access.keys_file)) if access.keys_file is not None else None
        self._rates = rates
        self.guarded = self._keys is not None or rates is not None
        self.asks = (self._keys is not None, rates is not None)  # whether it asks for a key, and counts requests

    def authorise(self, headers: Headers, path: str, peer: Peer) -> str:
        """Returns the name of the caller's key, empty when there are no keys. Raises NoKeyError, TooOftenError."""
        if path in KEPT_OPEN and peer is not None and is_loopback(peer[0]):
            return ""
        name = self.authenticate(headers, scope_of(path))
        self.count(name or (peer[0] if peer else ""))
        return name

    def authenticate(self, headers: Headers, scope: str = "predict") -> str:
        """The name of the caller's key, empty where there are no keys. Raises NoKeyError, and ForbiddenError for a key that is
        for something else; an empty ``scope`` is what every key may."""
        if self._keys is None:
            return ""
        key = key_of(headers)
        if key is None:
            hint = "Send it as `Authorization: Bearer KEY` or as `X-API-Key: KEY`."
            raise NoKeyError("this server asks for an API key, and the request carries none", hint=hint)
        known = self._keys.known(key)
        if known is None:
            raise NoKeyError("the API key is not one of this server's", hint="Ask the server's operator for a key.")
        if scope and scope not in known.scopes:
            text = f"the key {known.name!r} is for {' and '.join(sorted(known.scopes))} only"
            raise ForbiddenError(text, hint=f"Ask the server's operator for a key that may {WORDS[scope]}.")
        return known.name

    def count(self, caller: str) -> None:
        """Counts a request of a caller. Raises TooOftenError."""
        wait_s = self._rates.wait_s(caller) if self._rates is not None else 0.0
        if wait_s > 0:
            whose = "this key" if self._keys is not None else "this address"
            raise TooOftenError(f"{whose} exceeds its rate limit", wait_s=wait_s, hint=f"Try again in {wait_s:.3g} s.")


def scope_of(path: str) -> str:
    """The scope that a path requires; empty when every key may ask."""
    last = path.rpartition("/")[2]
    return "feedback" if last == "feedback" else "predict" if last in ("predict", "infer") else ""


def allowed_hosts(access: Access, host: str) -> frozenset[bytes] | None:
    """The allowed values of the Host header; None: any, on a public address without host names, which requires keys."""
    if not access.hosts and not is_loopback(host):
        return None
    return LOOPBACK | {name.lower().encode() for name in (host, *access.hosts)}


def key_of(headers: Headers) -> bytes | None:
    """The key that a request carries. X-API-Key comes first, because a proxy may use Authorization itself."""
    bearer = None
    for name, value in headers:
        if name == b"x-api-key":
            return value.strip()
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            bearer = value[7:].strip()
    return bearer
