"""What the control API can do; the daemon supplies it."""

from __future__ import annotations

from typing import Any, Protocol


class Actions(Protocol):
    """Each returns facts that the API hands out as JSON, and raises a NoriaError when it is refused.

    ``actor`` goes to the audit log.
    """

    def rollback(self, environment: str | None, to: str | None, actor: str) -> dict[str, Any]:
        """Put an earlier release back in ``environment``: the one before, or ``to`` (v11).

        None is the last environment, where production is; so it is below.
        """

    def promote(self, release: str, environment: str | None, force: bool, actor: str) -> dict[str, Any]:
        """Let ``release`` (v12) serve ``environment``; in a freeze only where ``force`` is set."""

    def approve(self, release: str, environment: str | None, actor: str) -> dict[str, Any]:
        """One more yes to ``release``; all calls by one actor count once."""

    def hold(self, environment: str | None, why: str, actor: str) -> dict[str, Any]:
        """Keep the rollout under way where it is."""

    def resume(self, environment: str | None, actor: str) -> dict[str, Any]:
        """Let a held rollout go on."""

    def abort(self, environment: str | None, why: str, actor: str) -> dict[str, Any]:
        """End the rollout under way, and bar its release."""

    def trigger(self, reason: str, actor: str) -> dict[str, Any]:
        """Ask for a turn."""

    def set_clock(self, at: str, speed: float, actor: str) -> dict[str, Any]:
        """Set the project clock: ``at`` in ISO 8601 (UTC without an offset), ``speed`` in project seconds a wall second."""
