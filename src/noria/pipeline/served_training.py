"""How the model that serves was trained: what the delivery tells an experiment, which is measured beside it."""

from __future__ import annotations

from typing import Any

import msgspec


class ServedTraining(msgspec.Struct, frozen=True):
    """How the model that serves was trained, as far as it is recorded."""

    release: str
    commit: str | None = None  # None: it was imported
    params: dict[str, Any] = {}
    inputs: tuple[str, ...] = ()
    note: str = ""  # why params and inputs are not known
