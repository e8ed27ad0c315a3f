"""Who may ask the model server, under which names, and how often."""

from __future__ import annotations

import msgspec

KEPT_OPEN = frozenset({"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/ping", "/metrics"})

HOST, PORT = "127.0.0.1", 8000  # where the model server listens, unless told otherwise
MAX_BODY_BYTES, MAX_ROWS = 1 << 20, 1000  # of one request, unless told otherwise


class RateLimit(msgspec.Struct, frozen=True):
    """So many requests in so much time, and as many at once after a pause."""

    most: int
    per_s: float


class Access(msgspec.Struct, frozen=True):
    """What guards the server's door. The default is a server on loopback: no keys, no limit, nothing written down."""

    keys_file: str | None = None  # one key a line; absolute
    hosts: tuple[str, ...] = ()  # names that the Host header may say, besides the address itself
    rate: RateLimit | None = None  # of each key, or of each peer's address where there are no keys
    log: bool = False  # one line for each request in access.log


UNGUARDED = Access()


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine only, and whoever comes from it is on this machine."""
    return host in ("localhost", "::1") or host.startswith(("127.", "::ffff:127."))
