"""What the control API can do; the daemon supplies it."""

from __future__ import annotations

from typing import Any, Protocol


class Actions(Protocol):
    """Each returns facts that the API hands out as JSON, and raises a NoriaError when it is refused.

    ``actor`` goes to the audit log.
    """

    def rollback(self, environment: str | None, actor: str) -> dict[str, Any]:
        """Put the previous release back in ``environment``; None is the last one, where production is."""

    def promote(self, release: str, environment: str | None, actor: str) -> dict[str, Any]:
        """Let ``release`` (v12) serve ``environment``; None is the last one."""

    def trigger(self, reason: str, actor: str) -> dict[str, Any]:
        """Ask for a turn."""

    def set_clock(self, at: str, speed: float, actor: str) -> dict[str, Any]:
        """Set the project clock: ``at`` in ISO 8601 (UTC without an offset), ``speed`` in project seconds a wall second."""
