"""What parent and worker agree on, without the worker's heavy imports."""

from __future__ import annotations

import msgspec

from noria.kernel.access import UNGUARDED, Access
from noria.kernel.policy import RECORD_ALL, LogPolicy

LINE_LIMIT = 1024 * 1024  # bytes of one message on the channel


class Start(msgspec.Struct, frozen=True):
    """What the parent passes on the command line."""

    state: str
    environment: str
    host: str
    slot: int
    listen_fd: int
    channel_fd: int
    max_body_bytes: int
    max_rows: int
    access: Access = UNGUARDED
    recording: LogPolicy = RECORD_ALL
