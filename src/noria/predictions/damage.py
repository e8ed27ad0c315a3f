"""What of the logs could not be read is told once, whoever comes upon it first."""

from __future__ import annotations

from collections.abc import Mapping

from noria.predictions.records import Damage
from noria.storage.context import StoreContext

TOLD = 1000  # events about damage that are looked through


def tell_damage(
    context: StoreContext, environment: str, damage: Mapping[str, Damage], told: list[str], *, shadow: bool = False
) -> None:
    """Each damaged segment once; ``told``: those that need not be looked for again. ``shadow``: of the shadow log."""
    fresh = {name: found for name, found in damage.items() if _mark(name, shadow) not in told}
    if not fresh:
        return
    known = {event.subject for event in context.ledger.events.newest(context.name, TOLD, kind="log.damaged")}
    log = "shadow log" if shadow else "prediction log"
    for name, found in fresh.items():
        subject = f"{environment}/{_mark(name, shadow)}"
        if subject not in known:
            text = f"{environment}'s {log}: {found.words} in a segment cannot be read; what stood there counts nowhere"
            context.event("log.damaged", subject, text, places=found.places, size_bytes=found.size_bytes)
        told.append(_mark(name, shadow))


def _mark(name: str, shadow: bool) -> str:
    return f"shadow/{name}" if shadow else name
